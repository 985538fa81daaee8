"""``python -m tests.mutants [NAME...]``: weakens one guard at a time, and shows that a test notices."""

import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests import server
from tests.mutants import MUTANTS, scratch
from tests.mutants.mutant import Mutant, Stale
from tests.mutants.scratch import Run

CONTROL_LIMIT = 1200.0
"""Seconds for all selections on the copy in which nothing is broken."""

MUTANT_LIMIT = 240.0
"""Seconds for the selection of one mutant."""


README = Path(__file__).resolve().parents[1] / "README.md"
HEAD = "| what a mutant weakens | mutant | tests that notice it |\n"


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--list", "only_list", is_flag=True, help="Say what there is, and run nothing.")
@click.option("--write", is_flag=True, help="Write the table of tests/README.md anew, and run nothing.")
@click.option("--no-control", is_flag=True, help="Leave out the run in which nothing is broken.")
@click.option("--show", is_flag=True, help="Show what pytest said about mutants that survived.")
def main(names: tuple[str, ...], only_list: bool, write: bool, no_control: bool, show: bool) -> None:
    """Weakens one guard after the other in a copy of the repository and runs the tests that have to notice.

    NAME: only these mutants; "claim-" is all whose names begin so. Exit code 1 if one survives, 2 if something says
    nothing: tests that fail without a mutant, or a mutant that no longer fits the source.
    """
    console = Console(width=None if sys.stdout.isatty() else 200)
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name.startswith(names)]
    if not chosen:
        raise click.UsageError(f"no mutant is called {' or '.join(names)}")
    if only_list:
        for mutant in chosen:
            console.print(f"{mutant.name:28} {mutant.weakens}", highlight=False)
        return
    if write:
        README.write_text(README.read_text().partition(HEAD)[0] + table())
        return
    begin = time.monotonic()
    with server.folder() as folder, database() as url:
        intact = folder / "intact"
        scratch.copy_checkout(intact)
        if not no_control:
            control(console, intact, url, chosen)
        runs = [(mutant, hunt(console, intact, url, mutant, show)) for mutant in chosen]
    console.print(report(runs))
    survived = [mutant.name for mutant, run in runs if run and run.green]
    unjudged = [mutant.name for mutant, run in runs if run is None or run.broken]
    console.print(f"{len(runs)} mutants in {(time.monotonic() - begin) / 60:.1f} minutes", highlight=False)
    if unjudged:
        console.print(f"[bold red]no verdict about[/] {', '.join(unjudged)}")
    if survived:
        console.print(f"[bold red]survived:[/] {', '.join(survived)}")
    if not survived and not unjudged:
        console.print("[green]every one of them was caught")
    sys.exit(2 if unjudged else 1 if survived else 0)


def table() -> str:
    """Every mutant and its tests, the last part of tests/README.md."""
    rows = (
        f"| {mutant.weakens} | {mutant.name} | {', '.join(f'`{test}`' for test in mutant.caught_by)} |\n"
        for mutant in MUTANTS
    )
    return "".join([HEAD, "| --- | --- | --- |\n", *rows])


@contextmanager
def database() -> Iterator[str]:
    """One server for all runs, and on it a database that says `test`."""
    rung = server.choose()
    name = f"lockgate_test_mutants_{secrets.token_hex(3)}"
    with rung.start as admin, psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        try:
            yield make_conninfo(admin, dbname=name)
        finally:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def control(console: Console, intact: Path, url: str, mutants: Sequence[Mutant]) -> None:
    """Ends the program if a test fails though nothing is broken: then its failing would show nothing.

    Those that fail may show at once that they can pass: a test that does so now and then shows little, and is named.
    """
    selection = sorted({test for mutant in mutants for test in mutant.caught_by})
    with console.status(f"nothing is broken: {len(selection)} selections have to pass"):
        run = scratch.pytest(intact, url, selection, CONTROL_LIMIT)
        if run.failed:
            console.print(f"[yellow]again:[/] {escape(', '.join(run.failed))}", highlight=False)
            run = scratch.pytest(intact, url, run.failed, CONTROL_LIMIT)
    if not run.green:
        console.print(run.output, markup=False, highlight=False)
        console.print("[bold red]these fail though nothing is broken")
        sys.exit(2)
    console.print(f"nothing broken, all pass: {run.seconds:.0f} s", highlight=False)


def hunt(console: Console, intact: Path, url: str, mutant: Mutant, show: bool) -> Run | None:
    """None: the mutant no longer fits the source."""
    weakened = intact.with_name(mutant.name)
    scratch.copy(intact, weakened, [edit.file for edit in mutant.edits])
    try:
        mutant.weaken(weakened)
    except Stale as stale:
        console.print(f"[bold red]stale[/]    {mutant.name}: {escape(str(stale))}", highlight=False)
        return None
    with console.status(f"{mutant.name}: {mutant.weakens}"):
        run = scratch.pytest(weakened, url, mutant.caught_by, MUTANT_LIMIT, "--exitfirst")
    if run.failed:
        console.print(
            f"[green]caught[/]   {mutant.name} in {run.seconds:.0f} s by {escape(run.failed[0])}", highlight=False
        )
    else:
        word = "[bold red]unjudged" if run.broken else "[bold red]survived"
        console.print(f"{word}[/] {mutant.name}: {mutant.weakens}", highlight=False)
    if run.broken or (show and run.green):
        console.print(run.output, markup=False, highlight=False)
    return run


def report(runs: Sequence[tuple[Mutant, Run | None]]) -> Table:
    table = Table("mutant", "what it weakens", "caught by", "s")
    for mutant, run in runs:
        by = "(does not fit)" if run is None else next(iter(run.failed), "NO TEST" if run.green else "(no verdict)")
        seconds = "" if run is None else f"{run.seconds:.0f}"
        table.add_row(mutant.name, mutant.weakens, escape(by.removeprefix("tests/")), seconds)
    return table


if __name__ == "__main__":
    main()
