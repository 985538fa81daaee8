"""`lockgate cancel` and `lockgate retry`: tasks that should stop, or be tried again."""

from collections.abc import Callable, Iterable

import click
import psycopg

from lockgate.commands.database import Database, asks_database
from lockgate.errors import UserError, explain

TASKS = click.argument("tasks", metavar="ID...", type=click.IntRange(1, 2**63 - 1), nargs=-1, required=True)


@click.command()
@TASKS
@click.option("--force", is_flag=True, help="Kill a running task at once, without asking its handler first.")
@asks_database
def cancel(database: Database, tasks: tuple[int, ...], force: bool) -> None:
    """Cancel tasks by their numbers.

    One that waits is cancelled at once. The handler of one that runs is asked to stop, and killed if it does not.

    The exit code is 1 if any task cannot be cancelled, because it has ended or there is no such task.
    """
    with database.connect() as connection:

        def one(task: int) -> str:
            row = connection.execute("select lockgate.cancel(%s, %s)", [task, force]).fetchone()
            status = row[0] if row else ""
            if status == "running":
                return f"task {task} is running and is {'being killed' if force else 'asked to stop'}"
            if status != "cancelled":
                raise UserError(f"task {task} has already {status}")
            return f"task {task} is cancelled"

        _each(tasks, one)


@click.command()
@TASKS
@asks_database
def retry(database: Database, tasks: tuple[int, ...]) -> None:
    """Queue failed or cancelled tasks again, by their numbers, each with at least one more attempt.

    The exit code is 1 if any task cannot be retried: it has not ended, it succeeded, or its dedupe key is taken.
    """
    with database.connect() as connection:

        def one(task: int) -> str:
            connection.execute("select lockgate.retry(%s)", [task])
            return f"task {task} is queued again"

        _each(tasks, one)


def _each(tasks: Iterable[int], do: Callable[[int], str]) -> None:
    """Do it to each and print what came of it; the exit code is 1 if any was refused."""
    refused = False
    for task in tasks:
        try:
            click.echo(do(task))
        except (UserError, psycopg.Error) as error:
            # Ours are about this one task; with any other the rest would fare no better.
            if isinstance(error, psycopg.Error) and not (error.sqlstate or "").startswith("LG"):
                raise
            refused = True
            click.echo(f"lockgate: {explain(error)}", err=True)
    if refused:
        raise click.exceptions.Exit(1)
