"""`lockgate status`: what goes on, live, with as much of each slot as there is room for."""

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import click
import psycopg
from rich import box
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lockgate.commands.database import Database, asks_database
from lockgate.commands.table import printable, spoken
from lockgate.errors import UserError, explain
from lockgate.signals import Signals

PERIOD = 1.0  # seconds between two looks
SILENCE_LIMIT = 3.0  # seconds without an answer until that is said
CONNECT_LIMIT = 3  # seconds, once it is known that the database can be reached at all

MARKS_MOST = 12  # in the heading; more have lines of their own
NAME_LEAST = 10

BOX_WIDTH, BOX_HEIGHT, LINE_WIDTH = 26, 5, 36

STATEMENT_LIMIT = "5s"
FAILURES = 5

QUEUES = """
select queue, slots, paused, running, case when queued > 10000 then '10000+' else queued::text end,
  case when scheduled > 10000 then '10000+' else scheduled::text end,
  extract(epoch from clock_timestamp() - oldest)::float8, standbys, runners > 0
from lockgate.queue_stats order by queue
"""
SLOTS = """
select queue, slot, task, kind, seconds::float8, runner, backend_pid is not null
from lockgate.slot_overview order by queue, slot
"""
RUNNERS = "select count(*), count(*) filter (where draining) from lockgate.runner_overview where alive"
FAILED = """
select id, queue, kind, extract(epoch from clock_timestamp() - finish_time)::float8,
  concat_ws(': ', error ->> 'type', left(error ->> 'message', 200))
from lockgate.task_detail where status = 'failed' order by id desc limit %s
"""


class Failure(NamedTuple):
    """A failed task, and how many seconds ago it failed."""

    task: int
    queue: str
    kind: str
    ago: float
    error: str


@dataclass(frozen=True)
class Slot:
    """A slot: free, held by a runner that waits in it for a task, or with a task that executes."""

    number: int
    task: int | None
    kind: str | None
    seconds: float | None
    runner: str | None
    held: bool

    @property
    def busy(self) -> bool:
        return self.task is not None

    @property
    def abandoned(self) -> bool:
        """Whether the runner of its task has lost it, for now or for good."""
        return self.busy and not self.held


@dataclass(frozen=True)
class Queue:
    """A queue; counts above 10,000 are told as such. `standbys`: how many runners would take one more slot."""

    name: str
    slot_count: int
    paused: bool
    running: int
    queued: str
    scheduled: str
    oldest_wait: float | None
    standbys: int
    served: bool
    slots: tuple[Slot, ...]

    @property
    def waiting(self) -> bool:
        return self.queued != "0"


@dataclass(frozen=True)
class Snapshot:
    """`runners`: how many are alive; `draining`: how many of these take no more tasks."""

    queues: tuple[Queue, ...]
    failures: tuple[Failure, ...]
    runners: int
    draining: int


def take_snapshot(connection: psycopg.Connection[Any]) -> Snapshot:
    """Look at everything, in one transaction so that the counts and the slots agree. Raises psycopg.Error."""
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        connection.execute("select set_config('statement_timeout', %s, true)", [STATEMENT_LIMIT])
        queues = connection.execute(QUEUES).fetchall()
        slots: dict[str, list[Slot]] = defaultdict(list)
        for queue, *slot in connection.execute(SLOTS):
            slots[queue].append(Slot(*slot))
        runners = connection.execute(RUNNERS).fetchone() or (0, 0)
        failures = tuple(Failure(*row) for row in connection.execute(FAILED, [FAILURES]))
    return Snapshot(tuple(Queue(*(*row, tuple(slots[row[0]]))) for row in queues), failures, *runners)


@click.command()
@click.option("--once", is_flag=True, help="Print it once and end, as is done without a terminal.")
@asks_database
def status(database: Database, once: bool) -> None:
    """Watch the queues: their slots, the runners standing by, what waits, the newest failures.

    Refreshed every second until Ctrl-C. A database that goes away is waited for.
    """
    console = Console()
    with database.connect() as connection:
        where = f"{connection.info.host}:{connection.info.port}/{connection.info.dbname}"
        first = take_snapshot(connection)
    if once or not console.is_terminal:
        console.print(fitting(console, first, where, _clock()))
        return
    watch = Watch(database, first)
    with Signals() as signals:
        try:
            threading.Thread(target=watch.look, name="watch", daemon=True).start()
            _show(console, watch, where)
        except KeyboardInterrupt:
            if signals.number != 2:  # Ctrl-C is how one leaves; others mean something else
                sys.exit(128 + signals.number)


def _show(console: Console, watch: "Watch", where: str) -> None:
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            view = fitting(console, watch.latest, where, watch.clock, watch.trouble)
            live.update(view, refresh=True)
            watch.news.wait(PERIOD)
            watch.news.clear()


@dataclass
class Watch:
    """Looks once a second, in a thread: an answer that does not come must not hold up the terminal."""

    database: Database
    latest: Snapshot
    news: threading.Event = field(default_factory=threading.Event)
    clock: str = field(default_factory=lambda: _clock())
    _seen: float = field(default_factory=time.monotonic)
    _error: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why `latest` is not the latest there is."""
        if self._error is None and time.monotonic() - self._seen > SILENCE_LIMIT:
            return "the database does not answer"
        return self._error

    def look(self) -> None:
        """Look for ever, going on when the database is back."""
        connection: psycopg.Connection[Any] | None = None
        while True:
            try:
                connection = connection or self.database.connect(connect_timeout=CONNECT_LIMIT)
                self.latest = take_snapshot(connection)
                self.clock, self._seen, self._error = _clock(), time.monotonic(), None
            except (psycopg.Error, UserError) as error:
                self._error = explain(error) or f"{type(error).__name__}: {error}"
                if connection:
                    connection.close()
                connection = None
            self.news.set()
            time.sleep(PERIOD)


def _clock() -> str:
    return time.strftime("%H:%M:%S")


class Marks(NamedTuple):
    """The letters of a terminal; those of one that has only ASCII are plain."""

    busy: str
    free: str
    standby: str


FINE, PLAIN = Marks("■", "□", "○"), Marks("#", ".", "o")


def _line_of_marks(queue: Queue, marks: Marks) -> Text:
    return Text.assemble(*((marks.busy if slot.busy else marks.free, _style(slot, queue)) for slot in queue.slots))


def _style(slot: Slot, queue: Queue) -> str:
    if slot.abandoned:
        return "red"
    if slot.number > queue.slot_count:
        return "magenta"
    return "yellow" if slot.busy else "green"


def _remark(slot: Slot, queue: Queue) -> str:
    """Who has it, or what there is to say about it."""
    if slot.abandoned:
        return "its runner is gone"
    if slot.number > queue.slot_count:
        return "the last one in it"
    return slot.runner or ""


def _slot_box(slot: Slot, queue: Queue) -> Panel:
    width = BOX_WIDTH - 4
    first = Table.grid(expand=True)
    first.add_column(no_wrap=True)
    first.add_column(no_wrap=True, justify="right")
    style = _style(slot, queue)
    if slot.busy:
        first.add_row(Text(f"task {slot.task}", "bold"), Text(spoken(slot.seconds), style))
    else:
        first.add_row(Text("free", style), Text("ready" if slot.held else "", style))
    kind = Text(printable(slot.kind or ""))
    kind.truncate(width, overflow="ellipsis")
    runner = Text(_end(printable(_remark(slot, queue)), width), "red" if slot.abandoned else "dim")
    return Panel(
        Group(first, kind, runner), title=f"slot {slot.number}", title_align="left", width=BOX_WIDTH,
        border_style=style if slot.busy else "dim", box=box.HEAVY if slot.busy else box.ROUNDED,
    )  # fmt: skip


def _slot_lines(console: Console, queue: Queue, marks: Marks) -> Table:
    """A line per slot, in as many columns as there is room for, counted downwards."""
    across = max(1, console.width // LINE_WIDTH)
    down = -(-len(queue.slots) // across)
    digits = len(str(max((slot.number for slot in queue.slots), default=0)))
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(across):
        table.add_column(width=LINE_WIDTH - 2, no_wrap=True, overflow="ellipsis")
    lines = [_line(slot, queue, marks, digits) for slot in queue.slots]
    for row in range(down):
        table.add_row(*lines[row::down])
    return table


def _line(slot: Slot, queue: Queue, marks: Marks, digits: int) -> Text:
    style = _style(slot, queue)
    line = Text.assemble((f"{slot.number:>{digits}} ", "dim"), (marks.busy if slot.busy else marks.free, style), " ")
    if not slot.busy:
        return line.append("free", "dim")
    line.append(f"{slot.task} ", "bold").append(f"{spoken(slot.seconds)} ", style)
    return line.append("runner gone" if slot.abandoned else printable(slot.kind or ""))


def _end(text: str, width: int) -> str:
    """Return it cut to the width at its beginning: the names of runners differ at their ends."""
    return text if len(text) <= width else "…" + text[-(width - 1) :]


def fitting(console: Console, snapshot: Snapshot, where: str, when: str, trouble: str | None = None) -> RenderableType:
    """Return the view with the most detail that this terminal has room for.

    `where`: the database; `when`: the time of the snapshot; `trouble`: why there is no newer one.
    """
    for detail in "boxes", "lines", "marks":
        if detail != "marks" and _least_height(console, snapshot, detail) > console.height:
            continue  # without drawing a thousand boxes to find out
        view = Group(*_parts(console, snapshot, detail, where, when, trouble))
        if len(console.render_lines(view, pad=False)) <= console.height:
            break
    return view


def _least_height(console: Console, snapshot: Snapshot, detail: str) -> int:
    """Return how many lines the slots take, without what is around them."""
    width, height = (BOX_WIDTH + 1, BOX_HEIGHT) if detail == "boxes" else (LINE_WIDTH, 1)
    across = max(1, (console.width + 1) // width)
    return sum(-(-len(queue.slots) // across) * height for queue in snapshot.queues)


def _parts(
    console: Console, snapshot: Snapshot, detail: str, where: str, when: str, trouble: str | None
) -> Iterator[RenderableType]:
    marks = PLAIN if console.options.ascii_only else FINE
    head = Table.grid(expand=True)
    head.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    head.add_column(no_wrap=True)
    head.add_row(
        Text.assemble(("Lockgate", "bold"), f"  {where}"),
        Text(f"  {_runners(snapshot)}   {when}", "dim"),
    )
    yield head
    if trouble:
        yield Text(f" {trouble}; shown is {when} ", "bold white on red")
    for queue in snapshot.queues:
        yield Text()
        yield _heading(console, queue, marks)
        yield _waiting(queue)
        if detail == "boxes":
            yield Columns([_slot_box(slot, queue) for slot in queue.slots], padding=(0, 1))
        elif detail == "lines":
            yield _slot_lines(console, queue, marks)
        elif len(queue.slots) > MARKS_MOST:
            yield _line_of_marks(queue, marks)
    if snapshot.failures:
        yield Text()
        yield Text("newest failures", "bold")
        yield _failures(snapshot.failures)


def _runners(snapshot: Snapshot) -> str:
    said = f"{snapshot.runners} {'runner' if snapshot.runners == 1 else 'runners'}"
    return f"{said}, {snapshot.draining} draining" if snapshot.draining else said


def _heading(console: Console, queue: Queue, marks: Marks) -> RenderableType:
    """The line that says it at a glance: how many of how many are busy, and how many runners stand by."""
    busy, slots, standing = queue.running, queue.slot_count, queue.standbys
    full = busy >= slots > 0
    line = Text()
    if 0 < len(queue.slots) <= MARKS_MOST:
        line.append_text(_line_of_marks(queue, marks)).append("  ")
    line.append(f"{busy} of {slots} busy" if queue.slots else "no slots", "bold yellow" if full else "bold")
    if standing:
        line.append(f"   {marks.standby * min(standing, 8)} ", "cyan")
        line.append(f"{standing} {'runner stands' if standing == 1 else 'runners stand'} by", "cyan")
    elif not queue.served:
        line.append("   no runner serves it", "bold red" if queue.waiting else "dim")
    if queue.paused:
        line.append("   paused", "bold magenta")
    name = Text(printable(queue.name), "bold")
    name.truncate(max(NAME_LEAST, console.width - line.cell_len - 2), overflow="ellipsis")
    return Text.assemble(name, "  ", line, no_wrap=True, overflow="ellipsis")


def _waiting(queue: Queue) -> Text:
    line = Text(style="dim", no_wrap=True, overflow="ellipsis")
    line.append(f"{queue.queued} queued", "default" if queue.waiting else "dim")
    line.append(f" · {queue.scheduled} scheduled")
    if queue.oldest_wait is not None:
        line.append(f" · the oldest waits {spoken(queue.oldest_wait)}")
    return line


def _failures(failures: Sequence[Failure]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=24)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for failure in failures:
        ago, task = Text(f"{spoken(failure.ago)} ago", "dim"), Text(f"task {failure.task}")
        table.add_row(ago, task, Text(printable(failure.kind)), Text(printable(failure.error), "red"))
    return table
