"""Options of the programs that speak to RabbitMQ."""

import click

from lockgate.options import option, url_option
from lockgate_service.amqp.url import is_amqp_url

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
    help="Say here every second whether it works and what it did, for lockgate healthcheck.",
)
