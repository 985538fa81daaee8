"""Statements on libpq itself, one after another, for a quarter of what a cursor costs.

The runner's CPU time is most of what a task costs, and a cursor takes most of that: it adapts parameters, plans for any
query, and registers with the event loop each time. A runner sends a few texts, always the same ones, with ``$1`` for
the first parameter as in Postgres itself.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg import abc
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus

PREPARE_AFTER = 3
"""How often a text is sent before it is prepared. That takes a round trip, and many are sent once in a session."""


class _Statement:
    """One text: whether the server has it prepared, and how its rows are read."""

    def __init__(self, text: str, number: int) -> None:
        self.text = text.encode()
        self.name = b"statement %d" % number
        self.prepared = False
        self.sent = 0
        self.columns: list[str] | None = None
        self.loading: abc.Transformer


class Statements:
    """The statements of one connection. Only one coroutine may use it, and must close it before the connection."""

    def __init__(self, connection: "psycopg.AsyncConnection[Any]") -> None:
        self._connection = connection
        self._server = connection.pgconn
        self._socket = connection.pgconn.socket
        self._loop = asyncio.get_running_loop()
        self._dumping = Transformer(connection)
        self._statements: dict[str, _Statement] = {}
        self._answer: asyncio.Future[None] | None = None
        self._end: psycopg.OperationalError | None = None
        self._watching = False

    async def fetch(self, text: str, parameters: Sequence[object], row: Callable[..., Any]) -> list[Any]:
        """Sends one statement. Returns its rows: as tuples, or made by `row` of the columns by their names.

        Raises:
            psycopg.Error: the server refused it, or the connection is lost (then it is closed).
        """
        if self._end:
            raise self._end
        statement = self._statements.get(text)
        if statement is None:
            statement = self._statements[text] = _Statement(text, len(self._statements))
        values = self._dumping.dump_sequence(parameters, [PyFormat.TEXT] * len(parameters))
        try:
            if not statement.prepared and statement.sent >= PREPARE_AFTER:
                self._server.send_prepare(statement.name, statement.text)
                await self._result()
                statement.prepared = True
            statement.sent += 1
            if statement.prepared:
                self._server.send_query_prepared(statement.name, values)
            else:
                self._server.send_query_params(statement.text, values)
            result = await self._result()
        finally:
            if self._server.status == ConnStatus.BAD:
                self.close()  # libpq has closed the socket, and its number may soon be another's
        if statement.columns is None:
            statement.columns = [(result.fname(n) or b"").decode() for n in range(result.nfields)]
            statement.loading = Transformer(self._connection)
            statement.loading.set_pgresult(result)
        else:
            statement.loading.set_pgresult(result, set_loaders=False)
        columns = statement.columns
        rows = statement.loading.load_rows(0, result.ntuples, tuple)
        return rows if row is tuple else [row(**dict(zip(columns, record, strict=True))) for record in rows]

    def close(self) -> None:
        """Forgets the socket. The session closes the connection."""
        if self._watching:
            self._watching = False
            self._loop.remove_reader(self._socket)

    async def _result(self) -> Any:
        """Returns the one result of what was sent. Raises psycopg.Error."""
        server = self._server
        while server.flush():  # a megabyte is under way
            await self._writable()
        last = None
        while True:
            if server.is_busy():
                await self._answered()
            elif result := server.get_result():
                last = result
            else:
                break
        if last is None:
            raise psycopg.OperationalError("the server said nothing")
        if last.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
            raise error_from_result(last, self._connection.info.encoding)
        return last

    async def _answered(self) -> None:
        if not self._watching:
            self._watching = True
            self._loop.add_reader(self._socket, self._read)
        self._answer = self._loop.create_future()
        try:
            await self._answer
        finally:
            self._answer = None

    def _read(self) -> None:
        """Reads what has come. Here and not where it is waited for, or the loop would call this once more for it."""
        waiting = self._answer if self._answer and not self._answer.done() else None
        try:
            self._server.consume_input()
        except psycopg.OperationalError as error:
            self.close()  # the socket is no more
            self._end = error
            if waiting:
                waiting.set_exception(error)
        else:
            if waiting and not self._server.is_busy():
                waiting.set_result(None)

    async def _writable(self) -> None:
        writable = asyncio.Event()
        self._loop.add_writer(self._socket, writable.set)
        try:
            await writable.wait()
        finally:
            self._loop.remove_writer(self._socket)
