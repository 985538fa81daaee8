"""The log of every program: one structured line per event on standard output, as JSON unless a person watches.

A thread of its own writes the lines. A reader that is slow, or stops reading, must not hold up the program: a runner
that waited for it would not ping, and would lose its executors. Our own lines do not pass through the standard
library, which costs an eighth of a request.
"""

import atexit
import json
import logging
import os
import select
import sys
import threading
import time
from collections import deque
from datetime import UTC, datetime

import msgspec
import structlog

FORMATS = ("auto", "json", "console")
LEVELS = ("debug", "info", "warning", "error")

WAITING_LIMIT = 4 * 1024 * 1024  # characters that may wait to be written; later lines are dropped and counted
GATHER = 0.01  # seconds in which lines are gathered: to wake for each costs a busy runner a tenth of its time
GATHER_MOST = 0.1  # the same while many lines come: to wake every 10 ms costs a busy service a seventh
MANY = 8  # lines in one gathering, from which on the next takes twice as long
AT_ONCE = 64 * 1024  # characters written at once, about
LAST_LIMIT = 1.0  # seconds in which a process that ends writes its last lines

# Libraries whose lines repeat what our own lines say of a broken connection, of a request, of a start and a stop.
QUIET = {"psycopg": "ERROR", "psycopg.pool": "WARNING", "uvicorn.error": "WARNING", "asyncio": "WARNING"}

logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
_writers: list["Writer"] = []


def configure(log_format: str, level: str, *, name: str | None = None, **bound: str) -> None:
    """Set the format and the level for structlog and for what logs through the standard library.

    `name`: the value of the field `logger` in our own lines; None leaves the field out. `bound` ends every line.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stdout.isatty())
    writer = Writer(sys.stdout.fileno())
    _writers[:] = [writer]
    processors: list[structlog.typing.Processor] = [_head(name, bound)]
    if console:
        plain, colours = structlog.dev.plain_traceback, sys.stdout.isatty()
        processors += [structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=12, exception_formatter=plain)]
    else:
        processors += [structlog.processors.format_exc_info, _as_json]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_FromStandardLibrary()]
    root.setLevel(level.upper())
    for library, least in QUIET.items():
        logging.getLogger(library).setLevel("DEBUG" if level == "debug" else least)


def flush() -> None:
    """Wait until all lines are written, for LAST_LIMIT at most: call it before `os._exit`."""
    for writer in _writers:
        writer.flush(LAST_LIMIT)


atexit.register(flush)


class Writer:
    """Takes lines without waiting, and writes them in order as fast as they are read."""

    def __init__(self, descriptor: int, limit: int = WAITING_LIMIT) -> None:
        self._descriptor = descriptor
        self._limit = limit
        self._lines: deque[str] = deque()
        self._waiting = 0
        self._left_out = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._write_all, name="log", daemon=True).start()

    def msg(self, line: str) -> None:
        with self._changed:
            if self._waiting + len(line) > self._limit:
                self._left_out += 1
                return
            if self._left_out:
                left_out, self._left_out = self._left_out, 0
                logger.warning("log lines left out", lines=left_out)
            self._lines.append(line)
            self._waiting += len(line)
            self._changed.notify_all()

    debug = info = warning = error = critical = msg

    def flush(self, limit: float) -> None:
        """Wait until all lines are written, at most so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, limit)

    def _write_all(self) -> None:
        pause = GATHER
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
            time.sleep(pause)
            written = 0
            while lines := self._take():
                self._write("".join(f"{line}\n" for line in lines).encode(errors="backslashreplace"))
                written += len(lines)
                with self._changed:
                    self._waiting -= sum(map(len, lines))
                    self._changed.notify_all()
            pause = min(2 * pause, GATHER_MOST) if written > MANY else GATHER

    def _take(self) -> list[str]:
        """The next lines to write at once."""
        lines, size = [], 0
        with self._changed:
            while self._lines and size < AT_ONCE:
                lines.append(self._lines.popleft())
                size += len(lines[-1])
        return lines

    def _write(self, data: bytes) -> None:
        # Not through sys.stdout: the end of the interpreter would wait for its lock in vain.
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError:
                return  # nobody will ever read it; work goes on


class _FromStandardLibrary(logging.Handler):
    """Passes on what is logged through the standard library."""

    def emit(self, record: logging.LogRecord) -> None:
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        try:
            logger.log(level, record.getMessage(), logger=record.name, exc_info=record.exc_info)
        except Exception:  # as in the standard library: a program does not fail because it logs
            self.handleError(record)


def _head(name: str | None, bound: dict[str, str]) -> structlog.typing.Processor:
    """Return what puts time, level, logger and event first, and what is bound last."""

    def arrange(_: object, level: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        head = {"time": datetime.now(UTC).isoformat().replace("+00:00", "Z"), "level": level}
        if logged_by := event.pop("logger", name):
            head["logger"] = logged_by
        return head | {"event": event.pop("event"), **event, **bound}

    return arrange


_encoder = msgspec.json.Encoder(enc_hook=repr)


def _as_json(_: object, __: str, event: structlog.typing.EventDict) -> str:
    try:
        return _encoder.encode(event).decode()
    except UnicodeEncodeError:  # a lone surrogate, perhaps of a path
        return json.dumps(event, default=repr)
