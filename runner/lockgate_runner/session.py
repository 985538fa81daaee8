"""The slot session: the one connection whose advisory locks are the slots, and that claims, finishes and pings.

A held lock is only as good as the session behind it. So the runner dates every answer by when it *sent* the statement:
the session was certainly alive after that moment. The runner never cancels a statement here. When an answer does not
come in time, it takes the session for lost, and finds out on the next one whether the statement took effect.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, LiteralString

import msgspec
import psycopg
from psycopg.types.json import set_json_loads

from lockgate_runner.executor import watchdog
from lockgate_runner.statements import Statements

CONNECT_LIMIT = 3
"""Seconds one attempt to connect may take; libpq takes whole ones."""


class SessionLost(Exception):
    """The session is gone, or must be taken for gone; its locks may be somebody else's by now."""


class NotDirect(Exception):
    """The database URL leads to a connection pooler, or to a server that is no primary."""


class SchemaTooOld(Exception):
    """The database's schema is of an earlier version than this program needs."""


class Session:
    """A registered slot session. Times are on the clock of deadlines."""

    def __init__(self, connection: "psycopg.AsyncConnection[Any]", grace: float) -> None:
        self.number = 0
        """Its number in lockgate.runner, the mark on its running tasks."""
        self.pid = connection.info.backend_pid
        self.backend_start: datetime | None = None
        self.sent = watchdog.now()
        """When the last statement that was answered had been sent."""
        self.grace = grace
        """The smallest grace this session has to serve; see `fit`."""
        self._connection = connection
        self._statements = Statements(connection)
        self._hung_up = False

    @property
    def limit(self) -> float:
        """Seconds a statement may take before the session counts as lost: leaves time to reconnect within the grace."""
        return 0.4 * self.grace

    @classmethod
    async def open(cls, url: str, name: str, grace: float) -> "Session":
        """Connects and makes the session what slots need, whatever the server's or the login's defaults are.

        Raises:
            NotDirect: a pooler answers, or a standby.
            SessionLost: no connection, or it was lost at once; the text says why.
        """
        try:
            connection = await psycopg.AsyncConnection.connect(
                url,
                autocommit=True,
                connect_timeout=CONNECT_LIMIT,
                application_name=f"lockgate-runner {name}"[:63],
                keepalives_idle=2,
                keepalives_interval=1,
                keepalives_count=3,
            )
        except psycopg.OperationalError as error:
            raise SessionLost(str(error).strip()) from None
        set_json_loads(_raw, connection)
        session = cls(connection, grace)
        try:
            await (
                session.ping()
            )  # first: behind a pooler, the settings of `fit` would stay with another client's session
            await session.fit(grace)
            ((session.backend_start,),) = await session.fetch(
                "select backend_start from pg_stat_activity where pid = pg_backend_pid()"
            )
        except BaseException:
            await session.close()
            raise
        return session

    async def fit(self, grace: float) -> None:
        """Sets what a slot's session depends on and reads it back: a login may have other defaults.

        Raises:
            NotDirect: the server keeps a setting of its own.
        """
        self.grace = grace
        milliseconds = int(self.limit * 1000)
        wanted = {
            "default_transaction_isolation": "read committed",
            "default_transaction_read_only": "off",
            "idle_session_timeout": "0",
            "idle_in_transaction_session_timeout": "0",
            "statement_timeout": "0",
            "lock_timeout": str(milliseconds // 2),
            "synchronous_commit": "on",
            # A server that has lost us frees the slot in seconds, also with data under way, when keepalives are mute.
            "tcp_keepalives_idle": "2",
            "tcp_keepalives_interval": "1",
            "tcp_keepalives_count": "3",
            "tcp_user_timeout": str(milliseconds),
            "transaction_timeout": "0",  # since PostgreSQL 17
        }
        rows = await self.fetch(
            "select s.name, set_config(s.name, w.value, false), s.vartype, inet_server_addr() is not null"
            " from jsonb_each_text($1::jsonb) w(name, value) join pg_settings s on s.name = w.name",
            msgspec.json.encode(wanted).decode(),
        )
        over_tcp = any(row[3] for row in rows)
        for name, value, kind, _ in rows:
            if name.startswith("tcp_") and not over_tcp:
                continue  # a Unix socket has no such settings and always says 0
            same = value == wanted[name] or (kind == "integer" and _milliseconds(value) == int(wanted[name]))
            if not same:
                raise NotDirect(f"the server keeps {name} at {value}; slots need {wanted[name]}")

    async def ping(self) -> None:
        """Checks that the session lives, is still the same, and on a primary. Touches no table.

        Raises:
            SessionLost: it is not.
            NotDirect: another backend answers than the one we connected to.
        """
        ((pid, in_recovery),) = await self.fetch("select pg_backend_pid(), pg_is_in_recovery()")
        if pid != self.pid:
            raise NotDirect(
                f"connected to backend {self.pid}, but {pid} answers: DATABASE_URL leads to a connection pooler. "
                "Give runners a DATABASE_URL that goes straight to Postgres"
            )
        if in_recovery:
            raise SessionLost("the server is a standby")

    async def fetch(self, query: LiteralString, *parameters: object, row: Callable[..., Any] = tuple) -> list[Any]:
        """Sends one statement, and dates the session by its sending. Returns the rows, each made by `row`.

        Raises:
            SessionLost: no answer within the limit, or the connection broke. The statement may have taken effect.
            psycopg.DatabaseError: the server refused the statement; nothing took effect and the session lives.
        """
        sent = watchdog.now()
        # No timeout of asyncio's, which would cancel, and no task around it, which costs half as much as the statement.
        timer = asyncio.get_running_loop().call_later(self.limit, self.hang_up)
        try:
            rows = await self._statements.fetch(query, parameters, row)
        except (psycopg.Error, OSError) as error:
            if self._hung_up:
                raise SessionLost(f"no answer within {self.limit:.1f} s") from None
            if isinstance(error, psycopg.Error) and not self._connection.closed:
                self.sent = max(self.sent, sent)
                raise
            raise SessionLost(str(error).strip() or type(error).__name__) from None
        finally:
            timer.cancel()
        self.sent = max(self.sent, sent)
        return rows

    def hang_up(self) -> None:
        """Cuts the connection. A cancel would take time, and leave open whether the statement took effect."""
        self._hung_up = True
        with suppress(OSError, psycopg.Error):
            ours = socket.socket(fileno=os.dup(self._connection.pgconn.socket))
            with ours:
                ours.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        self._statements.close()
        with suppress(psycopg.Error, OSError):
            await self._connection.close()


def _raw(data: bytes | str) -> msgspec.Raw:
    """Leaves JSON columns as they are: the runner passes a payload on to the executor without parsing it."""
    return msgspec.Raw(data.encode() if isinstance(data, str) else bytes(data))


_UNITS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def _milliseconds(value: str) -> int | None:
    """set_config answers in a unit of its own choice ("2s" for 2000); keepalive settings in plain seconds."""
    number = value.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = value[len(number) :]
    return int(number) * _UNITS.get(unit, 1) if number.lstrip("-").isdigit() else None
