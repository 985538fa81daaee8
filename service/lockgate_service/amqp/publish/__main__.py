"""The command: settings, then publish until told to stop."""

import asyncio
import sys
from typing import Any

import click

from lockgate import log
from lockgate.options import LOG_FORMAT, LOG_LEVEL, option
from lockgate_service.amqp.options import AMQP_URL, STATUS_FILE
from lockgate_service.amqp.program import run
from lockgate_service.amqp.publish.settings import Settings
from lockgate_service.options import DATABASE_URL


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@DATABASE_URL
@AMQP_URL
@option("LOCKGATE_AMQP_EVENTS", "--exchange", default="lockgate.events", help="The topic exchange to publish to.")
@option(
    "LOCKGATE_AMQP_PASSIVE",
    "--passive/--declare",
    default=False,
    show_default="off",
    help="Declare nothing at the broker: the exchange is there.",
)
@STATUS_FILE
@LOG_FORMAT
@LOG_LEVEL
def main(**options: Any) -> None:
    """Publish each end of a task to a RabbitMQ exchange.

    The first start makes Postgres write down each end from then on, until it is published; `select
    set_outbox(false)` ends that. Of several publishers one works, the others stand by.
    """
    settings = Settings(**options)
    log.configure(settings.log_format, settings.log_level, name="service")
    with run():
        from lockgate_service.amqp.publish.life import live

        asyncio.run(live(settings))


if __name__ == "__main__":
    sys.exit(main())
