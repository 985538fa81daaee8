"""`lockgate queues`: the queues there are, made, changed and deleted."""

import asyncio
import difflib
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

import click
import psycopg
from click.core import ParameterSource
from psycopg.types.json import Jsonb

from lockgate.commands import table
from lockgate.commands.database import Database, asks_database
from lockgate.commands.table import YEARS, Seconds
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

Command = TypeVar("Command", bound=Callable[..., Any])
MONTH = 2592000.0


class Kinds(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """Names with commas between them; `none` is None: any."""

    name = "kinds"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> list[str] | None:
        kinds = [kind for part in value.split(",") if (kind := part.strip())]
        if not kinds:
            self.fail("name at least one kind, or none for any.", param, ctx)
        return None if kinds == ["none"] else kinds


class Depth(click.IntRange):
    """A number of tasks; `none` is None."""

    def __init__(self) -> None:
        super().__init__(0, 1000000)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "none" else super().convert(value, param, ctx)


# Of each: what it may be, and what it is about.
SETTINGS: dict[str, tuple["click.ParamType[Any]", str]] = {
    "slots": (click.IntRange(0, 1000), "How many of its tasks may execute at once.  [default: 2]"),
    "max_attempts": (click.IntRange(1, 1000), "How often a task is tried.  [default: 3]"),
    "timeout": (
        Seconds(0, MONTH, more_than_least=True, none=True), "How long one attempt may take.  [default: none]",
    ),
    "backoff_base": (Seconds(0, MONTH), "Pause before the first retry, doubled before each next.  [default: 1]"),
    "backoff_max": (Seconds(0, MONTH), "The longest such pause.  [default: 5m]"),
    "retention": (Seconds(0, YEARS, none=True), "How long ended tasks are kept; none: for ever.  [default: 7d]"),
    "depth_max": (Depth(), "How many tasks may wait for more to be taken; none: any number.  [default: none]"),
    "grace": (Seconds(1, 3600), "How long a lost runner has to come back.  [default: 5]"),
    "kinds": (Kinds(), "Kinds that may be submitted, A,B,C.  [default: any]"),
    "paused": (click.BOOL, "Whether nothing of it is started.  [default: no]"),
}  # fmt: skip


def setting_options(command: Command) -> Command:
    """Add an option for each setting."""
    for name, (kind, text) in reversed(SETTINGS.items()):
        metavar = kind.name.upper() if name != "kinds" else "A,B,C"
        dashed = name.replace("_", "-")
        command = click.option(f"--{dashed}", name, type=kind, metavar=metavar, help=text)(command)
    return command


def parse(words: Iterable[str]) -> dict[str, Any]:
    """Return the settings that these NAME=VALUEs give. Raises click.BadParameter."""
    given: dict[str, Any] = {}
    for word in words:
        said, equals, value = word.partition("=")
        name = said.strip().replace("-", "_")
        if not equals:
            raise click.BadParameter(f"{word!r} is not NAME=VALUE, such as slots=4.")
        if name not in SETTINGS:
            near = difflib.get_close_matches(name, SETTINGS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(SETTINGS)}."
            raise click.BadParameter(f"a queue has no setting {said!r}; {hint}")
        try:
            given[name] = SETTINGS[name][0].convert(value, None, None)
        except click.BadParameter as error:
            raise click.BadParameter(f"{name}: {error.message}") from None
    return given


def spell(settings: dict[str, Any]) -> str:
    """Return them as `set` takes them."""
    return " ".join(f"{name}={_spell(value)}" for name, value in settings.items())


def _spell(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.15g}"
        case list():
            return ",".join(value)
    return str(value)


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, with all settings.")
@click.pass_context
@asks_database
def queues(database: Database, ctx: click.Context, as_json: bool) -> None:
    """Show the queues; with a command, change them."""
    if ctx.invoked_subcommand:
        return
    if as_json:
        table.show_json(database.query(AS_JSON))
        return
    rows = [
        (*start, timeout or "none", attempts, "for ever" if retention is None else retention, remark)
        for *start, timeout, attempts, retention, remark in database.query(ALL)
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
    database.query("select lockgate.create_queue(%s, %s)", [name, Jsonb(given)])
    click.echo(f"queue {name} is made" + (f": {spell(given)}" if given else ""))


@queues.command("set")
@NAME
@click.argument("settings", metavar="SETTING=VALUE...", nargs=-1, required=True)
@asks_database
def set_(database: Database, name: str, settings: tuple[str, ...]) -> None:
    given = parse(settings)
    database.query("select lockgate.change_queue(%s, %s)", [name, Jsonb(given)])
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
    database.query("select lockgate.pause(%s)", [name])
    click.echo(f"queue {name} is paused")


@queues.command()
@NAME
@asks_database
def resume(database: Database, name: str) -> None:
    """End a pause."""
    database.query("select lockgate.resume(%s)", [name])
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
