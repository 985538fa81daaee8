"""The output of handlers: logged line by line, and its end kept to be stored beside the task. Bounded everywhere."""

import asyncio
import os
import time
from collections.abc import Callable

import msgspec
import structlog

from lockgate_runner.executor.protocol import Execute

LINE_LIMIT = 8 * 1024
"""Bytes of one logged line; longer ones are cut into several."""

LINES_PER_SECOND = 200
"""Lines of one executor that are logged in a second; of more, only their number is."""

TAIL_LIMIT = 64 * 1024
"""Bytes kept of one task's output, from its end; lockgate.write_output keeps as many characters."""

log = structlog.get_logger()


class Tail:
    """The last bytes of one task's output that are not stored yet."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, data: bytes) -> bool:
        """Adds bytes; returns whether there were none before."""
        empty = not self._bytes
        self._bytes += data
        if len(self._bytes) > 2 * TAIL_LIMIT:
            del self._bytes[:-TAIL_LIMIT]
        return empty

    def take(self) -> str:
        """Empties it; returns the text as Postgres takes it: no NUL, nothing that is not UTF-8."""
        taken, self._bytes = bytes(self._bytes[-TAIL_LIMIT:]), bytearray()
        return taken.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


class Printed(msgspec.Struct, frozen=True):
    """Answer of an executor: there is output of this task to store. Not said again before the tail was taken."""

    task: int
    lease: int
    tail: Tail


class Output:
    """The reading end of one executor's standard output and error.

    All output belongs to the task that began last, also when a thread prints that an earlier one has left behind.
    """

    def __init__(self, descriptor: int, answer: Callable[[Printed], None]) -> None:
        self._descriptor = descriptor
        self._answer = answer
        self._tag: dict[str, object] = {}
        self._task: Printed | None = None
        self._rest = b""
        self._second = 0
        self._logged = 0
        self._left_out = 0
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def begin(self, order: Execute) -> None:
        """Counts the output from now on as this task's."""
        self.drain()
        self._task = Printed(order.task, order.lease, Tail())
        self._tag = {"queue": order.queue, "task": order.task, "kind": order.kind, "lease": order.lease}

    def drain(self) -> None:
        """Reads the output there is, at most as much as a pipe holds; does not wait for more."""
        for _ in range(32):
            if not self._read():
                return

    def close(self) -> None:
        if self._descriptor >= 0:
            self.drain()
            self._end_line()
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self) -> bool:
        try:
            data = os.read(self._descriptor, 64 * 1024)
        except BlockingIOError:
            return False
        if not data:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            return False
        if self._task and self._task.tail.add(data):
            self._answer(self._task)
        self._log(data)
        return True

    def _log(self, data: bytes) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._log_left_out()
            self._second, self._logged = second, 0
        if self._logged >= LINES_PER_SECOND:  # not even split into lines: a handler may print a gigabyte
            self._left_out += data.count(b"\n")
            self._rest = b""
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > LINE_LIMIT:
            lines.append(self._rest[:LINE_LIMIT])
            self._rest = self._rest[LINE_LIMIT:]
        room = LINES_PER_SECOND - self._logged
        for line in lines[:room]:
            log.info("output", line=line[:LINE_LIMIT].decode(errors="replace"), **self._tag)
        self._logged += len(lines[:room])
        self._left_out += len(lines[room:])

    def _end_line(self) -> None:
        if self._rest:
            log.info("output", line=self._rest.decode(errors="replace"), **self._tag)
            self._rest = b""
        self._log_left_out()

    def _log_left_out(self) -> None:
        if self._left_out:
            log.info("output left out", lines=self._left_out, **self._tag)
            self._left_out = 0
