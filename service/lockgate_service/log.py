"""Logging: one structured line per event on stdout, as JSON unless a person watches.

Lines of our own do not take the way through the standard library: it costs an eighth of a request.
"""

import contextlib
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, BinaryIO

import msgspec
import structlog

FORMATS = ("auto", "json", "console")
LEVELS = ("debug", "info", "warning", "error")

logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def configure(log_format: str, level: str) -> None:
    """Sets up structlog, and what logs through the standard library: uvicorn, psycopg, Litestar."""
    console = log_format == "console" or (log_format == "auto" and sys.stdout.isatty())
    processors: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback), _encoded]
        if console
        else [structlog.processors.format_exc_info, _as_json]
    )
    structlog.configure(
        processors=[_in_order, *processors],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: _Lines(sys.stdout.buffer),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Others()]
    root.setLevel(level.upper())
    # These say something about every request; uvicorn's start and stop are logged by ourselves.
    for noisy in ("psycopg.pool", "uvicorn.error", "asyncio"):
        logging.getLogger(noisy).setLevel("DEBUG" if level == "debug" else "WARNING")


class _Lines:
    """Writes lines. Nothing fails for want of a reader."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output

    def msg(self, line: bytes) -> None:
        with contextlib.suppress(OSError):
            self._output.write(line + b"\n")
            self._output.flush()

    debug = info = warning = error = critical = msg


class _Others(logging.Handler):
    """Passes on what is logged through the standard library."""

    def emit(self, record: logging.LogRecord) -> None:
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        try:
            logger.log(level, record.getMessage(), logger=record.name, exc_info=record.exc_info)
        except Exception:  # the way of the standard library: whoever logs is not to fail by it
            self.handleError(record)


def _in_order(_: object, level: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """What every line has comes first."""
    time = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    head = {"time": time, "level": level, "logger": event.pop("logger", "service"), "event": event.pop("event")}
    return head | dict(event)


def _encoded(_: object, __: str, line: Any) -> bytes:
    text: str = line
    return text.encode(errors="backslashreplace")


_encoder = msgspec.json.Encoder(enc_hook=repr)


def _as_json(_: object, __: str, event: structlog.typing.EventDict) -> bytes:
    try:
        return _encoder.encode(event)
    except UnicodeEncodeError:  # a lone surrogate, of a path perhaps
        return json.dumps(event, default=repr).encode()
