"""The command that every question is: ``python -m bench.NAME [--short] [--into FILE]``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bench import page
from bench.answer import Answer
from bench.ground import Scale

SHORT = click.option("--short", is_flag=True, help="Less of everything: to see whether it works.")
FOLDER = click.option(
    "--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default="/var/tmp", show_default=True,  # noqa: S108 - only the parent of a folder of our own
    help="Where to keep the data meanwhile: on a disk.",
)  # fmt: skip


INTO = click.option(
    "--into", type=click.Path(path_type=Path, dir_okay=False), help="Also put the answer into this Markdown file."
)


def run(measure: Callable[..., Answer], *options: Callable[..., Any]) -> None:
    """Runs one question as a command of its own, with options of its own, and prints its answer."""

    @click.command(help=(measure.__doc__ or "").splitlines()[0])
    @SHORT
    @FOLDER
    @INTO
    def command(short: bool, folder: Path, into: Path | None, **given: Any) -> None:
        tell(measure(Scale(short, folder), **given), into)

    for option in options:
        command = option(command)
    command()


def tell(answer: Answer, into: Path | None) -> None:
    click.echo(answer.markdown())
    if into:
        page.put(into, answer)


def say(line: str) -> None:
    """What goes on meanwhile."""
    click.echo(f"… {line}", err=True)
