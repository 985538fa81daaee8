"""Every SQL text a runner sends, a function each. All of it goes through a `Session`."""

import socket
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from os import getpid
from typing import Literal

import msgspec

from lockgate_runner.claimed import Claimed
from lockgate_runner.executor.protocol import Error
from lockgate_runner.session import Session


class Queue(msgspec.Struct, frozen=True):
    """A row of lockgate.poll_queues(): a queue this runner serves. ``next_due``: seconds until its next scheduled task;
    ``draining``: whether this runner was told to take no more tasks, of this queue or any; ``standing_by``: how many
    runners hold no slot, if that was asked for."""

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
    """A row of lockgate.slot_activity(): a slot with a running task, a held lock (``pid``), or both. ``silence``:
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


async def schema_version(session: Session) -> int:
    return await session.value("select lockgate.schema_version()")


async def register(session: Session, runner: str, concurrency: int, queues: Sequence[str], kinds: Sequence[str]) -> int:
    return await session.value(
        "select lockgate.register($1, $2, $3, $4, $5, $6, $7)",
        runner, socket.gethostname(), getpid(), version("lockgate"), concurrency, list(queues) or None, list(kinds),
    )  # fmt: skip


async def announce_schemas(session: Session, schemas: Mapping[str, msgspec.Raw]) -> None:
    """Says what payloads the kinds of this session take."""
    await session.value(
        "select lockgate.announce_schemas($1, $2::jsonb)", session.number, msgspec.json.encode(schemas).decode()
    )


async def deregister(session: Session) -> None:
    await session.value("select lockgate.deregister($1)", session.number)


async def look(session: Session, queues: Sequence[str], count_standbys: bool) -> list[Queue]:
    return await session.rows(
        Queue,
        """
        select *, lockgate.is_draining($2) as draining,
          case when $3 then (select lockgate.standing_by()) end as standing_by
        from lockgate.poll_queues($1)
        """,
        list(queues) or None, session.number, count_standbys,
    )  # fmt: skip


async def watch(session: Session) -> list[Occupied]:
    return await session.rows(
        Occupied,
        "select *, extract(epoch from clock_timestamp() - state_change)::float8 as silence"
        " from lockgate.slot_activity()",
    )


async def take_slot(session: Session, queue: int) -> int | None:
    return await session.value("select lockgate.take_slot($1)", queue)


async def retake_slot(session: Session, queue: int, slot: int) -> bool:
    return await session.value("select lockgate.retake_slot($1, $2)", queue, slot)


async def release_slot(session: Session, queue: int, slot: int) -> bool:
    return await session.value("select lockgate.release_slot($1, $2)", queue, slot)


async def pass_slot_on(session: Session, queue: int, slot: int) -> bool:
    """Releases it, and tells runners that stand by."""
    return await session.value("select lockgate.pass_slot_on($1, $2)", queue, slot)


async def claim(session: Session, queue: int, slot: int, runner: str) -> Claimed | None:
    return await session.row(
        Claimed, "select * from lockgate.claim($1, $2, $3, $4)", queue, slot, runner, session.number
    )


async def reconfirm(session: Session, queue: int, slot: int, runner: str) -> Claimed | None:
    return await session.row(
        Claimed, "select * from lockgate.reconfirm($1, $2, $3, $4)", queue, slot, runner, session.number
    )


async def settle(session: Session) -> None:
    """Returns when whatever was committed before is safe, on synchronous standbys too."""
    await session.value("select lockgate.wait_until_durable()")


async def finish(session: Session, task: Claimed, runner: str, exec_time: float, result: bytes) -> bool:
    return await session.value(
        "select lockgate.finish($1, $2, $3, $4, $5::jsonb)",
        task.task, task.lease, runner, exec_time, result.decode(),
    )  # fmt: skip


async def finish_and_claim(
    session: Session, task: Claimed, runner: str, exec_time: float, result: bytes, queue: int, slot: int
) -> Claimed | None:
    return await session.row(
        Claimed,
        "select * from lockgate.finish_and_claim($1, $2, $3, $4, $5::jsonb, $6, $7, $8)",
        task.task, task.lease, runner, exec_time, result.decode(), queue, slot, session.number,
    )  # fmt: skip


async def fail(
    session: Session,
    task: Claimed,
    runner: str,
    exec_time: float | None,
    error: Error | None,
    retry_after: float | None,
    discard: bool,
) -> str:
    return await session.value(
        "select lockgate.fail($1, $2, $3, $4, $5::jsonb, $6, $7)",
        task.task, task.lease, runner, exec_time, msgspec.json.encode(error).decode(), retry_after, discard,
    )  # fmt: skip


async def give_back(session: Session, task: Claimed, runner: str) -> str:
    return await session.value("select lockgate.return_task($1, $2, $3)", task.task, task.lease, runner)


async def report_progress(session: Session, task: Claimed, runner: str, progress: bytes) -> bool:
    return await session.value(
        "select lockgate.report_progress($1, $2, $3, $4::jsonb)", task.task, task.lease, runner, progress.decode()
    )


async def write_output(session: Session, task: int, lease: int, text: str) -> None:
    await session.value("select lockgate.write_output($1, $2, $3)", task, lease, text)


async def tidy(session: Session) -> int | None:
    """Removes a batch of ended tasks whose time is over; None when another session has the chores."""
    return await session.value("select lockgate.delete_expired()")


async def roll_up(session: Session, batch: int) -> int | None:
    """Counts ends in their minutes; about how many, or None when another session has the chores."""
    return await session.value("select lockgate.roll_up($1)", batch)


async def adopt(session: Session, orphan: Occupied) -> str | None:
    return await session.value(
        "select lockgate.adopt($1, $2, $3, $4, $5)",
        orphan.queue, orphan.slot, orphan.task, orphan.lease, orphan.session,
    )  # fmt: skip


async def end_backend(session: Session, pid: int, backend_start: datetime) -> bool:
    """Ends another session of this login; false when it was gone already. Names its start, since pids come again."""
    ended = await session.value(
        "select pg_terminate_backend(pid) from pg_stat_activity where pid = $1 and backend_start = $2",
        pid, backend_start,
    )  # fmt: skip
    return bool(ended)
