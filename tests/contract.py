"""The contract in Python verbs, so that tests read as stories: one method per function of schema.sql."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import count
from typing import Any, Literal, TypeVar

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from tests.database import Database

T = TypeVar("T")

BOOM = {"type": "Boom", "message": "it went wrong", "traceback": None}


def until(
    condition: Callable[[], T | Literal[False] | None], description: str = "", limit: float = 60.0, every: float = 0.01
) -> T:
    """Waits for a true value and returns it."""
    deadline = time.monotonic() + limit
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            what = description or getattr(condition, "__qualname__", repr(condition))
            raise AssertionError(f"waited {limit} s in vain for: {what} (last seen: {value!r})")
        time.sleep(every)


@dataclass(frozen=True)
class Threads:
    pool: ThreadPoolExecutor

    def start(self, call: Callable[..., T], *args: Any, **named: Any) -> Future[T]:
        return self.pool.submit(call, *args, **named)


@dataclass(frozen=True)
class Task:
    """A row of lockgate.task."""

    id: int
    queue: str
    kind: str
    status: str
    priority: int
    create_time: datetime
    run_at: datetime
    start_time: datetime | None
    finish_time: datetime | None
    exec_time: float | None
    attempt: int
    max_attempts: int
    timeout: float | None
    slot: int | None
    lease: int | None
    runner: str | None
    session: int | None
    grace: float | None
    cancel_requested: str | None
    payload: Any
    result: Any
    error: Any
    progress: Any
    tags: list[str]
    metadata: Any
    idempotency_scope: str
    idempotency_key: str | None
    request_digest: Any
    dedupe_key: str | None


@dataclass(frozen=True)
class Attempt:
    """A row of lockgate.attempt."""

    task: int
    attempt: int
    lease: int
    outcome: str
    runner: str | None
    slot: int | None
    start_time: datetime | None
    end_time: datetime
    exec_time: float | None
    error: Any


@dataclass(frozen=True)
class Claimed:
    """What a claim returns."""

    task: int
    lease: int
    queue: str
    kind: str
    payload: Any
    attempt: int
    max_attempts: int
    timeout: float | None
    grace: float
    cancel_requested: str | None


@dataclass(frozen=True)
class Outcome:
    """One row of submit_batch."""

    item: int
    task: int | None
    outcome: str


class Session:
    """A runner's slot session: what one runner process says to the database, on one connection."""

    def __init__(self, q: "Contract", name: str, **named: Any) -> None:
        self.q = q
        self.name = name
        self.conn = q.db.connect("runner")
        self.pid = self.conn.info.backend_pid
        self.number = self.register(**named)

    def __str__(self) -> str:
        return f"runner {self.name}"

    def value(self, text: str, *args: Any) -> Any:
        row = self.conn.execute(text, args).fetchone()
        return row[0] if row else None

    def claimed(self, text: str, *args: Any) -> Claimed | None:
        rows = self.conn.cursor(row_factory=class_row(Claimed)).execute(text, args).fetchall()
        assert len(rows) <= 1
        return rows[0] if rows else None

    def register(
        self,
        *,
        host: str = "here",
        pid: int = 1,
        version: str = "0",
        concurrency: int = 1,
        queues: Sequence[str] | None = None,
        kinds: Sequence[str] = ("sleep",),
    ) -> int:
        number: int = self.value(
            "select lockgate.register(%s, %s, %s, %s, %s, %s, %s)",
            *(self.name, host, pid, version, concurrency, queues and list(queues), list(kinds)),
        )
        return number

    def deregister(self) -> None:
        self.conn.execute("select lockgate.deregister(%s)", (self.number,))

    def take(self, slot: int | None = None, queue: str = "default") -> int | None:
        """Takes any free slot, or this one; its number, or None."""
        if slot is None:
            free: int | None = self.value("select lockgate.take_slot(%s)", self.q.queue_id(queue))
            return free
        return slot if self.value("select lockgate.retake_slot(%s, %s)", self.q.queue_id(queue), slot) else None

    def release(self, slot: int, queue: str = "default") -> bool:
        return self.value("select lockgate.release_slot(%s, %s)", self.q.queue_id(queue), slot) is True

    def holds(self, slot: int, queue: str = "default") -> bool:
        return self.value("select lockgate.holds_slot(%s, %s)", self.q.queue_id(queue), slot) is True

    def claim(self, slot: int = 1, queue: str = "default") -> Claimed | None:
        return self.claimed(
            "select * from lockgate.claim(%s, %s, %s, %s)", self.q.queue_id(queue), slot, self.name, self.number
        )

    def work(self, slot: int = 1, queue: str = "default") -> Claimed:
        """Takes this slot and claims a task into it: for tests that begin with a running task."""
        assert self.take(slot, queue) == slot
        claimed = self.claim(slot, queue)
        assert claimed is not None
        return claimed

    def finish(self, claimed: Claimed, result: Any = None, exec_time: float = 0.5) -> bool:
        return (
            self.value(
                "select lockgate.finish(%s, %s, %s, %s, %s)",
                *(claimed.task, claimed.lease, self.name, exec_time, Jsonb(result)),
            )
            is True
        )

    def finish_and_claim(
        self, claimed: Claimed, result: Any = None, exec_time: float = 0.5, slot: int = 1, queue: str = "default"
    ) -> Claimed | None:
        return self.claimed(
            "select * from lockgate.finish_and_claim(%s, %s, %s, %s, %s, %s, %s, %s)",
            *(claimed.task, claimed.lease, self.name, exec_time, Jsonb(result)),
            *(self.q.queue_id(queue), slot, self.number),
        )

    def fail(
        self,
        claimed: Claimed,
        error: Any = BOOM,
        exec_time: float | None = 0.5,
        retry_after: float | None = None,
        discard: bool = False,
    ) -> str:
        status: str = self.value(
            "select lockgate.fail(%s, %s, %s, %s, %s, %s, %s)",
            *(claimed.task, claimed.lease, self.name, exec_time, Jsonb(error), retry_after, discard),
        )
        return status

    def return_task(self, claimed: Claimed) -> str:
        status: str = self.value("select lockgate.return_task(%s, %s, %s)", claimed.task, claimed.lease, self.name)
        return status

    def adopt(self, seen: Task) -> str | None:
        """Adopts a running row as it was seen earlier, in its slot, which this session has to hold."""
        status: str | None = self.value(
            "select lockgate.adopt(%s, %s, %s, %s, %s)",
            *(self.q.queue_id(seen.queue), seen.slot, seen.id, seen.lease, seen.session),
        )
        return status

    def reconfirm(self, slot: int = 1, queue: str = "default") -> Claimed | None:
        return self.claimed(
            "select * from lockgate.reconfirm(%s, %s, %s, %s)", self.q.queue_id(queue), slot, self.name, self.number
        )

    def reconnect(self) -> None:
        """The same runner on a new connection and session, its old one gone."""
        self.die()
        self.conn = self.q.db.connect("runner")
        self.pid = self.conn.info.backend_pid
        self.number = self.register()

    def die(self) -> None:
        """Ends the session without a word, as a killed process does, and waits until its locks are gone."""
        self.conn.close()
        gone = "select not exists (select from pg_stat_activity where pid = %s)"
        until(lambda: self.q.db.value(gone, self.pid), f"{self} to be gone")


class Contract:
    def __init__(self, db: Database) -> None:
        self.db = db
        self.service = db.connect("service")
        self.names = count(1)

    # What the service and people say.

    def submit(self, kind: str = "sleep", queue: str | None = "default", **named: Any) -> int:
        return self.submit_by(self.service, kind, queue, **named)

    def submit_by(
        self, conn: psycopg.Connection[Any], kind: str | None = "sleep", queue: str | None = "default", **named: Any
    ) -> int:
        """`submit` on a connection of the test's own, which may be in a transaction."""
        values = {"queue": queue, "kind": kind, **named}
        for name in ("payload", "metadata"):
            if name in values:
                values[name] = Jsonb(values[name])
        call = sql.SQL("select lockgate.submit({})").format(
            sql.SQL(", ").join(sql.SQL("{} => {}").format(sql.Identifier(n), sql.Placeholder(n)) for n in values)
        )
        row = conn.execute(call, values).fetchone()
        assert row is not None
        task: int = row[0]
        return task

    def submit_batch(self, tasks: Any, scope: str = "", conn: psycopg.Connection[Any] | None = None) -> list[Outcome]:
        """Every row, in the order of the items."""
        cursor = (conn or self.service).cursor(row_factory=class_row(Outcome))
        rows = cursor.execute("select * from lockgate.submit_batch(%s, %s)", (Jsonb(tasks), scope)).fetchall()
        return sorted(rows, key=lambda row: row.item)

    def cancel(self, task: int, force: bool = False) -> str:
        row = self.service.execute("select lockgate.cancel(%s, %s)", (task, force)).fetchone()
        assert row is not None
        status: str = row[0]
        return status

    def set_slots(self, slots: int, queue: str = "default") -> None:
        self.service.execute("select lockgate.set_slots(%s, %s)", (queue, slots))

    # What runners say.

    def runner(self, name: str | None = None, **named: Any) -> Session:
        """A registered runner: its slot session."""
        return Session(self, name or f"r{next(self.names)}", **named)

    # What is so.

    def task(self, task: int) -> Task:
        rows = self.tasks("id = %s", task)
        assert rows, f"no task {task}"
        return rows[0]

    def tasks(self, condition: str = "true", *args: Any) -> list[Task]:
        columns = ", ".join(f.name for f in fields(Task))
        rows = self.db.query(f"select {columns} from lockgate.task where {condition} order by id", *args)
        return [Task(*row) for row in rows]

    def attempts(self, task: int) -> list[Attempt]:
        columns = ", ".join(f.name for f in fields(Attempt))
        rows = self.db.query(f"select {columns} from lockgate.attempt where task = %s order by lease", task)
        return [Attempt(*row) for row in rows]

    def queue_id(self, name: str = "default") -> int:
        number = self.db.value("select id from lockgate.queue where name = %s", name)
        assert isinstance(number, int), f"no queue {name}"
        return number

    def now(self) -> datetime:
        now: datetime = self.db.value("select clock_timestamp()")
        return now

    def until_waiting(self, conn: psycopg.Connection[Any]) -> None:
        """Until the server says that this connection waits, for whomever."""
        pid = conn.info.backend_pid
        until(lambda: self.db.value("select pg_blocking_pids(%s) <> '{}'", pid), "the session to wait")

    @contextmanager
    def heard(self) -> Iterator[list[str]]:
        """The notifications that what happens inside sends, complete and in order once it is left."""
        said: list[str] = []
        conn = self.db.connect("admin")
        conn.add_notify_handler(lambda notify: said.append(notify.payload))
        conn.execute("listen lockgate")
        yield said
        # Notifications come in the order of commits: once ours is here, so are all before it.
        self.db.query("select pg_notify('lockgate', 'that is all')")
        until(lambda: conn.execute("select 1") and "that is all" in said, "the last notification")
        said.remove("that is all")
        conn.close()

    # How a test sets the scene.

    def queue(self, name: str = "default", **settings: Any) -> int:
        """Creates or changes a queue; its id."""
        self.db.query("insert into lockgate.queue (name) values (%s) on conflict do nothing", name)
        self.update("queue", sql.SQL("name = {}").format(name), settings)
        return self.queue_id(name)

    def change(self, task: int, **columns: Any) -> None:
        """Writes columns of a task past all functions, but not past the constraints."""
        self.update("task", sql.SQL("id = {}").format(task), columns)

    def row(self, status: str = "queued", **columns: Any) -> int:
        """Inserts a task of any status past all functions, with what that status needs; its id."""
        values: dict[str, Any] = {"queue": "default", "kind": "sleep", "payload": {}, "max_attempts": 3}
        if status == "scheduled":
            values["run_at"] = self.db.value("select now() + interval '1 hour'")
        if status not in ("scheduled", "queued"):
            lease = self.db.value("select nextval('lockgate.lease')")
            values |= {"attempt": 1, "start_time": self.now(), "runner": "somebody", "session": 1, "grace": 5.0}
            values |= {"lease": lease} | ({"slot": 1} if status == "running" else {"finish_time": self.now()})
        if status == "running":
            values["turn"] = ((columns.get("slot") or 1) << 40) + lease
        if status == "failed":
            values["error"] = BOOM
        values |= {"status": status} | columns
        insert = sql.SQL("insert into lockgate.task ({}) values ({}) returning id").format(
            sql.SQL(", ").join(map(sql.Identifier, values)), sql.SQL(", ").join(sql.Placeholder() * len(values))
        )
        number: int = self.db.value(insert.as_string(), *(stored(value) for value in values.values()))
        return number

    def update(self, table: str, condition: sql.Composable, columns: dict[str, Any]) -> None:
        if columns:
            pairs = sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(n), sql.Placeholder()) for n in columns)
            text = sql.SQL("update {} set {} where {}").format(sql.Identifier("lockgate", table), pairs, condition)
            self.db.query(text.as_string(), *(stored(value) for value in columns.values()))

    # What must not be.

    @contextmanager
    def refused(self, sqlstate: str) -> Iterator[pytest.ExceptionInfo[psycopg.Error]]:
        with pytest.raises(psycopg.Error) as caught:
            yield caught
        assert caught.value.sqlstate == sqlstate, caught.value

    @contextmanager
    def breaks(self, constraint: str) -> Iterator[pytest.ExceptionInfo[psycopg.IntegrityError]]:
        with pytest.raises(psycopg.IntegrityError) as caught:
            yield caught
        assert caught.value.diag.constraint_name == constraint, caught.value


def stored(value: Any) -> Any:
    return Jsonb(value) if isinstance(value, dict) else value
