"""Options that several programs have, and how they say that they cannot start."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from lockgate_service import log
from lockgate_service.settings import is_database_url

Decorated = TypeVar("Decorated", bound=Callable[..., Any] | click.Command)


class CannotStart(click.ClickException):
    """One line on stderr and an exit code, without usage text or traceback."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click declares it for the class but reads it here

    def show(self, file: object = None) -> None:  # noqa: ARG002  (click's signature)
        click.echo(f"lockgate: {self.message}", err=True)


def from_file(variable: str, option: str) -> str:
    """For secrets mounted as files. Raises CannotStart if it cannot be read, and click.UsageError if there is none."""
    name = os.environ.get(f"{variable}_FILE")
    if not name:
        # Not left to click's `required`: that takes what this returns for a value, whatever it is.
        raise click.UsageError(f"Missing option '{option}' (or {variable}, or {variable}_FILE).")
    try:
        return Path(name).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CannotStart(f"{variable}_FILE: {error}", exit_code=2) from None


def url_option(
    option: str, variable: str, is_one: Callable[[str], bool], form: str, where: str
) -> Callable[[Decorated], Decorated]:
    """For the URL of a server, which may hold a password: it can come from a file, and is never said again."""

    def checked(_: click.Context, __: click.Parameter, url: str) -> str:
        if not is_one(url):
            raise CannotStart(f"{variable} is not of the form {form}", exit_code=2)
        return url

    return click.option(
        option,
        envvar=variable,
        show_envvar=True,
        metavar="URL",
        default=lambda: from_file(variable, option),
        show_default=f"the content of the file {variable}_FILE",
        callback=checked,
        help=where,
    )


DATABASE_URL = url_option(
    "--database-url",
    "DATABASE_URL",
    is_database_url,
    "postgresql://user:password@host:5432/database",
    "Where Postgres is.",
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
