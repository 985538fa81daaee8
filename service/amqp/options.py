"""Options of the programs that speak to RabbitMQ."""

import click

from service.amqp.url import is_amqp_url
from service.options import CannotStart, from_file


def _amqp_url(_: click.Context, __: click.Parameter, url: str) -> str:
    if not is_amqp_url(url):
        raise CannotStart("LOCKGATE_AMQP_URL is not of the form amqp://user:password@host:5672/vhost", exit_code=2)
    return url


AMQP_URL = click.option(
    "--amqp-url",
    envvar="LOCKGATE_AMQP_URL",
    show_envvar=True,
    metavar="URL",
    default=lambda: from_file("LOCKGATE_AMQP_URL", "--amqp-url"),
    show_default="the content of the file LOCKGATE_AMQP_URL_FILE",
    callback=_amqp_url,
    help="Where RabbitMQ is.",
)
STATUS_FILE = click.option(
    "--status-file",
    envvar="LOCKGATE_STATUS_FILE",
    show_envvar=True,
    type=click.Path(dir_okay=False),
    show_default="none",
    help="Say here every second whether it works and what it did, for lockgate healthcheck.",
)
