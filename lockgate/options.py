"""Where the database is: options of several commands."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def from_file() -> str | None:
    """Return the content of the file DATABASE_URL_FILE, for secrets that are mounted as files; None without one."""
    name = os.environ.get("DATABASE_URL_FILE")
    try:
        return Path(name).read_text().strip() if name else None
    except OSError as error:
        raise click.UsageError(f"DATABASE_URL_FILE: {error}") from None


def database_url(text: str, required: bool, default: str) -> Callable[[Command], Command]:
    """Return the option --database-url: its help, whether there must be one, what is said of its default."""
    return click.option(
        "--database-url",
        envvar="DATABASE_URL",
        show_envvar=True,
        metavar="URL",
        required=required,
        default=from_file,
        show_default=default,
        help=text,
    )


def default_data() -> Path:
    """Return where data goes unless told otherwise: for root a place that the server's user can enter."""
    if os.geteuid() == 0:
        return Path("/var/lib/lockgate/data")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "lockgate"


def data_option(text: str) -> Callable[[Command], Command]:
    """Return the option --data, with this help."""
    return click.option(
        "--data",
        envvar="LOCKGATE_DATA",
        show_envvar=True,
        type=click.Path(file_okay=False, path_type=Path),
        default=default_data,
        show_default="/var/lib/lockgate/data as root, else ~/.local/share/lockgate",
        help=text,
    )
