"""`lockgate list`, `cancel` and `retry`: tasks shown, stopped, and tried again."""

from collections.abc import Callable, Iterable
from typing import Any

import click
import psycopg

from lockgate.commands import table
from lockgate.commands.database import Database, asks_database
from lockgate.commands.table import spoken
from lockgate.errors import UserError, explain

STATUSES = ("scheduled", "queued", "running", "succeeded", "failed", "cancelled")
STYLES = {"running": "yellow", "succeeded": "green", "failed": "red", "cancelled": "dim", "scheduled": "dim"}
HEADS = ("task", "queue", "kind", "status", "attempt", "age", "took", "remark")
SPARE = ("attempt", "took")

FOUND = """
from lockgate.task_detail t
where (%(statuses)s::lockgate.status[] is null or status = any (%(statuses)s::lockgate.status[]))
  and (%(queue)s::text is null or queue = %(queue)s)
  and (%(kind)s::text is null or kind = %(kind)s)
  and (%(tags)s::text[] is null or tags @> %(tags)s)
order by id desc
limit %(limit)s
"""
AS_JSON = f"select to_json(t)::text {FOUND}"
# The remark is the most telling there is: what went wrong, how far it got, when it is due.
AS_ROWS = f"""
select id, queue, kind, status::text, attempt || '/' || max_attempts,
  extract(epoch from clock_timestamp() - create_time)::float8,
  case when status = 'running' then extract(epoch from clock_timestamp() - start_time)::float8 else exec_time end,
  case when error is not null then concat_ws(': ', error ->> 'type', left(error ->> 'message', 200))
       when status = 'running' and cancel_requested is not null then 'asked to stop'
       when progress is not null then left(progress::text, 200) end,
  case when status = 'scheduled' then extract(epoch from run_at - clock_timestamp())::float8 end
{FOUND}
"""  # noqa: S608  of two constants


@click.command("list")
@click.option(
    "--status", "statuses", type=click.Choice(STATUSES), multiple=True, help="Only these; may be given several times."
)
@click.option("--queue", metavar="NAME", help="Only those of this queue.")
@click.option("--kind", metavar="KIND", help="Only those of this kind.")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="Only those with this tag, or with all of several.")
@click.option("--limit", type=click.IntRange(1, 10000), default=20, show_default=True, help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, with everything there is to a task.")
@asks_database
def list_(database: Database, statuses: tuple[str, ...], tags: tuple[str, ...], as_json: bool, **only: Any) -> None:
    """List tasks, the newest first: a table on a terminal, aligned lines elsewhere."""
    only |= {"statuses": list(statuses) or None, "tags": list(tags) or None}
    if as_json:
        table.show_json(database.query(AS_JSON, only))
        return
    rows = [(*row, _remark(remark, due)) for *row, remark, due in database.query(AS_ROWS, only)]
    table.show(HEADS, rows, {"task", "attempt", "age", "took"}, [STYLES.get(row[3]) for row in rows], SPARE)


def _remark(remark: str | None, due: float | None) -> str:
    waits = "" if due is None else f"due in {spoken(due)}" if due > 0 else "due"
    return "; ".join(part for part in (waits, remark) if part)


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
