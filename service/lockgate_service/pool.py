"""The way to the database: a few connections, and a limit on every wait for one and every answer."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from psycopg import AsyncConnection, OperationalError
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool

from lockgate_service.http.problems import unavailable

Params = Sequence[object] | Mapping[str, object]
Rows = list[tuple[Any, ...]]

# Seconds.
STATEMENT_LIMIT = 5.0
CONNECTION_LIMIT = 3.0
# How long the pool itself goes on trying, with growing pauses. After that the next request makes it try at once, so
# that a database which was away for long is found again as soon as one which was not.
RECONNECT_LIMIT = 2.0
CANCEL_LIMIT = 2.0
INSIST_AFTER = (0.5, 1.0, 2.0)  # psycopg waits five seconds for the end of what it has asked to cancel
CLOSE_LIMIT = 1.0
WAITING_MAX = 200

# What DATABASE_URL says comes before these. The time-outs are for networks that vanish without a word.
CONNECTION_DEFAULTS: dict[str, str | int | None] = {
    "application_name": "lockgate-service",
    "connect_timeout": 3,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30000,
}


class Pool:
    """Sessions in autocommit: one statement, one transaction. Nothing is set on them, so a pooler may be between."""

    def __init__(self, database_url: str, size: int) -> None:
        self._calls: set[asyncio.Task[Rows]] = set()
        self._at: dict[asyncio.Task[Any] | None, AsyncConnection[Any]] = {}
        """The connection of each call that has one."""
        self._doomed: set[AsyncConnection[Any]] = set()
        """No other call may have these."""
        self._insisting: set[asyncio.Task[None]] = set()
        self._drained_at = 0.0
        self._pool = AsyncConnectionPool(
            make_conninfo("", **CONNECTION_DEFAULTS | conninfo_to_dict(database_url)),
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
        """What is given up by now is, if the server can be reached, given up there too."""
        for call in self._calls:
            if not call.cancelling():  # a second time would break off telling the server
                self._give_up(call)
        if self._calls:
            await asyncio.wait(self._calls, timeout=CANCEL_LIMIT)
        for task in self._insisting:
            task.cancel()
        await self._pool.close(timeout=CLOSE_LIMIT)

    async def rows(
        self, text: str, params: Params = (), limit: float = STATEMENT_LIMIT, *, repeatable: bool = True
    ) -> Rows:
        """Executes one statement and returns what it returns.

        A statement that is `repeatable` is sent again when its connection turns out to be dead. Raises psycopg.Error,
        and Refusal (503) after `limit` seconds: the statement may then still take effect.
        """
        call = asyncio.create_task(self._call(text, params, repeatable))
        self._calls.add(call)
        call.add_done_callback(self._forget)
        try:
            async with asyncio.timeout(limit):
                return await asyncio.shield(call)
        except TimeoutError:
            if limit >= STATEMENT_LIMIT:
                await self._drain()
            raise unavailable(f"the database did not answer within {limit:g} s") from None
        finally:
            # Not awaited: psycopg asks the server to cancel, and gives a server that is silent ten seconds for that.
            if not call.done():
                self._give_up(call)

    async def _call(self, text: str, params: Params, repeatable: bool) -> Rows:
        # A restart leaves as many dead connections as the pool has. Not the pool's own `check`: that one costs every
        # statement a round trip, and pauses for seconds between dead connections.
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
        """Replaces all connections: when a server falls silent they are all dead, and one by one would take as often
        as long as one has taken."""
        if time.monotonic() - self._drained_at > STATEMENT_LIMIT:
            self._drained_at = time.monotonic()
            await self._pool.drain()

    def _give_up(self, call: asyncio.Task[Rows]) -> None:
        call.cancel()
        task = asyncio.create_task(self._insist(call))
        self._insisting.add(task)
        task.add_done_callback(self._insisting.discard)

    async def _insist(self, call: asyncio.Task[Rows]) -> None:
        """A request to cancel that overtakes its statement does nothing, and the statement would go on waiting for a
        lock, with nobody waiting for it: it is made again. One that is late must meet nobody else's statement."""
        for seconds in INSIST_AFTER:
            await asyncio.wait([call], timeout=seconds)
            if call.done():
                return
            if connection := self._at.get(call):
                self._doomed.add(connection)
                with suppress(Exception):  # psycopg gives up the connection in the end
                    await connection.cancel_safe(timeout=CANCEL_LIMIT)

    def _forget(self, call: asyncio.Task[Rows]) -> None:
        self._calls.discard(call)
        if not call.cancelled():
            call.exception()  # has been seen, or nobody waits for it any more


def _is_of_a_dead_connection(error: OperationalError) -> bool:
    """No SQLSTATE: the server did not say goodbye. 57P: it did."""
    return error.sqlstate is None or error.sqlstate.startswith("57P")


async def _read_json_as_it_is(connection: AsyncConnection[Any]) -> None:
    """JSON goes from the database to the client unread."""
    set_json_loads(msgspec.Raw, connection)
