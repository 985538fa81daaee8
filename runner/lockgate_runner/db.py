"""The SQL texts a runner sends, a function each. All of them go through a `Session`."""

import socket
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from os import getpid
from typing import Any, Literal, LiteralString, TypeVar

import msgspec

from lockgate_runner.executor.protocol import Error
from lockgate_runner.session import Session

Row = TypeVar("Row")


class Claimed(msgspec.Struct, frozen=True):
    """A task as lockgate.claim returns it, field for field the type lockgate.claimed. Durations in seconds."""

    task: int
    lease: int
    queue: str
    kind: str
    payload: msgspec.Raw
    attempt: int
    max_attempts: int
    timeout: float | None
    grace: float
    cancel_requested: Literal["graceful", "force"] | None


class Queue(msgspec.Struct, frozen=True):
    """A row of lockgate.poll_queues(): a queue this runner serves. ``next_due``: seconds until its next scheduled task;
    ``draining``: whether an operator drains this runner; ``standing_by``: the number of runners without a slot, where
    that was asked for."""

    queue: int
    name: str
    slots: int
    paused: bool
    grace: float
    due: bool | None
    next_due: float | None
    draining: bool | None
    standing_by: int | None


class Occupied(msgspec.Struct, frozen=True):
    """A row of lockgate.slot_activity(): a slot with a running task, a held lock (``pid``), or both. ``silence``: the
    seconds since ``state_change``, by the server's clock."""

    queue: int
    slot: int
    task: int | None
    lease: int | None
    runner: str | None
    session: int | None
    grace: float
    cancel_requested: Literal["graceful", "force"] | None
    pid: int | None
    backend_start: datetime | None
    state_change: datetime | None
    silence: float | None


def scalar(rows: list[Any]) -> Any:
    """Returns the first column of the first row; None without a row."""
    return rows[0][0] if rows else None


def only(rows: list[Row]) -> Row | None:
    """Returns the first row; None without one."""
    return rows[0] if rows else None


async def schema_version(session: Session) -> int:
    return scalar(await session.fetch("select lockgate.schema_version()"))


async def register(session: Session, runner: str, concurrency: int, queues: Sequence[str], kinds: Sequence[str]) -> int:
    return scalar(await session.fetch(
        "select lockgate.register($1, $2, $3, $4, $5, $6, $7)",
        runner, socket.gethostname(), getpid(), version("lockgate"), concurrency, list(queues) or None, list(kinds),
    ))  # fmt: skip


async def announce_schemas(session: Session, schemas: Mapping[str, msgspec.Raw]) -> None:
    """Announces the JSON Schemas of the payloads of this session's kinds."""
    text = msgspec.json.encode(schemas).decode()
    await session.fetch("select lockgate.announce_schemas($1, $2::jsonb)", session.number, text)


async def deregister(session: Session) -> None:
    await session.fetch("select lockgate.deregister($1)", session.number)


async def poll_queues(session: Session, queues: Sequence[str], count_standbys: bool) -> list[Queue]:
    return await session.fetch(
        """
        select *, lockgate.is_draining($2) as draining,
          case when $3 then (select lockgate.standing_by()) end as standing_by
        from lockgate.poll_queues($1)
        """,
        list(queues) or None, session.number, count_standbys, row=Queue,
    )  # fmt: skip


async def slot_activity(session: Session) -> list[Occupied]:
    return await session.fetch(
        "select *, extract(epoch from clock_timestamp() - state_change)::float8 as silence"
        " from lockgate.slot_activity()",
        row=Occupied,
    )


async def take_slot(session: Session, queue: int) -> int | None:
    return scalar(await session.fetch("select lockgate.take_slot($1)", queue))


async def retake_slot(session: Session, queue: int, slot: int) -> bool:
    return scalar(await session.fetch("select lockgate.retake_slot($1, $2)", queue, slot))


async def release_slot(session: Session, queue: int, slot: int) -> bool:
    return scalar(await session.fetch("select lockgate.release_slot($1, $2)", queue, slot))


async def pass_slot_on(session: Session, queue: int, slot: int) -> bool:
    """Releases it, and notifies the standbys."""
    return scalar(await session.fetch("select lockgate.pass_slot_on($1, $2)", queue, slot))


async def claim(session: Session, queue: int, slot: int, runner: str) -> Claimed | None:
    query: LiteralString = "select * from lockgate.claim($1, $2, $3, $4)"
    return only(await session.fetch(query, queue, slot, runner, session.number, row=Claimed))


async def reconfirm(session: Session, queue: int, slot: int, runner: str) -> Claimed | None:
    query: LiteralString = "select * from lockgate.reconfirm($1, $2, $3, $4)"
    return only(await session.fetch(query, queue, slot, runner, session.number, row=Claimed))


async def wait_until_durable(session: Session) -> None:
    """Returns when all earlier commits are durable, on synchronous standbys too."""
    await session.fetch("select lockgate.wait_until_durable()")


async def finish(session: Session, task: Claimed, runner: str, exec_time: float, result: bytes) -> bool:
    return scalar(await session.fetch(
        "select lockgate.finish($1, $2, $3, $4, $5::jsonb)",
        task.task, task.lease, runner, exec_time, result.decode(),
    ))  # fmt: skip


async def finish_and_claim(
    session: Session, task: Claimed, runner: str, exec_time: float, result: bytes, queue: int, slot: int
) -> Claimed | None:
    return only(await session.fetch(
        "select * from lockgate.finish_and_claim($1, $2, $3, $4, $5::jsonb, $6, $7, $8)",
        task.task, task.lease, runner, exec_time, result.decode(), queue, slot, session.number, row=Claimed,
    ))  # fmt: skip


async def fail(
    session: Session,
    task: Claimed,
    runner: str,
    exec_time: float | None,
    error: Error | None,
    retry_after: float | None,
    discard: bool,
) -> str:
    return scalar(await session.fetch(
        "select lockgate.fail($1, $2, $3, $4, $5::jsonb, $6, $7)",
        task.task, task.lease, runner, exec_time, msgspec.json.encode(error).decode(), retry_after, discard,
    ))  # fmt: skip


async def return_task(session: Session, task: Claimed, runner: str) -> str:
    return scalar(await session.fetch("select lockgate.return_task($1, $2, $3)", task.task, task.lease, runner))


async def report_progress(session: Session, task: Claimed, runner: str, progress: bytes) -> bool:
    query: LiteralString = "select lockgate.report_progress($1, $2, $3, $4::jsonb)"
    return scalar(await session.fetch(query, task.task, task.lease, runner, progress.decode()))


async def write_output(session: Session, task: int, lease: int, text: str) -> None:
    await session.fetch("select lockgate.write_output($1, $2, $3)", task, lease, text)


async def delete_expired(session: Session) -> int | None:
    """Deletes a batch of ended tasks past their retention; returns how many, None if another session has the chores."""
    return scalar(await session.fetch("select lockgate.delete_expired()"))


async def roll_up(session: Session, batch: int) -> int | None:
    """Counts ends in their minutes; returns about how many, None if another session has the chores."""
    return scalar(await session.fetch("select lockgate.roll_up($1)", batch))


async def adopt(session: Session, orphan: Occupied) -> str | None:
    return scalar(await session.fetch(
        "select lockgate.adopt($1, $2, $3, $4, $5)",
        orphan.queue, orphan.slot, orphan.task, orphan.lease, orphan.session,
    ))  # fmt: skip


async def end_backend(session: Session, pid: int, backend_start: datetime) -> bool:
    """Ends another session of this login; returns whether it was there. Pids come again, so its start is named too."""
    ended = scalar(await session.fetch(
        "select pg_terminate_backend(pid) from pg_stat_activity where pid = $1 and backend_start = $2",
        pid, backend_start,
    ))  # fmt: skip
    return bool(ended)
