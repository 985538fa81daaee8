"""The command `lockgate serve`: options to settings."""

import re
import sys
from ipaddress import ip_network
from typing import Any

import click

from lockgate import log
from lockgate.options import LOG_FORMAT, LOG_LEVEL, option
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
@option("LOCKGATE_HOST", "--host", default="127.0.0.1", help="Where to listen.")
@option(
    "LOCKGATE_PORT",
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    help="Where to listen; 0 takes any free port and logs it.",
)
@option(
    "LOCKGATE_OPEN",
    "--open/--no-open",
    default=False,
    show_default="off",
    help="Need no key, wherever it listens: everybody who can connect may do everything.",
)
@option(
    "LOCKGATE_PUBLISHED",
    "--published",
    metavar="ADDRESS",
    show_default="--host",
    help="In a container, where its port is published: in place of --host this decides whether others can connect.",
)
@option(
    "LOCKGATE_TRUSTED_PROXIES",
    "--trusted-proxies",
    metavar="ADDRESSES",
    callback=addresses,
    show_default="none",
    help="Proxies whose X-Forwarded-For and -Proto count: IP addresses and networks, with commas between.",
)
@option(
    "LOCKGATE_ROOT_PATH",
    "--root-path",
    metavar="PATH",
    default="",
    callback=root_path,
    show_default="none",
    help="The path below which a proxy serves us, such as /lockgate.",
)
@option(
    "LOCKGATE_POOL_SIZE", "--pool-size", type=click.IntRange(1, 1000), default=10, help="Database connections at most."
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
