"""How the demo looks: a live table on a terminal, a line per change elsewhere."""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

COLOURS = {"running": "yellow", "succeeded": "green", "failed": "red", "cancelled": "red"}


class Row(NamedTuple):
    """A task as it is at one moment; durations in seconds."""

    task: int
    status: str
    slot: int | None
    runner: str | None
    exec_time: float | None
    waited: float
    since_start: float | None

    @property
    def ended(self) -> bool:
        return self.status in ("succeeded", "failed", "cancelled")

    @property
    def executed(self) -> float | None:
        """Seconds of execution, so far or in all."""
        return self.since_start if self.status == "running" else self.exec_time


class View:
    """Shows rows while in its context. `runners`: their names, and the numbers to show instead."""

    def __init__(self, runners: Mapping[str, int]) -> None:
        self._runners = dict(runners)
        self._console = Console()
        self._live: Live | None = None
        self._began = time.monotonic()
        self._slots: dict[int, int] = {}  # of each task; ended rows no longer say
        self._said: dict[int, str] = {}

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=10)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if row.slot is not None:
                self._slots[row.task] = row.slot
        if self._live:
            self._live.update(self._table(rows))
            return
        for row in rows:
            if self._said.get(row.task) != row.status:
                self._said[row.task] = row.status
                task, status, slot, runner, _, executed = self._cells(row)
                at = f"{time.monotonic() - self._began:5.1f} s  task {task:>3}  {status:<9}"
                place = (f"  slot {slot}" if slot else "") + (f"  runner {runner}" if runner else "")
                took = f"  {executed} s" if row.ended else ""
                print(at + place + took, flush=True)  # noqa: T201  this is what it is for

    def conclude(self, rows: Sequence[Row], most: int, slots: int) -> None:
        """Say how it went; `most`: the most tasks at once that the witness saw."""
        if not self._console.is_terminal:
            self._console.print(self._table(rows))
        succeeded = sum(row.status == "succeeded" for row in rows)
        executed = sum(row.exec_time or 0 for row in rows)
        took = max((row.waited + (row.exec_time or 0) for row in rows), default=0)
        self._console.print(
            f"{succeeded} of {len(rows)} tasks succeeded: {executed:.1f} s of execution in {took:.1f} s.\n"
            f"At most {most} executed at once, says the witness; {slots} were allowed.",
            highlight=False,
        )

    def _table(self, rows: Sequence[Row]) -> Table:
        table = Table("task", "status", "slot", "runner", "waited, s", "executed, s")
        for column in table.columns:
            column.justify = "right"
        table.columns[1].justify = "left"
        for row in rows:
            table.add_row(*self._cells(row), style=COLOURS.get(row.status))
        return table

    def _cells(self, row: Row) -> list[str]:
        runner = str(self._runners.setdefault(row.runner, len(self._runners) + 1)) if row.runner else ""
        executed = f"{row.executed:.1f}" if row.executed is not None else ""
        slot = str(self._slots.get(row.task, ""))
        return [str(row.task), row.status, slot, runner, f"{row.waited:.1f}", executed]
