"""One structured line per event, on standard output."""

import logging
import sys

import structlog


def configure(format: str, level: str, **bound: str) -> None:  # noqa: A002 - the option's name
    """Sets the format ("auto", "json", "console") and the level; ``bound`` goes with every line."""
    console = format == "console" or (format == "auto" and sys.stdout.isatty())
    structlog.configure(
        processors=[
            _head_first,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.add_log_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(pad_event_to=12) if console else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
    )
    structlog.contextvars.bind_contextvars(**bound)


def _head_first(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Time, level and event lead each JSON line; the rest keeps its order."""
    return {"time": None, "level": None, "event": event.pop("event"), **event}
