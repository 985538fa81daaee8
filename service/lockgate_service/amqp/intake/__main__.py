"""The command: settings, then take messages until told to stop."""

import asyncio
import sys
from typing import Any

import click

from lockgate import log
from lockgate.options import LOG_FORMAT, LOG_LEVEL, METRICS
from lockgate_service.amqp.intake.settings import Settings
from lockgate_service.amqp.options import AMQP_URL, STATUS_FILE
from lockgate_service.amqp.program import run
from lockgate_service.options import DATABASE_URL


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@DATABASE_URL
@AMQP_URL
@click.option(
    "--queue",
    envvar="LOCKGATE_AMQP_QUEUE",
    show_envvar=True,
    default="lockgate.tasks",
    show_default=True,
    help="The broker's queue that tasks come from; invalid messages go to the one of this name with .invalid.",
)
@click.option(
    "--exchange",
    envvar="LOCKGATE_AMQP_EXCHANGE",
    show_envvar=True,
    show_default="none; publish to the queue by its name",
    help="Also declare this exchange, and bind the queue to it.",
)
@click.option(
    "--exchange-type",
    envvar="LOCKGATE_AMQP_EXCHANGE_TYPE",
    show_envvar=True,
    type=click.Choice(("topic", "direct", "fanout")),
    default="topic",
    show_default=True,
    help="Of that exchange.",
)
@click.option(
    "--binding",
    "bindings",
    envvar="LOCKGATE_AMQP_BINDINGS",
    show_envvar=True,
    multiple=True,
    show_default="#",
    help="Routing key by which the queue is bound to it; may be given several times.",
)
@click.option(
    "--passive/--declare",
    envvar="LOCKGATE_AMQP_PASSIVE",
    show_envvar=True,
    default=False,
    show_default="off",
    help="Declare nothing at the broker: the queues are there.",
)
@click.option(
    "--prefetch",
    envvar="LOCKGATE_AMQP_PREFETCH",
    show_envvar=True,
    type=click.IntRange(1, 10000),
    default=500,
    show_default=True,
    help="Messages in hand at most, each of up to 4 MiB.",
)
@STATUS_FILE
@METRICS
@LOG_FORMAT
@LOG_LEVEL
def main(bindings: tuple[str, ...], **options: Any) -> None:
    """Make tasks of the messages in a RabbitMQ queue.

    Starts whether or not Postgres and the broker can be reached, and waits for them.
    """
    settings = Settings(**options, bindings=bindings or ("#",))
    log.configure(settings.log_format, settings.log_level, name="service")
    with run():
        from lockgate_service.amqp.intake.life import live

        asyncio.run(live(settings))


if __name__ == "__main__":
    sys.exit(main())
