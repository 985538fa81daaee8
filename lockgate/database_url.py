"""Where the database is: an option of several commands."""

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
