"""`lockgate queues`: the queues there are, made, changed and deleted."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import click
import psycopg
from click.core import ParameterSource
from psycopg.types.json import Jsonb

from lockgate.commands import table
from lockgate.commands.database import Database, asks_database
from lockgate.commands.queue_settings import SETTINGS, parse, setting_options, spell
from lockgate.commands.seconds import spoken
from lockgate.errors import UserError
from lockgate.queues import delete_queue

HEADS = (
    "queue", "slots", "running", "queued", "scheduled", "oldest wait", "timeout", "attempts", "retention", "remark",
)  # fmt: skip
SPARE = ("retention", "attempts", "timeout")
RIGHT = set(HEADS) - {"queue", "remark"}
ALL = """
select queue, o.slots, running, queued, scheduled, oldest_wait::float8, timeout, max_attempts, retention,
  concat_ws('; ', case when o.paused then 'paused' end, 'only ' || array_to_string(kinds, ', '))
from lockgate.queue_overview o join lockgate.queue_detail d using (queue) order by queue
"""
AS_JSON = """
select to_json(q)::text from (
  select d.*, running, queued, scheduled, oldest_wait
  from lockgate.queue_overview o join lockgate.queue_detail d using (queue) order by queue) q
"""
BATCH = 1000
RELEASE_LIMIT = 10.0  # seconds; runners poll every second unless their --poll says otherwise
NAME = click.argument("name")


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, with all settings.")
@click.pass_context
@asks_database
def queues(database: Database, ctx: click.Context, as_json: bool) -> None:
    """Show the queues; with a command, change them."""
    ctx.obj = database
    if ctx.invoked_subcommand:
        return
    with database.connect() as connection:
        if as_json:
            for (line,) in connection.execute(AS_JSON):
                click.echo(line)
            return
        found = connection.execute(ALL).fetchall()
    rows = [
        (*start, spoken(oldest), spoken(timeout) or "none", attempts, spoken(retention) or "for ever", remark)
        for *start, oldest, timeout, attempts, retention, remark in found
    ]
    table.show(HEADS, rows, RIGHT, ["yellow" if row[-1].startswith("paused") else None for row in rows], SPARE)


@queues.command()
@NAME
@setting_options
@click.pass_context
@asks_database
def create(database: Database, ctx: click.Context, name: str, **settings: Any) -> None:
    """Make a queue.

    \b
    lockgate queues create gpu --slots 1 --timeout 2h
    """
    given = {
        each: value for each, value in settings.items()
        if ctx.get_parameter_source(each) is ParameterSource.COMMANDLINE
    }  # fmt: skip
    with database.connect() as connection:
        connection.execute("select lockgate.create_queue(%s, %s)", [name, Jsonb(given)])
    click.echo(f"queue {name} is made" + (f": {spell(given)}" if given else ""))


@queues.command("set")
@NAME
@click.argument("settings", metavar="SETTING=VALUE...", nargs=-1, required=True)
@asks_database
def set_(database: Database, name: str, settings: tuple[str, ...]) -> None:
    given = parse(settings)
    with database.connect() as connection:
        connection.execute("select lockgate.change_queue(%s, %s)", [name, Jsonb(given)])
    click.echo(f"queue {name}: {spell(given)}")


set_.help = (
    "Change settings of a queue, while runners work.\n\n\b\nlockgate queues set gpu slots=4 timeout=none\n\n"
    f"There are {', '.join(SETTINGS)}. `lockgate queues create --help` says what each is. "
    "Durations are seconds, or such as 90s, 15m, 2h, 7d; timeout, retention, depth_max and kinds may be none. "
    "Slots lowered, the running tasks above the new number end first."
)


@queues.command()
@NAME
@asks_database
def pause(database: Database, name: str) -> None:
    """Start nothing more of a queue; what runs goes on."""
    with database.connect() as connection:
        connection.execute("select lockgate.pause(%s)", [name])
    click.echo(f"queue {name} is paused")


@queues.command()
@NAME
@asks_database
def resume(database: Database, name: str) -> None:
    """End a pause."""
    with database.connect() as connection:
        connection.execute("select lockgate.resume(%s)", [name])
    click.echo(f"queue {name} goes on")


@queues.command()
@NAME
@asks_database
def purge(database: Database, name: str) -> None:
    """Delete the ended tasks of a queue, whatever their age. Those that wait or run stay."""
    deleted = 0
    with database.connect() as connection:
        if connection.execute("select 1 from lockgate.queue_detail where queue = %s", [name]).fetchone() is None:
            raise UserError(f'there is no queue "{name}"')
        while row := connection.execute("select lockgate.purge(%s, %s)", [name, BATCH]).fetchone():
            deleted += row[0]
            if row[0] == 0:
                break
    click.echo(f"queue {name}: {deleted} ended {'task' if deleted == 1 else 'tasks'} deleted")


@queues.command()
@NAME
@asks_database
def delete(database: Database, name: str) -> None:
    """Delete a queue that has no tasks.

    Its slots are set to 0 and its runners get a few seconds to let go of them. If they do not, the queue stays, with
    the slots that it had.
    """
    with ExitStack() as stack:
        connection = stack.enter_context(database.connect())

        async def execute(text: str, params: Sequence[object]) -> list[tuple[Any, ...]]:
            nonlocal connection
            if connection.broken:  # the slots have to be restored all the same
                connection = stack.enter_context(database.connect())
            return connection.execute(text.encode(), params).fetchall()

        try:
            asyncio.run(delete_queue(execute, name, RELEASE_LIMIT))
        except psycopg.Error as error:
            if error.sqlstate != "LG009":
                raise
            raise UserError(f"{error.diag.message_primary}: {error.diag.message_hint}") from error
    click.echo(f"queue {name} is deleted")
