"""The settings of a runner: click options, each also an environment variable, as one frozen value."""

from collections.abc import Callable
from typing import Any

import click
import msgspec

from lockgate.options import LOG_FORMAT, LOG_LEVEL, METRICS, database_url, option


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


OPTIONS: list[Callable[[Any], Any]] = [
    database_url("Postgres itself, not a pooler in front of it: slots are locks of the session."),
    option(
        "LOCKGATE_QUEUES", "--queue", "queues", multiple=True, metavar="NAME",
        help="Serve only this queue; may be given several times. [default: all]",
    ),
    option(
        "LOCKGATE_CONCURRENCY", "--concurrency", type=click.IntRange(1, 1000), default=1,
        help="Slots this runner may hold at once, each with a child process.",
    ),
    option(
        "LOCKGATE_POLL", "--poll", type=click.FloatRange(0.05, 60), default=1.0,
        help="Seconds between two looks at the queue when no notification comes.",
    ),
    option(
        "LOCKGATE_SHUTDOWN_TIMEOUT", "--shutdown-timeout", type=click.FloatRange(0, 86400), default=30.0,
        help="Seconds running tasks get to end after SIGTERM, before they are given back.",
    ),
    option(
        "LOCKGATE_KILL_AFTER", "--kill-after", type=click.FloatRange(0, 3600), default=5.0,
        help="Seconds between asking a handler to stop and killing it.",
    ),
    option(
        "LOCKGATE_RECYCLE_TASKS", "--recycle-tasks", type=click.IntRange(0), default=0,
        help="Replace a handler process after so many tasks; 0 = never.",
    ),
    option(
        "LOCKGATE_RECYCLE_MEMORY", "--recycle-memory", type=click.IntRange(0), default=0, metavar="MIB",
        help="Replace it after a task when it occupies more than this; 0 = never.",
    ),
    option(
        "LOCKGATE_MEMORY_LIMIT", "--memory-limit", type=click.IntRange(0), default=0, metavar="MIB",
        help="Kill it, and fail the attempt, when it occupies more; 0 = no limit.",
    ),
    METRICS,
    option(
        "LOCKGATE_RUNNER_NAME", "--name",
        help="Name of this process, never used again. [default: host-pid-random]",
    ),
    click.option("--activation", envvar="LOCKGATE_ACTIVATION", type=click.IntRange(0), hidden=True),
    LOG_FORMAT,
    LOG_LEVEL,
]  # fmt: skip


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a click command every option of a runner."""
    for each in reversed(OPTIONS):
        command = each(command)
    return command
