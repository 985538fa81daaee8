"""How a run looks: a live picture on a terminal, a line per fault elsewhere, and tables at the end."""

import statistics
import time
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from tests.faults.chaos.field import Field
from tests.faults.chaos.record import Breach, Injection, Kill, Record
from tests.faults.chaos.supervised import state
from tests.faults.chaos.verdict import most_at_once

SHOWN = 8
"""Faults shown in the live picture, the latest."""

STATES = {"R": "works", "S": "works", "D": "works", "T": "stopped", "t": "stopped"}


class View:
    """Shows a run while in its context. ``now``: the faults under way, and since when."""

    def __init__(self, console: Console, field: Field, seed: int) -> None:
        self._console = console
        self._field = field
        self._seed = seed
        self._live: Live | None = None
        self.now: Mapping[str, float] = {}
        self.phase = ""

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(
                console=self._console, refresh_per_second=4, get_renderable=self._picture, transient=True, screen=False
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def enter(self, phase: str) -> None:
        """Says which part of the run begins."""
        self.phase = phase
        if not self._live:
            at = time.monotonic() - self._field.record.start
            self._console.print(f"{at:6.1f} s  {phase}", highlight=False)

    def say(self, injection: Injection) -> None:
        if not self._live:
            self._console.print(self._line(injection), markup=False, highlight=False, soft_wrap=True)

    def _line(self, injection: Injection) -> str:
        at = injection.begin - self._field.record.start
        return f"{at:6.1f} s  {injection.name:<18} {injection.effect or '(no effect)'}"

    def _picture(self) -> RenderableType:
        now = time.monotonic()
        field, record = self._field, self._field.record
        current = field.witness.current()
        effects = sum(injection.effect is not None for injection in record.injections)
        figures = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        under_way = ", ".join(f"{name} ({now - since:.1f} s)" for name, since in self.now.items())
        slots = record.slots[-1][1] if record.slots else field.slots
        at_once = f"{len(current)} in {slots} slots, at most {field.witness.most.get('default', 0)} so far"
        figures.add_row("seed", str(self._seed), "tasks accepted", str(len(record.accepted)))
        figures.add_row("phase", self.phase, "executions", str(len(field.witness.executions)))
        figures.add_row("faults", f"{effects} took effect, {len(record.injections) - effects} did not")
        figures.add_row("under way", under_way, "executing", at_once)
        figures.columns[1].min_width = 50
        runners = Table("runner", "supervisor", "process", "executors")
        for one in field.supervised:
            runner = one.runner()
            runners.add_row(
                str(one.number), _how(one.pid), _how(runner or 0), ", ".join(_how(h) for h in one.executors())
            )
        tasks = Table("executing", "lease", "seconds")
        for execution in current:
            tasks.add_row(str(execution.task), str(execution.lease), f"{now - execution.begin:.1f}")
        latest = "\n".join(self._line(injection)[: self._console.width] for injection in record.injections[-SHOWN:])
        broken = [f"[bold red]{breach.what}: {breach.how}" for breach in record.breaches]
        return Group(figures, runners, tasks, latest, *broken)

    def conclude(
        self, record: Record, breaches: list[Breach], chosen: Collection[str], cannot: Mapping[str, str]
    ) -> None:
        """The tables at the end, and whether it held."""
        self._console.print(_faults(record.injections, chosen, cannot))
        self._console.print(_figures(record, breaches))
        if record.kills:
            self._console.print(_kills(record))
        for breach in breaches[:50]:
            self._console.print(f"{breach.what}: {breach.how}", style="red", markup=False, soft_wrap=True)
        if len(breaches) > 50:
            self._console.print(f"… and {len(breaches) - 50} more", style="red")
        self._console.print("[bold red]BROKEN." if breaches else "[bold green]The promise held.")


def _how(pid: int) -> str:
    """A process and what it does."""
    if not pid:
        return "none"
    how = STATES.get(state(pid), "gone")
    return f"{pid} {how}" if how != "stopped" else f"[yellow]{pid} stopped[/]"


def _faults(injections: list[Injection], chosen: Collection[str], cannot: Mapping[str, str]) -> Table:
    table = Table("fault", "times", "took effect", "no effect", title="Faults")
    times, effects = Counter(i.name for i in injections), Counter(i.name for i in injections if i.effect is not None)
    for name in [name for name in chosen if times[name]]:
        table.add_row(name, str(times[name]), str(effects[name]), str(times[name] - effects[name]))
    for name, why in cannot.items():
        table.add_row(name, f"cannot run here: {why}", style="yellow")
    table.add_section()
    table.add_row("all", str(times.total()), str(effects.total()), str(times.total() - effects.total()))
    for column in table.columns[1:]:
        column.justify = "right"
    if left := [name for name in chosen if not times[name]]:
        table.caption = f"Not in this run: {', '.join(left)}"
    return table


WHATS = (
    "more at once than slots",
    "two at once in one slot",
    "one task twice at once",
    "accepted and lost",
    "not all tasks have ended",
    "changed after its outcome was recorded",
    "executed after its end was recorded",
    "ended otherwise than it should",
    "outlived its deadline",
)
"""What must be nought, of which the table also says so when it is."""


def _figures(record: Record, breaches: list[Breach]) -> Table:
    table = Table("", "", show_header=False, title="What happened")
    statuses = Counter(row.status for row in record.rows)
    table.columns[0].no_wrap = True
    table.add_row("tasks accepted", str(len(record.accepted)))
    table.add_row("how they ended", ", ".join(f"{count} {status}" for status, count in statuses.most_common()))
    table.add_row("executions, by the witness", str(len(record.executions)))
    table.add_row("attempts interrupted", ", ".join(f"{n} {error}" for error, n in record.interruptions.items()) or "0")
    table.add_row("supervisors that gave up", str(record.gave_up))
    table.add_row("slots allowed, at most", str(max((number for _, number in record.slots), default=0)))
    table.add_row("most at once, by the witness", str(most_at_once(record.executions)))
    table.add_section()
    counts = Counter(breach.what for breach in breaches)
    for what in dict.fromkeys([*WHATS, *counts]):
        table.add_row(what, str(counts[what]), style="bold red" if counts[what] else None)
    return table


def _kills(record: Record) -> Table:
    """How long it took until what was killed executed again."""
    table = Table("killed", "", "times", "median, s", "p99, s", "max, s", title="From the kill to executing again")
    for what, name in (("runner", "runner, supervisor alive"), ("tree", "whole tree")):
        again = [(kill, begin) for kill in record.kills if kill.what == what and (begin := _again(record, kill))]
        alone = [(kill, begin) for kill, begin in again if _alone(record, kill, begin)]
        for which, some in (("all", again), ("undisturbed", alone)):
            seconds = sorted(begin - kill.at for kill, begin in some)
            figures = ["", "", ""]
            if seconds:
                p99 = seconds[min(len(seconds) - 1, int(len(seconds) * 0.99))]
                figures = [f"{value:.2f}" for value in (statistics.median(seconds), p99, seconds[-1])]
            table.add_row(name if which == "all" else "", which, str(len(seconds)), *figures)
    for column in table.columns[2:]:
        column.justify = "right"
    return table


def _again(record: Record, kill: Kill) -> float | None:
    return min((e.begin for e in record.executions if e.task == kill.task and e.begin > kill.at), default=None)


def _alone(record: Record, kill: Kill, again: float) -> bool:
    others = [i for i in record.injections if not i.begin <= kill.at <= i.end or not i.name.startswith("kill-")]
    return not any(other.begin < again and other.end > kill.at for other in others)
