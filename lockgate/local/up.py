"""`lockgate up`: a whole Lockgate on this machine."""

import shlex
from pathlib import Path

import click
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lockgate import schema
from lockgate.local.stack import Stack, StackError
from lockgate.local.supervisor import spare_option
from lockgate.options import data_option, database_url, option
from lockgate.postgres import ports
from lockgate.postgres.server import Server
from lockgate.signals import Signals


@click.command()
@data_option("Folder of the embedded database.")
@database_url("Use this database, and start none.", required=False, default="an embedded one")
@option("LOCKGATE_HOST", "--host", default="127.0.0.1", help="Of the service.")
@option("LOCKGATE_PORT", "--port", type=click.IntRange(1, 65535), default=8000, help="Of the service.")
@option("LOCKGATE_RUNNERS", "--runners", type=click.IntRange(0, 100), default=2, help="How many runner processes.")
@option(
    "LOCKGATE_SLOTS",
    "--slots",
    type=click.IntRange(0, 1000),
    help="How many tasks of the queue `default` may execute at once. [default: as it was; 2 at first]",
)
@spare_option
def up(
    data: Path, database_url: str | None, host: str, port: int, runners: int, slots: int | None, spare: bool
) -> None:
    """Start everything on this machine: a database, the service and runners.

    Ctrl-C stops it in order, a second one in a hurry. Whatever dies is started again.
    """
    server = None if database_url else Server(data)
    stack: Stack | None = None
    with Signals() as signals:
        try:
            if server:
                server.start()
            if obstacle := ports.obstacle(port, host):
                raise StackError(f"{obstacle}; choose another with --port")
            stack, psql = _build(server, database_url or "", host, port, runners, spare)
            if slots is not None:
                _set_slots(stack.service_url, slots)
            stack.start()
            _greet(stack, psql)
            while True:
                signals.check()
                stack.look_after()
                stack.watch(0.1)
        except KeyboardInterrupt:
            _say("stopping; once more to hurry")
        finally:
            if stack:
                stack.stop(lambda: signals.hurry)
            elif server:
                server.stop()


def _build(
    server: Server | None, database_url: str, host: str, port: int, runners: int, spare: bool
) -> tuple[Stack, str]:
    """Apply the schema; the programs, and a shell command that opens psql with the rights to look and to submit."""
    schema.apply(server.dsn() if server else database_url)
    if server is None:
        without_password = make_conninfo("", **conninfo_to_dict(database_url) | {"password": None})  # psql asks for it
        psql = f"PGOPTIONS='-c search_path=lockgate,public' psql {shlex.quote(without_password)}"
        return Stack(database_url, database_url, host, port, runners, spare=spare, say=_say), psql
    logins = schema.create_logins(server.dsn(), server.password)
    service, runner = server.dsn(logins["service"]), server.dsn(logins["runner"])
    return Stack(service, runner, host, port, runners, server, spare, say=_say), server.psql(logins["operator"])


def _set_slots(database_url: str, slots: int) -> None:
    with psycopg.connect(database_url, connect_timeout=10) as connection:
        connection.execute("select lockgate.set_slots('default', %s)", [slots])


def _greet(stack: Stack, psql: str) -> None:
    task = """'{"kind": "sleep", "payload": {"max": 3}}'"""
    key = " -H 'authorization: Bearer YOUR-KEY'" if stack.asks_for_a_key() else ""
    _say("up; Ctrl-C stops it")
    click.echo(f"\n  Watch it     {stack.url}/")
    click.echo(f"  The API      {stack.url}/docs")
    click.echo(f"  Make a task  curl -s {stack.url}/tasks{key} -H 'content-type: application/json' -d {task}")
    click.echo(f"  In SQL       {psql}")
    click.echo(r"               select * from queue_overview \watch 1")
    click.echo("""               select submit('default', 'sleep', '{"max": 3}');\n""")


def _say(line: str) -> None:
    click.echo(f"lockgate: {line}", err=True)
