"""`lockgate keys`: who may use the HTTP API, and for what."""

import click
from lockgate_service.auth.keys import make

from lockgate.commands import table
from lockgate.commands.database import Database, asks_database
from lockgate.commands.table import spoken
from lockgate.errors import UserError

HEADS = ("key", "scope", "queue", "owner", "age", "last used", "remark")
SPARE = ("owner", "age")
FOUND = "from lockgate.key_overview where revoke_time is null or %s order by revoke_time nulls first, name"
ALL = f"""
select name, scope::text, coalesce(queue, 'all'), owner, extract(epoch from clock_timestamp() - create_time)::float8,
  extract(epoch from clock_timestamp() - last_used)::float8, case when revoke_time is not null then 'revoked' end
{FOUND}
"""  # noqa: S608  of a constant
AS_JSON = f"select to_json(k)::text from (select * {FOUND}) k"  # noqa: S608  of a constant
NAME = click.argument("name")


@click.group(invoke_without_command=True)
@click.pass_context
@asks_database
def keys(_: Database, ctx: click.Context) -> None:
    """Show the keys of the HTTP API that are in force; with a command, change them."""
    if not ctx.invoked_subcommand:
        ctx.invoke(list_)


@keys.command()
@NAME
@click.option(
    "--scope",
    type=click.Choice(("read", "submit", "admin")),
    default="submit",
    show_default=True,
    help="read: look at everything. submit: also make tasks, cancel, retry and change them. admin: everything.",
)
@click.option("--queue", metavar="NAME", help="Good for this queue only.  [default: all queues]")
@click.option(
    "--owner",
    metavar="NAME",
    help="Whose it is: keys of one owner share their idempotency keys, so that one can replace another.  "
    "[default: the key's name]",
)
@asks_database
def add(database: Database, name: str, scope: str, queue: str | None, owner: str | None) -> None:
    """Make a key and print it, this once: only its SHA-256 is kept.

    \b
    KEY=$(lockgate keys add web)
    curl -H "Authorization: Bearer $KEY" localhost:8000/tasks
    """
    made, text = make()
    statement = "select lockgate.add_key(%s, %s, %s, %s::lockgate.scope, %s, %s)"
    database.query(statement, [made.id, name, made.digest, scope, queue, owner])
    click.echo(text)
    limited = f", for queue {queue} only" if queue else ""
    click.echo(f"lockgate: key {name} is made: scope {scope}{limited}. It is not shown again.", err=True)


@keys.command("list")
@click.option("--all", "revoked", is_flag=True, help="Revoked ones too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@asks_database
def list_(database: Database, revoked: bool, as_json: bool) -> None:
    """Show the keys, without their secrets, which nobody has but their users."""
    if as_json:
        table.show_json(database.query(AS_JSON, [revoked]))
        return
    rows = [
        (*start, "never" if used is None else f"{spoken(used)} ago", remark)
        for *start, used, remark in database.query(ALL, [revoked])
    ]
    table.show(HEADS, rows, {"age", "last used"}, ["dim" if row[-1] else None for row in rows], SPARE)


@keys.command()
@NAME
@asks_database
def revoke(database: Database, name: str) -> None:
    """Take a key out of force. Services notice within two seconds."""
    [(is_revoked,)] = database.query("select lockgate.revoke_key(%s)", [name])
    if not is_revoked:
        raise UserError(f'there is no key "{name}" in force')
    click.echo(f"key {name} is revoked")
