"""Queues, slots, runners and failures as they are at one moment."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg

LIMIT = "5s"  # for each statement
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


def take(connection: psycopg.Connection[Any]) -> Snapshot:
    """Look at everything, in one transaction so that the counts and the slots agree. Raises psycopg.Error."""
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        connection.execute("select set_config('statement_timeout', %s, true)", [LIMIT])
        queues = connection.execute(QUEUES).fetchall()
        slots: dict[str, list[Slot]] = defaultdict(list)
        for queue, *slot in connection.execute(SLOTS):
            slots[queue].append(Slot(*slot))
        runners = connection.execute(RUNNERS).fetchone() or (0, 0)
        failures = tuple(Failure(*row) for row in connection.execute(FAILED, [FAILURES]))
    return Snapshot(tuple(Queue(*(*row, tuple(slots[row[0]]))) for row in queues), failures, *runners)
