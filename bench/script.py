"""The command line of every script: ``python -m bench.NAME [--short] [--into FILE]``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bench import document
from bench.report import Report
from bench.testbed import Scale

SHORT = click.option("--short", is_flag=True, help="Measure less, to see whether the script works.")
FOLDER = click.option(
    "--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default="/var/tmp", show_default=True,  # noqa: S108 - only the parent of a folder of our own
    help="Folder of the data, on a disk.",
)  # fmt: skip


INTO = click.option(
    "--into", type=click.Path(path_type=Path, dir_okay=False), help="Also write the report into this Markdown file."
)


def run(measure: Callable[..., Report], *options: Callable[..., Any]) -> None:
    """Runs a measurement as a command with its own options, and prints its report."""

    @click.command(help=(measure.__doc__ or "").splitlines()[0])
    @SHORT
    @FOLDER
    @INTO
    def command(short: bool, folder: Path, into: Path | None, **given: Any) -> None:
        publish(measure(Scale(short, folder), **given), into)

    for option in options:
        command = option(command)
    command()


def publish(report: Report, into: Path | None) -> None:
    """Prints the report, and writes it into the file if there is one."""
    click.echo(report.markdown())
    if into:
        document.put(into, report)


def progress(line: str) -> None:
    """Prints a line of progress."""
    click.echo(f"… {line}", err=True)
