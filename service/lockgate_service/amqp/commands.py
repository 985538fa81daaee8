"""The commands `lockgate intake` and `lockgate publish`: options to settings, and the life of both programs around
their work: signals, status file, counters in the log."""

import asyncio
import contextlib
import json
import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from msgspec import Struct

from lockgate import log
from lockgate.log import logger
from lockgate.options import LOG_FORMAT, LOG_LEVEL, METRICS, option, url_option
from lockgate.signals import stopping
from lockgate_service.options import DATABASE_URL

# Seconds.
STATUS_EVERY = 1.0
COUNTED_EVERY = 60.0


class ProgramSettings(Struct, frozen=True, kw_only=True):
    """What both programs have. Checked by their options, one field each."""

    database_url: str
    amqp_url: str
    passive: bool = False
    status_file: str | None = None
    log_format: str = "auto"
    log_level: str = "info"


class IntakeSettings(ProgramSettings, frozen=True, kw_only=True):
    queue: str = "lockgate.tasks"
    exchange: str | None = None
    exchange_type: str = "topic"
    bindings: tuple[str, ...] = ("#",)
    prefetch: int = 500
    metrics: str | None = None

    @property
    def invalid_queue(self) -> str:
        return f"{self.queue}.invalid"

    @property
    def scope(self) -> str:
        """The scope of idempotency keys: a message_id counts within its queue."""
        return f"amqp:{self.queue}"


class PublisherSettings(ProgramSettings, frozen=True, kw_only=True):
    exchange: str = "lockgate.events"


def is_amqp_url(text: str) -> bool:
    """Whether it can be one; it may still lead nowhere."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("amqp", "amqps") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


AMQP_URL = url_option(
    "--amqp-url",
    "LOCKGATE_AMQP_URL",
    "Where RabbitMQ is.",
    is_one=is_amqp_url,
    form="amqp://user:password@host:5672/vhost",
)
STATUS_FILE = option(
    "LOCKGATE_STATUS_FILE",
    "--status-file",
    type=click.Path(dir_okay=False),
    show_default="none",
    help="Write the status here every second, for lockgate healthcheck.",
)
PASSIVE = option(
    "LOCKGATE_AMQP_PASSIVE",
    "--passive/--declare",
    default=False,
    show_default="off",
    help="Declare nothing at the broker: somebody else has declared it.",
)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@DATABASE_URL
@AMQP_URL
@option(
    "LOCKGATE_AMQP_QUEUE",
    "--queue",
    default="lockgate.tasks",
    help="The broker's queue that tasks come from; invalid messages go to the one of this name with .invalid.",
)
@option(
    "LOCKGATE_AMQP_EXCHANGE",
    "--exchange",
    show_default="none; publish to the queue by its name",
    help="Also declare this exchange, and bind the queue to it.",
)
@option(
    "LOCKGATE_AMQP_EXCHANGE_TYPE",
    "--exchange-type",
    type=click.Choice(("topic", "direct", "fanout")),
    default="topic",
    help="Of that exchange.",
)
@option(
    "LOCKGATE_AMQP_BINDINGS",
    "--binding",
    "bindings",
    multiple=True,
    show_default="#",
    help="Routing key by which the queue is bound to it; may be given several times.",
)
@PASSIVE
@option(
    "LOCKGATE_AMQP_PREFETCH",
    "--prefetch",
    type=click.IntRange(1, 10000),
    default=500,
    help="Unacknowledged messages at most, each of up to 4 MiB.",
)
@STATUS_FILE
@METRICS
@LOG_FORMAT
@LOG_LEVEL
def intake(bindings: tuple[str, ...], **options: Any) -> None:
    """Make tasks of the messages in a RabbitMQ queue.

    Starts whether or not Postgres and the broker can be reached, and waits for them.
    """
    settings = IntakeSettings(**options, bindings=bindings or ("#",))
    with running(settings):
        from lockgate_service.amqp.intake import live

        asyncio.run(live(settings))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@DATABASE_URL
@AMQP_URL
@option("LOCKGATE_AMQP_EVENTS", "--exchange", default="lockgate.events", help="The topic exchange to publish to.")
@PASSIVE
@STATUS_FILE
@LOG_FORMAT
@LOG_LEVEL
def publish(**options: Any) -> None:
    """Publish each end of a task to a RabbitMQ exchange.

    The first start makes Postgres record each end from then on, until it is published; `select
    set_outbox(false)` ends that. Of several publishers one works, the others stand by.
    """
    settings = PublisherSettings(**options)
    with running(settings):
        from lockgate_service.amqp.publisher import live

        asyncio.run(live(settings))


@contextlib.contextmanager
def running(settings: ProgramSettings) -> Iterator[None]:
    """Around the import and the life of a program. Raises click.ClickException without the client for RabbitMQ."""
    log.configure(settings.log_format, settings.log_level, name="service")
    # Our own lines say it when the broker is lost.
    for noisy in ("aiormq", "aiormq.connection", "aiormq.channel"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    logger.info("starting")
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("aiormq", "pamqp", "yarl"):
            raise
        raise click.ClickException("this needs the client for RabbitMQ: pip install 'lockgate[amqp]'") from None
    logger.info("stopped")


class Program(ABC):
    """The intake or the publisher. `counters` is a dataclass of numbers."""

    counters: Any

    def __init__(self) -> None:
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Finishes the batch that is under way, and no more."""
        self._stopping.set()

    @abstractmethod
    async def run(self) -> None:
        """Returns after `stop`."""

    @abstractmethod
    def status(self) -> dict[str, Any]:
        """For the status file, beside the counters. `works`: whether it does its work now."""

    async def _pause(self, seconds: float) -> None:
        """Returns early when stopped."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


async def live(program: Program, status_file: str | None, *beside: Coroutine[Any, Any, None]) -> None:
    """Runs the program, and `beside` it what else it needs, until the first TERM or Ctrl-C."""
    tasks = [asyncio.create_task(each) for each in (*beside, _log_counters(program), _report(program, status_file))]
    try:
        with stopping(program.stop):
            await program.run()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        logger.info("counted", **asdict(program.counters))


async def _log_counters(program: Program) -> None:
    """Logs them when they have changed. Never returns."""
    before: dict[str, Any] = {}
    while True:
        now = asdict(program.counters)
        if before and now != before:
            logger.info("counted", **now)
        before = now
        await asyncio.sleep(COUNTED_EVERY)


async def _report(program: Program, file: str | None) -> None:
    """Writes the status file every second. Never returns."""
    is_writable = True
    while True:
        if file is not None:
            try:
                write(Path(file), program.status() | asdict(program.counters))
                is_writable = True
            except OSError as error:
                if is_writable:
                    logger.warning("status file cannot be written", file=file, error=str(error))
                is_writable = False
        await asyncio.sleep(STATUS_EVERY)


def write(path: Path, status: dict[str, Any]) -> None:
    """Whole or not at all."""
    draft = path.with_name(f".{path.name}-{os.getpid()}")
    draft.write_text(json.dumps(status | {"time": time.time()}))
    draft.replace(path)


if __name__ == "__main__":
    click.Group(commands=[intake, publish])()
