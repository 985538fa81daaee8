"""`lockgate demo`: tasks go through the slots while you watch, and somebody else counts."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

import click
import psycopg
from rich.console import Console
from rich.live import Live
from rich.table import Table

from lockgate import schema
from lockgate.local.stack import Stack, StackError
from lockgate.options import PREFIX, option
from lockgate.postgres.server import Server, free_port
from lockgate.signals import Signals
from lockgate.witness import Witness

SPARE = 60.0  # seconds on top of what the tasks themselves take at worst
QUERY = """
select id, status::text, slot, runner, exec_time,
  extract(epoch from coalesce(start_time, clock_timestamp()) - create_time)::float8,
  extract(epoch from clock_timestamp() - start_time)::float8
from task where id = any (%s) order by id
"""

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


@click.command()
@option("LOCKGATE_DEMO_TASKS", "--tasks", default=6, type=click.IntRange(1, 1000), help="How many tasks.")
@option("LOCKGATE_DEMO_MIN", "--min", default=0, type=click.IntRange(0, 3600), help="Seconds a task sleeps at least.")
@option("LOCKGATE_DEMO_MAX", "--max", default=10, type=click.IntRange(0, 3600), help="Seconds a task sleeps at most.")
@option("LOCKGATE_SLOTS", "--slots", default=2, type=click.IntRange(1, 100), help="How many may execute at once.")
@option("LOCKGATE_RUNNERS", "--runners", default=3, type=click.IntRange(1, 20), help="How many runner processes.")
def demo(tasks: int, min: int, max: int, slots: int, runners: int) -> None:  # noqa: A002  the options' names
    """Watch tasks go through the slots, on a database that exists only for the demo.

    Each executing handler is connected to a witness, which counts them without asking the queue. The exit code is 0 if
    every task succeeded and the witness never saw more at once than there are slots.
    """
    if min > max:
        raise click.UsageError("--min is greater than --max")
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]  # settings of your own installation, handlers and all, are not for the demo's programs
    with Signals() as signals, Witness() as witness, _folder() as folder:
        try:
            with _stack(folder, runners, witness) as (stack, connection):
                connection.execute("select set_slots('default', %s)", [slots])
                view = View({runner.name: number for number, runner in enumerate(stack.runners, 1)})
                limit = time.monotonic() + tasks * max / slots + SPARE
                numbers = [_submit(stack, min, max) for _ in range(tasks)]
                rows = _watch(connection, stack, numbers, limit, signals, view)
        except KeyboardInterrupt:
            sys.exit(128 + signals.number)
    most = witness.most.get("default", 0)
    view.conclude(rows, most, slots)
    if not kept(rows, {execution.task for execution in witness.executions}, most, slots):
        sys.exit(1)


def kept(rows: list[Row], seen: set[int], most: int, slots: int) -> bool:
    """Whether the promise was kept: all succeeded, the witness saw them all, and never too many at once."""
    return all(row.status == "succeeded" and row.task in seen for row in rows) and most <= slots


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a temporary folder that the server's user can enter, for root runs it as somebody else."""
    with tempfile.TemporaryDirectory(prefix="lockgate-demo-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def _stack(folder: Path, runners: int, witness: Witness) -> Iterator[tuple[Stack, psycopg.Connection]]:
    """Run everything, on free ports; the programs, and a connection that may look."""
    server = Server(folder / "data", settings={"fsync": "off"})
    stack: Stack | None = None
    log = folder / "programs.log"
    with log.open("wb") as output:
        try:
            server.start()
            schema.apply(server.dsn())
            logins = schema.create_logins(server.dsn(), server.password)
            service, runner = server.dsn(logins["service"]), server.dsn(logins["runner"])
            settings = {"LOCKGATE_WITNESS": witness.address}
            port = free_port()
            stack = Stack(service, runner, "127.0.0.1", port, runners, server, False, settings, lambda _: None, output)
            stack.start()
            with psycopg.connect(server.dsn(logins["operator"]), connect_timeout=10, autocommit=True) as connection:
                yield stack, connection
        except StackError:
            click.echo(log.read_text(errors="replace"), err=True)
            raise
        finally:
            # The tasks have ended, or nobody waits for them any more.
            if stack:
                stack.stop(lambda: True)
            else:
                server.stop("immediate")


def _submit(stack: Stack, least: int, most: int) -> int:
    """Return the number of a task that sleeps between `least` and `most` seconds. Raises StackError."""
    is_simple = (least, most) == (0, 10)  # what a bare `POST /task` does
    path = "/task" if is_simple else "/tasks"
    try:
        said = stack.ask(path, None if is_simple else {"kind": "sleep", "payload": {"min": least, "max": most}}, "POST")
    except (OSError, ValueError) as error:
        raise StackError(f"POST {path}: {error}") from error
    return int(said if is_simple else said["id"])


def _watch(
    connection: psycopg.Connection, stack: Stack, numbers: list[int], limit: float, signals: Signals, view: View
) -> list[Row]:
    """Show the tasks until all have ended; the rows as they are then. Raises StackError."""
    with view:
        while True:
            signals.check()
            rows = [Row(*values) for values in connection.execute(QUERY, [numbers])]
            view.show(rows)
            if all(row.ended for row in rows):
                return rows
            if time.monotonic() > limit:
                raise StackError("the tasks take too long")
            stack.look_after()
            time.sleep(0.1)
