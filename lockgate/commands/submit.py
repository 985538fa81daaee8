"""`lockgate submit`: a task from the command line."""

import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import click
import psycopg

from lockgate.backoff import Backoff
from lockgate.commands.database import Database, asks_database
from lockgate.commands.table import YEARS, Seconds, printable
from lockgate.errors import UserError, explain

PAYLOAD_LIMIT = 8 * 1024 * 1024  # bytes to read; stored, it may have 1 MiB, but blanks are not stored
SHOWN = 20  # characters on either side of what is wrong
STATEMENT = """
select lockgate.submit(
  queue => %(queue)s, kind => %(kind)s, payload => %(payload)s::jsonb, priority => %(priority)s, run_at => %(run_at)s,
  delay => %(delay)s, max_attempts => %(max_attempts)s, timeout => %(timeout)s, tags => %(tags)s,
  idempotency_key => %(idempotency_key)s, dedupe_key => %(dedupe_key)s)
"""

PAUSE_LEAST, PAUSE_MOST = 0.05, 1.0  # seconds between two looks: few tasks end at once, and few wait for the second
TIMED_OUT, INTERRUPTED = 124, 130  # exit codes, as of timeout(1) and of a shell

QUERY = "select status::text, result::text, error from lockgate.task_detail where id = %s"


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
                row = connection.execute(QUERY, [task]).fetchone()
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
            [(number,)] = connection.execute(STATEMENT, task)
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
