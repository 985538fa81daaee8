"""The command: settings, then take messages until told to stop."""

import asyncio
import sys
from typing import Any

import click

from lockgate import log
from lockgate.options import LOG_FORMAT, LOG_LEVEL, METRICS, option
from lockgate_service.amqp.intake.settings import Settings
from lockgate_service.amqp.options import AMQP_URL, STATUS_FILE
from lockgate_service.amqp.program import run
from lockgate_service.options import DATABASE_URL


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
@option(
    "LOCKGATE_AMQP_PASSIVE",
    "--passive/--declare",
    default=False,
    show_default="off",
    help="Declare nothing at the broker: the queues are there.",
)
@option(
    "LOCKGATE_AMQP_PREFETCH",
    "--prefetch",
    type=click.IntRange(1, 10000),
    default=500,
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
