"""An expected failure of a command."""

from typing import IO, Any

import click


class Refusal(click.ClickException):
    """One line on stderr, without usage text or traceback."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"lockgate: {self.message}", file=file, err=True)
