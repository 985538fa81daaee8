"""`lockgate runners`: the runners there are, drained and resumed."""

import click

from lockgate.commands import table
from lockgate.commands.database import Database, asks_database
from lockgate.commands.table import spoken

HEADS = ("runner", "host", "pid", "slots", "running", "queues", "since", "remark")
SPARE = ("pid", "host")
RIGHT = {"pid", "slots", "running"}
ALL = """
select runner, host, pid, concurrency, running, coalesce(array_to_string(queues, ', '), 'all'),
  extract(epoch from clock_timestamp() - since)::float8,
  case when draining and running > 0 then 'draining' when draining then 'drained' else '' end
from lockgate.runner_overview where alive order by session
"""
AS_JSON = "select to_json(r)::text from (select * from lockgate.runner_overview where alive order by session) r"
NAME = click.argument("name")


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, with all that is known.")
@click.pass_context
@asks_database
def runners(database: Database, ctx: click.Context, as_json: bool) -> None:
    """Show the runners that are alive; with a command, drain and resume them.

    `slots` is how many a runner may hold at once.
    """
    if ctx.invoked_subcommand:
        return
    if as_json:
        table.show_json(database.query(AS_JSON))
        return
    rows = [(*start, f"{spoken(since)} ago", remark) for *start, since, remark in database.query(ALL)]
    table.show(HEADS, rows, RIGHT, ["yellow" if row[-1] else None for row in rows], SPARE)


@runners.command()
@NAME
@asks_database
def drain(database: Database, name: str) -> None:
    """Have a runner take no more tasks, and let each of its slots go once the task in it has ended.

    It does not end, so that nobody starts it again: stop it once it is drained, or resume it.
    """
    with database.connect() as connection:
        connection.execute("select lockgate.drain_runner(%s)", [name])
        row = connection.execute(
            "select running from lockgate.runner_overview where runner = %s order by session desc limit 1", [name]
        ).fetchone()
    left = row[0] if row else 0
    click.echo(f"runner {name} takes no more tasks" + (f"; {left} still running" if left else ""))


@runners.command()
@NAME
@asks_database
def resume(database: Database, name: str) -> None:
    """Have a drained runner take tasks again."""
    database.query("select lockgate.resume_runner(%s)", [name])
    click.echo(f"runner {name} takes tasks again")
