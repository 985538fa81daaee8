"""`lockgate healthcheck`: whether the program beside it does its work, for who runs it in a container."""

import http.client
import json
import socket
import time
from pathlib import Path

import click

from lockgate.errors import UserError
from lockgate.options import database_url, option

LIMIT = 3  # seconds for an answer
STATUS_AGE_MAX = 15  # seconds; it is written every second

NEWEST = """
select min(extract(epoch from clock_timestamp() - state_change))::float8 from pg_stat_activity
where datname = current_database() and starts_with(application_name, %s)
"""


@click.group()
def healthcheck() -> None:
    """Ask whether the program in this container does its work: 0 if so, else 1 and why, in one line."""


@healthcheck.command("serve")
@option("LOCKGATE_PORT", "--port", type=int, default=8000, help="Where it is.")
def serve(port: int) -> None:
    """Whether the service can take tasks."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        said = json.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UserError(f"the service does not answer: {error}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise UserError(f"the service is not ready: {said.get('detail')}")


STATUS_FILE = option(
    "LOCKGATE_STATUS_FILE",
    "--status-file",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where it says how it is.",
)


def _of_status_file(status_file: Path) -> None:
    try:
        said = json.loads(status_file.read_text())
        age = time.time() - said["time"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"no word of it: {error}") from error
    if age > STATUS_AGE_MAX:
        raise UserError(f"its last word is {age:.0f} s old")
    if not said["works"]:
        raise UserError("it waits for the broker or the database: its log says for which")


for name, whether in {
    "intake": "Whether the intake takes messages and can store them.",
    "publish": "Whether the publisher publishes how tasks end, or stands by to do it.",
}.items():
    healthcheck.command(name, help=whether)(STATUS_FILE(_of_status_file))


@healthcheck.command("run")
@database_url("That of the runner.")
@option("LOCKGATE_POLL", "--poll", type=float, default=1.0)
def run(database_url: str, poll: float) -> None:
    """Whether a runner of this host has a session, and has said something on it of late.

    It asks the database, which sees a frozen runner for what it is.
    """
    import psycopg

    with psycopg.connect(
        database_url, autocommit=True, connect_timeout=LIMIT, prepare_threshold=None, application_name="lockgate-health"
    ) as connection:
        row = connection.execute(NEWEST, [f"lockgate-runner {socket.gethostname()}-"[:63]]).fetchone()
    silent = row[0] if row else None
    if silent is None:
        raise UserError("no runner of this host has a session")
    if silent > 2 * poll + 5:
        raise UserError(f"the runner has been silent for {silent:.0f} s")
