"""One structured line per event, on standard output, written by a thread of its own.

Whoever reads it may be slow or stop reading. A runner that waited for him would stop to ping, and lose its executors.
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

WAITING_LIMIT = 4 * 1024 * 1024
"""Characters that may wait to be written; lines beyond that are left out, and their number is said later."""

GATHER = 0.01
"""Seconds in which lines are gathered: a thread that wakes for each costs a busy runner a tenth of its time."""

AT_ONCE = 64 * 1024
"""Characters written at once, about."""

LAST_LIMIT = 1.0
"""Seconds a process that ends gives its last lines to be written."""

log = structlog.get_logger()


def configure(format: str, level: str, **bound: str) -> None:  # noqa: A002 - the option's name
    """Sets the format ("auto", "json", "console") and the level; ``bound`` goes with every line."""
    console = format == "console" or (format == "auto" and sys.stdout.isatty())
    writer = Writer(sys.stdout.fileno())
    atexit.register(writer.flush, LAST_LIMIT)
    structlog.configure(
        processors=[
            _Head(bound),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(pad_event_to=12) if console else _as_json,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=True,
    )
    # It would say on standard error, in lines of another kind, what our own lines say of a connection that breaks.
    logging.getLogger("psycopg").setLevel(logging.ERROR)


class Writer:
    """Takes lines without ever waiting, and writes them in their order as fast as they are read."""

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
                log.warning("log lines left out", lines=left_out)
            self._lines.append(line)
            self._waiting += len(line)
            self._changed.notify_all()

    debug = info = warning = error = critical = msg

    def flush(self, limit: float) -> None:
        """Waits until all is written, at most so many seconds."""
        end = time.monotonic() + limit
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, max(0.0, end - time.monotonic()))

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
            time.sleep(GATHER)
            with self._changed:
                lines, size = [], 0
                while self._lines and size < AT_ONCE:
                    lines.append(self._lines.popleft())
                    size += len(lines[-1])
            self._write("".join(f"{line}\n" for line in lines).encode(errors="backslashreplace"))
            with self._changed:
                self._waiting -= size
                self._changed.notify_all()

    def _write(self, data: bytes) -> None:
        # Not through sys.stdout, whose lock the end of the interpreter would wait for in vain.
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError:
                return  # nobody will ever read it; work goes on


class _Head:
    """Time, level and event lead each line, what is bound ends it; the rest keeps its order."""

    def __init__(self, bound: dict[str, str]) -> None:
        self._bound = bound

    def __call__(self, _: object, level: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        time = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        return {"time": time, "level": level, "event": event.pop("event"), **event, **self._bound}


_encoder = msgspec.json.Encoder(enc_hook=repr)


def _as_json(_: object, __: str, event: structlog.typing.EventDict) -> str:
    try:
        return _encoder.encode(event).decode()
    except UnicodeEncodeError:  # a lone surrogate, of a file's name perhaps
        return json.dumps(event, default=repr)
