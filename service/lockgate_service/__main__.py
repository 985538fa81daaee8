"""The command `lockgate serve`: options to settings."""

import re
import sys
from ipaddress import ip_network
from typing import Any

import click

from lockgate import log
from lockgate.options import LOG_FORMAT, LOG_LEVEL
from lockgate_service.options import DATABASE_URL, Settings
from lockgate_service.server import serve


def addresses(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """As given. Raises click.BadParameter."""
    try:
        for one in (value or "").split(",") if value else ():
            ip_network(one.strip())
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None
    return value or None


def root_path(_: click.Context, __: click.Parameter, value: str) -> str:
    """Without a slash at its end. Raises click.BadParameter."""
    path = value.rstrip("/")
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", path):
        raise click.BadParameter(f"{value!r} is not of the form /lockgate or /tools/lockgate.")
    return path


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@DATABASE_URL
@click.option(
    "--host",
    envvar="LOCKGATE_HOST",
    show_envvar=True,
    default="127.0.0.1",
    show_default=True,
    help="Where to listen.",
)
@click.option(
    "--port",
    envvar="LOCKGATE_PORT",
    show_envvar=True,
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Where to listen; 0 takes any free port and logs it.",
)
@click.option(
    "--open/--no-open",
    envvar="LOCKGATE_OPEN",
    show_envvar=True,
    default=False,
    show_default="off",
    help="Need no key, wherever it listens: everybody who can connect may do everything.",
)
@click.option(
    "--published",
    envvar="LOCKGATE_PUBLISHED",
    show_envvar=True,
    metavar="ADDRESS",
    show_default="--host",
    help="In a container, where its port is published: in place of --host this decides whether others can connect.",
)
@click.option(
    "--trusted-proxies",
    envvar="LOCKGATE_TRUSTED_PROXIES",
    show_envvar=True,
    metavar="ADDRESSES",
    callback=addresses,
    show_default="none",
    help="Proxies whose X-Forwarded-For and -Proto count: IP addresses and networks, with commas between.",
)
@click.option(
    "--root-path",
    envvar="LOCKGATE_ROOT_PATH",
    show_envvar=True,
    metavar="PATH",
    default="",
    callback=root_path,
    show_default="none",
    help="The path below which a proxy serves us, such as /lockgate.",
)
@click.option(
    "--pool-size",
    envvar="LOCKGATE_POOL_SIZE",
    show_envvar=True,
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="Database connections at most.",
)
@LOG_FORMAT
@LOG_LEVEL
def main(**options: Any) -> None:
    """Serve tasks over HTTP.

    Starts whether or not the database can be reached: GET /health/ready says when it can. Where others than this
    machine can connect, it refuses to start before there is a key (`lockgate keys add`), or --open.
    """
    settings = Settings(**options)
    log.configure(settings.log_format, settings.log_level, name="service")
    serve(settings)


if __name__ == "__main__":
    sys.exit(main())
