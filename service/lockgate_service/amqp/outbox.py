"""Every SQL text that the publisher sends, a function each, on the one session that holds its lock."""

import asyncio
from typing import Any, NamedTuple

from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

Session = AsyncConnection[tuple[Any, ...]]

STATEMENT_LIMIT = 15.0  # seconds; waits for synchronous standbys
BATCH_MAX = 500

# DATABASE_URL overrides these. The time-outs are for networks that vanish without a word: the lock of a session that is
# gone has to be free for the next soon.
CONNECTION_DEFAULTS: dict[str, str | int | None] = {
    "application_name": "lockgate-publish",
    "connect_timeout": 3,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10000,
}


class Outcome(NamedTuple):
    """An end of a task, and its event as it is published."""

    id: int
    queue: str
    kind: str
    status: str
    time: Any
    correlation_id: str | None
    body: str


async def connect(database_url: str) -> Session:
    """In autocommit. Raises psycopg.Error."""
    url = make_conninfo("", **CONNECTION_DEFAULTS | conninfo_to_dict(database_url))
    return await AsyncConnection.connect(url, autocommit=True, prepare_threshold=None)


async def _rows(session: Session, text: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Raises psycopg.Error and TimeoutError."""
    async with asyncio.timeout(STATEMENT_LIMIT):
        cursor = await session.execute(text.encode(), parameters)
        return await cursor.fetchall()


async def schema_version(session: Session) -> int:
    return int((await _rows(session, "select lockgate.schema_version()"))[0][0])


async def lock(session: Session) -> bool:
    """Whether this session is the one that publishes now."""
    return bool((await _rows(session, "select lockgate.outbox_lock()"))[0][0])


async def record(session: Session) -> bool:
    """Makes Postgres record ends from now on; whether it did not before."""
    return bool((await _rows(session, "select lockgate.set_outbox(true)"))[0][0])


async def next_outcomes(session: Session) -> list[Outcome]:
    """The oldest, one of each task. Committed for good. Raises psycopg.Error LG004 if this session has not the lock."""
    text = "select id, queue, kind, status, time, correlation_id, body from lockgate.outbox_next(%s)"
    return [Outcome(*row) for row in await _rows(session, text, BATCH_MAX)]


async def ack(session: Session, ids: list[int]) -> None:
    await _rows(session, "select lockgate.outbox_ack(%s::bigint[])", ids)


async def waiting(session: Session) -> tuple[int, float]:
    """How many outcomes wait, counted to 10,001, and for how many seconds the oldest has."""
    (row,) = await _rows(session, "select waiting, coalesce(oldest_wait, 0) from lockgate.outbox_overview")
    return int(row[0]), float(row[1])
