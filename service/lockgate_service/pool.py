"""The pool of connections to the database, with a limit on every wait for a connection and for an answer.

Rows are msgspec Structs, whose fields are the columns of the SELECT in that order.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, get_args

from msgspec import Meta, Raw, Struct, structs
from psycopg import AsyncConnection, OperationalError
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool

from lockgate_service.http.problems import unavailable

Params = Sequence[object] | Mapping[str, object]
Rows = list[tuple[Any, ...]]

_TIME = Meta(extra_json_schema={"format": "date-time"}, examples=["2026-05-01T12:00:00.250000Z"])
# As Postgres writes it (see `utc`), so that years beyond 9999 work too.
Time = Annotated[str, _TIME]

# Seconds.
STATEMENT_LIMIT = 5.0
CONNECTION_LIMIT = 3.0
# How long the pool itself keeps trying, with growing pauses. After that the next request makes it try at once, so that
# it finds a database that was away for long as soon as one that was not.
RECONNECT_LIMIT = 2.0
CANCEL_LIMIT = 2.0
INSIST_AFTER = (0.5, 1.0, 2.0)  # psycopg waits five seconds for the end of a statement that it cancels
CLOSE_LIMIT = 1.0
WAITING_MAX = 200

# DATABASE_URL overrides these. The time-outs are for networks that vanish without a word.
CONNECTION_DEFAULTS: dict[str, str | int | None] = {
    "connect_timeout": 3,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30000,
}


class Pool:
    """Sessions in autocommit: one statement, one transaction. We set nothing on them, so a pooler may be between."""

    def __init__(self, database_url: str, size: int, name: str = "lockgate-service") -> None:
        self._calls: set[asyncio.Task[Rows]] = set()
        self._at: dict[asyncio.Task[Any] | None, AsyncConnection[Any]] = {}
        """The connection of each call that has one."""
        self._doomed: set[AsyncConnection[Any]] = set()
        """No other call may use these."""
        self._insisting: set[asyncio.Task[None]] = set()
        self._drained_at = 0.0
        self._pool = AsyncConnectionPool(
            make_conninfo("", **CONNECTION_DEFAULTS | {"application_name": name} | conninfo_to_dict(database_url)),
            # Prepared statements are per server session, which a transaction pooler changes under us (PgBouncer before
            # 1.21 always). The functions keep the plans of their own statements anyway.
            kwargs={"autocommit": True, "prepare_threshold": None},
            min_size=min(2, size),
            max_size=size,
            open=False,
            configure=_read_json_as_it_is,
            name="service",
            timeout=CONNECTION_LIMIT,
            max_waiting=WAITING_MAX,
            reconnect_timeout=RECONNECT_LIMIT,
        )

    async def open(self) -> None:
        """Does not wait for the database."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Gives up the calls under way, and cancels them at the server if it can be reached."""
        for call in self._calls:
            if not call.cancelling():  # a second time would interrupt the cancellation at the server
                self._give_up(call)
        if self._calls:
            await asyncio.wait(self._calls, timeout=CANCEL_LIMIT)
        for task in self._insisting:
            task.cancel()
        await self._pool.close(timeout=CLOSE_LIMIT)

    async def rows(
        self, text: str, params: Params = (), limit: float = STATEMENT_LIMIT, *, repeatable: bool = True
    ) -> Rows:
        """Executes one statement and returns its rows.

        Sends a `repeatable` statement again when its connection turns out to be dead. Raises psycopg.Error, and Refusal
        (503) after `limit` seconds: the statement may then still take effect.
        """
        call = asyncio.create_task(self._call(text, params, repeatable))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        call.add_done_callback(retrieve_error)  # the caller has it, or does not wait any more
        try:
            async with asyncio.timeout(limit):
                return await asyncio.shield(call)
        except TimeoutError:
            if limit >= STATEMENT_LIMIT:
                await self._drain()
            raise unavailable(f"the database did not answer within {limit:g} s") from None
        finally:
            # Not awaited: psycopg asks the server to cancel, and waits ten seconds for a server that is silent.
            if not call.done():
                self._give_up(call)

    async def _call(self, text: str, params: Params, repeatable: bool) -> Rows:
        # After a restart all connections of the pool are dead. The pool's own `check` would cost every statement a
        # round trip, and pause for seconds between dead connections.
        for left in range(self._pool.max_size, -1, -1):
            async with self._pool.connection() as connection:
                sent = False
                self._at[asyncio.current_task()] = connection
                try:
                    if not repeatable:
                        await connection.execute("")  # finds out whether it is dead before that matters
                    sent = True
                    cursor = await connection.execute(text.encode(), params)
                    return await cursor.fetchall()
                except OperationalError as error:
                    if not left or (sent and not repeatable) or not _is_of_a_dead_connection(error):
                        raise
                    await connection.close()  # the pool replaces it
                finally:
                    del self._at[asyncio.current_task()]
                    if connection in self._doomed:
                        self._doomed.remove(connection)
                        await connection.close()
        raise AssertionError("not reached")

    async def _drain(self) -> None:
        """Replaces all connections: when a server falls silent they are all dead, and to find that out one by one would
        take a limit for each."""
        if time.monotonic() - self._drained_at > STATEMENT_LIMIT:
            self._drained_at = time.monotonic()
            await self._pool.drain()

    def _give_up(self, call: asyncio.Task[Rows]) -> None:
        call.cancel()
        task = asyncio.create_task(self._insist(call))
        self._insisting.add(task)
        task.add_done_callback(self._insisting.discard)

    async def _insist(self, call: asyncio.Task[Rows]) -> None:
        """Repeats the request to cancel: one that overtakes its statement does nothing, and the statement would go on
        waiting for a lock. A late request must not meet another call's statement, so the connection is closed then."""
        for seconds in INSIST_AFTER:
            await asyncio.wait([call], timeout=seconds)
            if call.done():
                return
            if connection := self._at.get(call):
                self._doomed.add(connection)
                with suppress(Exception):  # psycopg gives up the connection in the end
                    await connection.cancel_safe(timeout=CANCEL_LIMIT)


def retrieve_error(task: asyncio.Task[Any]) -> None:
    """A callback of tasks whose error may have nobody left who waits for it: asyncio does not log it then."""
    if not task.cancelled():
        task.exception()


def _is_of_a_dead_connection(error: OperationalError) -> bool:
    """Without a SQLSTATE the connection broke off; with 57P the server ended it."""
    return error.sqlstate is None or error.sqlstate.startswith("57P")


async def _read_json_as_it_is(connection: AsyncConnection[Any]) -> None:
    """Passes JSON from the database to the client as text."""
    set_json_loads(Raw, connection)


def utc(expression: str) -> str:
    """A timestamptz as text: 2026-05-01T12:00:00.000000Z."""
    return f"""to_char({expression} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


def columns(shape: type[Struct], **sources: str) -> str:
    """The select list of a Struct. A field's column has its name, or is the expression that `sources` has for it; the
    column of a Time becomes text."""

    def column(name: str, declared: Any) -> str:
        source = sources.get(name, name)
        source = utc(source) if _is_time(declared) else source
        return source if source == name else f"{source} as {name}"

    return ", ".join(column(field.name, field.type) for field in structs.fields(shape))


def _is_time(declared: Any) -> bool:
    return _TIME in getattr(declared, "__metadata__", ()) or any(map(_is_time, get_args(declared)))
