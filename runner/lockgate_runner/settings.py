"""What a runner is told from outside: click options, each also an environment variable, as one frozen value."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec


class Settings(msgspec.Struct, frozen=True):
    """A runner's settings; durations in seconds."""

    database_url: str
    name: str | None
    queues: tuple[str, ...]
    concurrency: int
    poll: float
    shutdown_timeout: float
    kill_after: float
    recycle_tasks: int
    recycle_memory: int
    memory_limit: int
    metrics: str | None
    activation: int | None
    log_format: str
    log_level: str


def _database_url_file() -> str:
    """For secrets mounted as files.

    Raises:
        click.UsageError: there is none, or it cannot be read.
    """
    name = os.environ.get("DATABASE_URL_FILE")
    if not name:
        raise click.UsageError("Missing option '--database-url' (env var: 'DATABASE_URL').")
    try:
        return Path(name).read_text().strip()
    except OSError as error:
        raise click.UsageError(f"DATABASE_URL_FILE: {error}") from None


def _address(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    """[HOST:]PORT, which stays as it is said: it may have to be said again.

    Raises:
        click.BadParameter: it is something else.
    """
    if not text:
        return None
    port = text.rpartition(":")[2]
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise click.BadParameter(f"{text!r} is not of the form [HOST:]PORT, as in 9101 or 0.0.0.0:9101")
    return text


OPTIONS: list[Callable[[Any], Any]] = [
    click.option(
        "--database-url", envvar="DATABASE_URL", required=True, show_envvar=True, metavar="URL",
        default=_database_url_file, show_default="the content of the file DATABASE_URL_FILE",
        help="Postgres itself, not a pooler in front of it: slots are locks of the session.",
    ),
    click.option(
        "--queue", "queues", envvar="LOCKGATE_QUEUES", multiple=True, show_envvar=True, metavar="NAME",
        help="Serve only this queue; may be given several times. [default: all]",
    ),
    click.option(
        "--concurrency", envvar="LOCKGATE_CONCURRENCY", type=click.IntRange(1, 1000), default=1, show_default=True,
        show_envvar=True, help="Slots this runner may hold at once, each with a child process.",
    ),
    click.option(
        "--poll", envvar="LOCKGATE_POLL", type=click.FloatRange(0.05, 60), default=1.0, show_default=True,
        show_envvar=True, help="Seconds between two looks at the queue when no notification comes.",
    ),
    click.option(
        "--shutdown-timeout", envvar="LOCKGATE_SHUTDOWN_TIMEOUT", type=click.FloatRange(0, 86400), default=30.0,
        show_default=True, show_envvar=True,
        help="Seconds running tasks get to end after SIGTERM, before they are given back.",
    ),
    click.option(
        "--kill-after", envvar="LOCKGATE_KILL_AFTER", type=click.FloatRange(0, 3600), default=5.0, show_default=True,
        show_envvar=True, help="Seconds between asking a handler to stop and killing it.",
    ),
    click.option(
        "--recycle-tasks", envvar="LOCKGATE_RECYCLE_TASKS", type=click.IntRange(0), default=0, show_default=True,
        show_envvar=True, help="Replace a handler process after so many tasks; 0 = never.",
    ),
    click.option(
        "--recycle-memory", envvar="LOCKGATE_RECYCLE_MEMORY", type=click.IntRange(0), default=0, show_default=True,
        show_envvar=True, metavar="MIB", help="Replace it after a task when it occupies more than this; 0 = never.",
    ),
    click.option(
        "--memory-limit", envvar="LOCKGATE_MEMORY_LIMIT", type=click.IntRange(0), default=0, show_default=True,
        show_envvar=True, metavar="MIB", help="Kill it, and fail the attempt, when it occupies more; 0 = no limit.",
    ),
    click.option(
        "--metrics", envvar="LOCKGATE_METRICS", show_envvar=True, metavar="[HOST:]PORT", callback=_address,
        help="Where to serve metrics for Prometheus, at /metrics. [default: nowhere]",
    ),
    click.option(
        "--name", envvar="LOCKGATE_RUNNER_NAME", show_envvar=True,
        help="Name of this process, never used again. [default: host-pid-random]",
    ),
    click.option("--activation", envvar="LOCKGATE_ACTIVATION", type=click.IntRange(0), hidden=True),
    click.option(
        "--log-format", envvar="LOCKGATE_LOG_FORMAT", type=click.Choice(["auto", "json", "console"]), default="auto",
        show_default=True, show_envvar=True, help="auto: console on a terminal, JSON lines elsewhere.",
    ),
    click.option(
        "--log-level", envvar="LOCKGATE_LOG_LEVEL", type=click.Choice(["debug", "info", "warning", "error"]),
        default="info", show_default=True, show_envvar=True, help="Leave out what is less important.",
    ),
]  # fmt: skip


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a click command every option of a runner."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command
