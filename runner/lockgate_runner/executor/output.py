"""What a handler prints: logged line by line, and its end kept to be read beside the task. Bounded everywhere."""

import asyncio
import os
import time
from collections.abc import Callable

import structlog

LINE_LIMIT = 8 * 1024
"""Bytes of one logged line; longer ones are cut into several."""

LINES_PER_SECOND = 200
"""Lines of one executor that are logged in a second; of more, only the number is."""

TAIL_LIMIT = 64 * 1024
"""Bytes kept of one task's output, from its end; lockgate.write_output keeps as many characters."""

log = structlog.get_logger()


class Tail:
    """The last bytes of one task's output that are not stored yet."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, data: bytes) -> None:
        self._bytes += data
        if len(self._bytes) > 2 * TAIL_LIMIT:
            del self._bytes[:-TAIL_LIMIT]

    def text(self) -> str:
        """As Postgres takes it: no NUL, nothing that is not UTF-8."""
        return bytes(self._bytes[-TAIL_LIMIT:]).decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


class Output:
    """The reading end of one executor's standard output and error.

    ``keep`` is called with a task, its lease and the bytes printed since it began, also by a thread it left behind.
    """

    def __init__(self, descriptor: int, keep: Callable[[int, int, bytes], None]) -> None:
        self._descriptor = descriptor
        self._keep = keep
        self._tag: dict[str, object] = {}
        self._task: tuple[int, int] | None = None
        self._rest = b""
        self._second = 0
        self._logged = 0
        self._left_out = 0
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def begin(self, task: int, lease: int, tag: dict[str, object]) -> None:
        """What comes from now on is of this task."""
        self.drain()
        self._task, self._tag = (task, lease), tag

    def drain(self) -> None:
        """Takes in all that has been printed by now: a pipe's content at most, since this does not wait for more."""
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
        if self._task:
            self._keep(*self._task, data)
        self._log(data)
        return True

    def _log(self, data: bytes) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._say_left_out()
            self._second, self._logged = second, 0
        if self._logged >= LINES_PER_SECOND:  # not even taken apart: a handler may print a gigabyte
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
        self._say_left_out()

    def _say_left_out(self) -> None:
        if self._left_out:
            log.info("output left out", lines=self._left_out, **self._tag)
            self._left_out = 0
