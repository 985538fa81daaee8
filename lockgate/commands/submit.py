"""`lockgate submit`: a task from the command line."""

from datetime import datetime
from typing import Any

import click
import psycopg

from lockgate.commands.database import Database, asks_database
from lockgate.commands.payload import Payload
from lockgate.commands.seconds import YEARS, Seconds
from lockgate.commands.wait import wait_for
from lockgate.errors import UserError

STATEMENT = """
select lockgate.submit(
  queue => %(queue)s, kind => %(kind)s, payload => %(payload)s::jsonb, priority => %(priority)s, run_at => %(run_at)s,
  delay => %(delay)s, max_attempts => %(max_attempts)s, timeout => %(timeout)s, tags => %(tags)s,
  idempotency_key => %(idempotency_key)s, dedupe_key => %(dedupe_key)s)
"""


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
            number = _submit(connection, task)
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


def _submit(connection: psycopg.Connection[Any], task: dict[str, Any]) -> int:
    """Return the task's number."""
    row = connection.execute(STATEMENT, task).fetchone()
    return int(row[0]) if row else 0
