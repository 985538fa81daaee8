"""Options of the programs that speak to RabbitMQ, and of those that speak to Postgres without serving HTTP."""

import os
from pathlib import Path

import click

from service import log
from service.amqp.url import is_amqp_url
from service.settings import is_database_url


def from_file(variable: str, option: str) -> str:
    """For secrets mounted as files. Raises click.UsageError."""
    name = os.environ.get(f"{variable}_FILE")
    if not name:
        raise click.UsageError(f"Missing option '{option}' (or {variable}, or {variable}_FILE).")
    try:
        return Path(name).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{variable}_FILE: {error}") from None


def _checked_database_url(_ctx: click.Context, _param: click.Parameter, url: str) -> str:
    if not is_database_url(url):
        # Without what was given: it may hold a password.
        raise click.UsageError("DATABASE_URL is not of the form postgresql://user:password@host:5432/database")
    return url


def _checked_amqp_url(_ctx: click.Context, _param: click.Parameter, url: str) -> str:
    if not is_amqp_url(url):
        raise click.UsageError("LOCKGATE_AMQP_URL is not of the form amqp://user:password@host:5672/vhost")
    return url


DATABASE_URL = click.option(
    "--database-url",
    envvar="DATABASE_URL",
    show_envvar=True,
    metavar="URL",
    default=lambda: from_file("DATABASE_URL", "--database-url"),
    show_default="the content of the file DATABASE_URL_FILE",
    callback=_checked_database_url,
    help="Where Postgres is.",
)
AMQP_URL = click.option(
    "--amqp-url",
    envvar="LOCKGATE_AMQP_URL",
    show_envvar=True,
    metavar="URL",
    default=lambda: from_file("LOCKGATE_AMQP_URL", "--amqp-url"),
    show_default="the content of the file LOCKGATE_AMQP_URL_FILE",
    callback=_checked_amqp_url,
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
LOG_FORMAT = click.option(
    "--log-format",
    envvar="LOCKGATE_LOG_FORMAT",
    show_envvar=True,
    type=click.Choice(log.FORMATS),
    default="auto",
    show_default=True,
    help="auto: console on a terminal, else json.",
)
LOG_LEVEL = click.option(
    "--log-level",
    envvar="LOCKGATE_LOG_LEVEL",
    show_envvar=True,
    type=click.Choice(log.LEVELS),
    default="info",
    show_default=True,
    help="The least that is logged.",
)
