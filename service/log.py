"""Logging: one structured line per event on stdout, as JSON unless a person watches."""

import logging
import sys

import structlog

FORMATS = ("auto", "json", "console")
LEVELS = ("debug", "info", "warning", "error")

logger: structlog.stdlib.BoundLogger = structlog.get_logger("service")


def configure(log_format: str, level: str) -> None:
    """Sets up structlog and everything that logs through the standard library: uvicorn, psycopg, Litestar."""
    console = log_format == "console" or (log_format == "auto" and sys.stdout.isatty())
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    rendered: list[structlog.types.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if console
        else [structlog.processors.format_exc_info, _in_order, structlog.processors.JSONRenderer(ensure_ascii=False)]
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These say something about every request; uvicorn's start and stop are logged by ourselves.
    for noisy in ("psycopg.pool", "uvicorn.error", "asyncio"):
        logging.getLogger(noisy).setLevel("DEBUG" if level == "debug" else "WARNING")


def _in_order(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """What every line has comes first."""
    return {name: event.pop(name) for name in ("time", "level", "logger", "event")} | dict(event)
