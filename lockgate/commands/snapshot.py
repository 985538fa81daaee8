"""Queues, slots, runners and failures as they are at one moment."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg

LIMIT = "5s"  # for each statement
FAILURES = 5

QUEUES = """
select queue, slots, paused, running, queued, scheduled, oldest_wait::float8 from lockgate.queue_overview order by queue
"""
SLOTS = """
select queue, slot, task, kind, seconds::float8, runner, backend_pid from lockgate.slot_overview order by queue, slot
"""
RUNNERS = """
select runner, backend_pid, concurrency, queues, draining from lockgate.runner_overview where alive order by session
"""
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
    """A queue; counts above 10,000 are said as such. `standbys`: names of runners that would take one more slot."""

    name: str
    slot_count: int
    paused: bool
    running: int
    queued: str
    scheduled: str
    oldest_wait: float | None
    slots: tuple[Slot, ...]
    standbys: tuple[str, ...]
    served: bool

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


def take(connection: psycopg.Connection[Any]) -> Snapshot:
    """Look at everything, in one transaction so that the counts and the slots agree. Raises psycopg.Error."""
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        connection.execute("select set_config('statement_timeout', %s, true)", [LIMIT])
        queues = connection.execute(QUEUES).fetchall()
        slots = connection.execute(SLOTS).fetchall()
        runners = connection.execute(RUNNERS).fetchall()
        failures = [Failure(*row) for row in connection.execute(FAILED, [FAILURES])]
    return Snapshot(
        tuple(_queues(queues, slots, runners)), tuple(failures), len(runners), sum(runner[4] for runner in runners)
    )


Rows = list[tuple[Any, ...]]


def _queues(queues: Rows, slots: Rows, runners: Rows) -> list[Queue]:
    names = {pid: name for name, pid, *_ in runners}
    slots_held = Counter(pid for *_, pid in slots if pid is not None)
    in_queue: dict[str, list[Slot]] = defaultdict(list)
    holders: dict[str, set[int]] = defaultdict(set)
    for queue, number, task, kind, seconds, runner, pid in slots:
        in_queue[queue].append(Slot(number, task, kind, seconds, runner or names.get(pid), pid is not None))
        holders[queue].add(pid)

    def all_of(name: str) -> Queue:
        serving = [each for each in runners if not each[4] and (each[3] is None or name in each[3])]
        standbys = tuple(
            str(runner)
            for runner, pid, concurrency, *_ in serving
            if pid not in holders[name] and slots_held[pid] < concurrency
        )
        _, slot_count, paused, running, queued, scheduled, oldest = rows[name]
        mine = tuple(in_queue[name])
        return Queue(name, slot_count, paused, running, queued, scheduled, oldest, mine, standbys, served=bool(serving))

    rows = {row[0]: row for row in queues}
    return [all_of(name) for name in rows]
