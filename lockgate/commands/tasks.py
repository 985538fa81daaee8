"""`lockgate submit`, `list`, `cancel` and `retry`: tasks made, shown, stopped, and tried again."""

import json
import sys
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import click
import psycopg

from lockgate.backoff import Backoff
from lockgate.commands import table
from lockgate.commands.database import Database, asks_database
from lockgate.commands.table import YEARS, Seconds, printable, spoken
from lockgate.errors import UserError, explain

PAYLOAD_LIMIT = 8 * 1024 * 1024  # bytes to read; stored, it may have 1 MiB, but blanks are not stored
SHOWN = 20  # characters on either side of what is wrong
SUBMIT = """
select lockgate.submit(
  queue => %(queue)s, kind => %(kind)s, payload => %(payload)s::jsonb, priority => %(priority)s, run_at => %(run_at)s,
  delay => %(delay)s, max_attempts => %(max_attempts)s, timeout => %(timeout)s, tags => %(tags)s,
  idempotency_key => %(idempotency_key)s, dedupe_key => %(dedupe_key)s)
"""

PAUSE_LEAST, PAUSE_MOST = 0.05, 1.0  # seconds between two looks: few tasks end at once, and few wait for the second
TIMED_OUT, INTERRUPTED = 124, 130  # exit codes, as of timeout(1) and of a shell

ENDED = "select status::text, result::text, error from lockgate.task_detail where id = %s"

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
    status, result, error = end
    if status != "succeeded":
        why = f": {error.get('type')}: {error.get('message')}" if error else ""
        raise UserError(printable(f"task {task} {'was ' * (status == 'cancelled')}{status}{why}"))
    click.echo("null" if result is None else result)


def _end(database: Database, task: int, limit: float | None) -> tuple[Any, ...] | None:
    """Return the status, result and error that the task ended with, None if it has not within the limit.

    A database that is away is waited for, too.
    """
    give_up = time.monotonic() + limit if limit is not None else None
    backoff = Backoff(PAUSE_LEAST, PAUSE_MOST, jitter=0)
    connection: psycopg.Connection[Any] | None = None
    away = False
    try:
        while True:
            try:
                connection = connection or database.connect()
                row = connection.execute(ENDED, [task]).fetchone()
                if row is None:
                    raise UserError(f"task {task} was deleted")
                if row[0] in ("succeeded", "failed", "cancelled"):
                    return row
                away = False
            except psycopg.OperationalError as error:
                if not away:
                    click.echo(f"lockgate: {explain(error)}; trying again", err=True)
                away = True
                if connection:
                    connection.close()
                connection = None
            pause = backoff.next()
            if give_up is not None and time.monotonic() + pause > give_up:
                return None
            time.sleep(pause)
    finally:
        if connection:
            connection.close()


class Payload(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """The text of a JSON value, checked; it is handed on as it was written, so that no number loses a digit."""

    name = "payload"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        def refuse(why: str) -> NoReturn:
            self.fail(why, param, ctx)

        try:
            text = _read(value).decode()
        except OSError as error:
            refuse(f"{value.removeprefix('@')} cannot be read: {error.strerror}")
        except UnicodeDecodeError as error:
            refuse(f"no UTF-8 at byte {error.start + 1}")
        if len(text) > PAYLOAD_LIMIT:
            refuse("larger than 1 MiB")
        try:
            json.loads(text, parse_constant=_refuse_constant)
        except json.JSONDecodeError as error:
            refuse(f"no JSON at line {error.lineno}, column {error.colno}: {error.msg}: {_around(text, error.pos)}")
        except RecursionError:
            refuse("nested too deep")
        except ValueError as error:
            refuse(str(error))
        return text


def _read(value: str) -> bytes:
    if value == "-":
        return sys.stdin.buffer.read(PAYLOAD_LIMIT + 1)
    if value.startswith("@"):
        with Path(value[1:]).open("rb") as file:
            return file.read(PAYLOAD_LIMIT + 1)
    return value.encode(errors="surrogateescape")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _around(text: str, position: int) -> str:
    """Return the place in its line, marked."""
    begin = max(text.rfind("\n", 0, position) + 1, position - SHOWN)
    end = min(text.find("\n", position) % (len(text) + 1), position + SHOWN)
    return f"{text[begin:position]} >>> {text[position:end] or 'the end'}"


class Moment(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """A date and a time; without a zone it is one of this machine's."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            return datetime.fromisoformat(value).astimezone()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time: give one such as 2030-12-31T18:00 or 2030-12-31T18:00Z.", param, ctx)


@click.command()
@click.argument("kind")
@click.argument("payload", type=Payload(), default="{}")
@click.option("--queue", metavar="NAME", default="default", show_default=True, help="Which queue it waits in.")
@click.option("--priority", type=click.IntRange(-100, 100), help="Higher goes first.  [default: 0]")
@click.option("--delay", type=Seconds(0, YEARS), help="Not before this long from now: 90, 15m, 2h, 7d.")
@click.option("--run-at", type=Moment(), help="Not before this time: 2030-12-31T18:00, or with a zone +02:00 or Z.")
@click.option("--max-attempts", type=click.IntRange(1, 1000), help="How often it is tried.  [default: its queue's]")
@click.option(
    "--timeout", type=Seconds(0, 2592000, more_than_least=True),
    help="How long one attempt may take.  [default: its queue's]",
)  # fmt: skip
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="To find it by; may be given several times.")
@click.option("--idempotency-key", metavar="KEY", help="Saying the same again with it makes no second task.")
@click.option("--dedupe-key", metavar="KEY", help="At most one unfinished task of the queue has it.")
@click.option("--wait", is_flag=True, help="Wait for the end, and print the result instead of the number.")
@click.option("--wait-limit", type=Seconds(0, YEARS), help="Wait no longer than this; the exit code is then 124.")
@asks_database
def submit(database: Database, wait: bool, wait_limit: float | None, **task: Any) -> None:
    """Submit a task and print its number.

    KIND is the name of its handler. PAYLOAD is JSON for the handler, {} if it is left out, - to read it from standard
    input, @FILE to read it from a file.

    \b
    lockgate submit sleep '{"max": 3}'
    lockgate submit thumbnail @cat.json --priority 10 --wait

    With --wait the exit code is 0 if the task succeeded and 1 if it failed or was cancelled. Ctrl-C ends the waiting,
    not the task.
    """
    if task["delay"] is not None and task["run_at"] is not None:
        raise click.UsageError("--delay and --run-at are two times; give one")
    if wait_limit is not None and not wait:
        raise click.UsageError("--wait-limit needs --wait")
    task["tags"] = list(task["tags"]) or None
    with database.connect() as connection:
        try:
            [(number,)] = connection.execute(SUBMIT, task)
        except psycopg.OperationalError as error:
            if not connection.broken:
                raise
            raise UserError(
                "the connection broke: whether there is a task now is unknown. With the same --idempotency-key "
                "it can be submitted again safely"
            ) from error
    if wait:
        wait_for(database, number, wait_limit)
    else:
        click.echo(number)


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
