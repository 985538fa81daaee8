"""Options of the programs that speak to RabbitMQ."""

import click

from lockgate_service.amqp.url import is_amqp_url
from lockgate_service.options import url_option

AMQP_URL = url_option(
    "--amqp-url",
    "LOCKGATE_AMQP_URL",
    is_amqp_url,
    "amqp://user:password@host:5672/vhost",
    "Where RabbitMQ is.",
)
STATUS_FILE = click.option(
    "--status-file",
    envvar="LOCKGATE_STATUS_FILE",
    show_envvar=True,
    type=click.Path(dir_okay=False),
    show_default="none",
    help="Say here every second whether it works and what it did, for lockgate healthcheck.",
)
