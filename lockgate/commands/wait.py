"""The end of a task, waited for."""

import time
from typing import Any, NamedTuple

import click
import psycopg

from lockgate.commands.database import Database
from lockgate.commands.table import printable
from lockgate.errors import UserError, explain

PAUSE_LEAST, PAUSE_MOST = 0.05, 1.0  # seconds between two looks: few tasks end at once, and few wait for the second
TIMED_OUT, INTERRUPTED = 124, 130  # exit codes, as of timeout(1) and of a shell

QUERY = "select status::text, result::text, error from lockgate.task_detail where id = %s"


class End(NamedTuple):
    """How a task ended: its result as JSON, or its error."""

    status: str
    result: str | None
    error: dict[str, Any] | None


def wait_for(database: Database, task: int, limit: float | None) -> None:
    """Print the result once the task has succeeded; else leave with another exit code, having said why."""
    try:
        click.echo(f"lockgate: task {task}", err=True)
        end = _end(database, task, limit)
    except KeyboardInterrupt:
        click.echo(f"\nlockgate: task {task} goes on; `lockgate cancel {task}` stops it", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
    if end is None:
        click.echo(f"lockgate: task {task} has not ended yet and goes on", err=True)
        raise click.exceptions.Exit(TIMED_OUT)
    if end.status != "succeeded":
        error = end.error or {}
        why = f": {error.get('type')}: {error.get('message')}" if error else ""
        raise UserError(printable(f"task {task} {'was ' * (end.status == 'cancelled')}{end.status}{why}"))
    click.echo("null" if end.result is None else end.result)


def _end(database: Database, task: int, limit: float | None) -> End | None:
    """Return how the task ended, None if it has not within the limit. A database that is away is waited for, too."""
    give_up = time.monotonic() + limit if limit is not None else None
    pause = PAUSE_LEAST
    connection: psycopg.Connection[Any] | None = None
    away = False
    try:
        while True:
            try:
                connection = connection or database.connect()
                row = connection.execute(QUERY, [task]).fetchone()
                if row is None:
                    raise UserError(f"task {task} was deleted")
                if row[0] in ("succeeded", "failed", "cancelled"):
                    return End(*row)
                away = False
            except psycopg.OperationalError as error:
                if not away:
                    click.echo(f"lockgate: {explain(error)}; trying again", err=True)
                away = True
                if connection:
                    connection.close()
                connection = None
            if give_up is not None and time.monotonic() + pause > give_up:
                return None
            time.sleep(pause)
            pause = min(pause * 1.5, PAUSE_MOST)
    finally:
        if connection:
            connection.close()
