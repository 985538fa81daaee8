"""`lockgate up`: the service and its runners as children of this process, on an embedded server of ours or on
somebody's database."""

import json
import os
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any

import click
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lockgate import schema
from lockgate.errors import UserError
from lockgate.local.process import SHORT_LIFE, Program, RunnerProgram, environment
from lockgate.local.supervisor import Spare, Supervisor, needed, spare_option, watch
from lockgate.options import data_option, database_url, option
from lockgate.postgres.server import Server, port_obstacle
from lockgate.signals import Signals

ASK_LIMIT = 10.0  # seconds for an answer
READY_LIMIT = 30.0  # seconds until the service answers
HURRY_LIMIT = 5.0  # seconds a program gets to end once it was asked twice

# Straight to the service, whatever proxy the environment names.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class StackError(UserError):
    """The programs cannot be started or kept up; the message says why in one line."""


@dataclass
class Stack:
    """Start, look after and stop the programs, in the order in which they need each other.

    `spare`: whether to keep one runner more, loaded and waiting, for whichever dies first; `settings`: environment of
    all programs; `say`: gets a line about whatever happens to them; `output`: where their own words go, None = where
    ours go.
    """

    service_url: str
    runner_url: str
    host: str
    port: int
    runner_count: int
    server: Server | None = None
    spare: bool = True
    settings: dict[str, str] = field(default_factory=dict)
    say: Callable[[str], None] = print
    output: IO[bytes] | None = None

    def __post_init__(self) -> None:
        here = {"LOCKGATE_HOST": self.host, "LOCKGATE_PORT": str(self.port)}
        self.service = Program(
            "lockgate_service", environment(**self.settings, **here, DATABASE_URL=self.service_url), self.output
        )
        of_runners = environment(**self.settings, DATABASE_URL=self.runner_url)

        def make() -> RunnerProgram:
            return RunnerProgram(of_runners, self.output)

        self._spare = Spare(make) if self.spare else None
        metrics = of_runners.get("LOCKGATE_METRICS")
        self.runners = [Supervisor(make, self._spare, _moved(metrics, n)) for n in range(self.runner_count)]

    @property
    def url(self) -> str:
        """The service's address as seen from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104  compared, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def start(self) -> None:
        """Start the service, wait until it is ready, start the runners. Raises StackError."""
        self.service.start()
        end = time.monotonic() + READY_LIMIT
        while not self._is_ready():
            if how := self.service.ended:
                raise StackError(f"the service did not start ({how}); its own words are above")
            if time.monotonic() > end:
                raise StackError(f"the service is not ready after {READY_LIMIT:.0f} s; its own words are above")
            time.sleep(0.05)
        for runner in self.runners:
            runner.start()

    def ask(self, path: str, body: Any = None, method: str = "GET") -> Any:
        """Return what the service answers, decoded. Raises OSError, also for an answer that is an error."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"}, method=method)  # noqa: S310  http, our own
        with OPENER.open(request, timeout=ASK_LIMIT) as answer:
            return json.load(answer)

    def asks_for_a_key(self) -> bool:
        """Whether the service refuses who has none."""
        try:
            self.ask("/queues")
        except urllib.error.HTTPError as error:
            return error.code == HTTPStatus.UNAUTHORIZED
        except (OSError, ValueError):
            pass
        return False

    def _is_ready(self) -> bool:
        try:
            self.ask("/health/ready")
        except (OSError, ValueError):
            return False
        return True

    def look_after(self) -> None:
        """Replace what died since the last look, and say so. Raises StackError for what dies at once."""
        if self.server and self.server.ended:
            self.say("the database server died; starting it again")
            self.server.restart()
        if how := self.service.ended:
            if self.service.lived < SHORT_LIFE:
                raise StackError(f"the service ended soon after its start ({how}); its own words are above")
            self.say(f"the service died ({how}); starting it again")
            self.service.start()
        for runner in self.runners:
            if runner.refused:
                raise StackError(f"the runner did not start ({runner.ended}); its own words are above")
            if how := runner.tend():
                self.say(f"a runner died ({how}); another has its place")
        if self._spare:
            self._spare.tend(needed(self.runners))

    def watch(self, limit: float) -> None:
        """Wait until a runner has died, at most `limit` seconds."""
        watch(self.runners, limit)

    def stop(self, hurry: Callable[[], bool]) -> None:
        """Stop the runners, then the service, then the server; at once as soon as `hurry()`."""
        self._stop(self.runners, hurry)
        self._stop([self.service], hurry)
        if self.server:
            self.server.stop("immediate" if hurry() else "fast")

    def _stop(self, programs: Sequence[Program | Supervisor], hurry: Callable[[], bool]) -> None:
        for program in programs:
            program.ask()
        end = time.monotonic() + self._shutdown_timeout()
        hurried = False
        for program in programs:
            while not program.wait(0.05):
                if hurry() and not hurried:
                    hurried = True
                    end = time.monotonic() + HURRY_LIMIT
                    for each in programs:
                        each.ask()
                if time.monotonic() > end:
                    self.say(f"{program.module} does not stop; killing it")
                    program.kill()

    def _shutdown_timeout(self) -> float:
        """Return the seconds after which a program that was asked once to stop no longer keeps its own limits."""
        own = ((os.environ | self.settings).get(name) for name in ("LOCKGATE_SHUTDOWN_TIMEOUT", "LOCKGATE_KILL_AFTER"))
        return sum(float(given or default) for given, default in zip(own, (30, 5), strict=True)) + 5


def _moved(address: str | None, number: int) -> str | None:
    """[HOST:]PORT, so many ports further on; port 0 is any, and what is no address is for the runner to refuse. Raises
    StackError."""
    host, colon, port = (address or "").rpartition(":")
    if not (port.isascii() and port.isdigit()) or int(port) == 0:
        return address
    if int(port) + number > 65535:
        raise StackError(f"LOCKGATE_METRICS={address}: there is no port for runner {number + 1}")
    return f"{host}{colon}{int(port) + number}"


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
            if obstacle := port_obstacle(port, host):
                raise StackError(f"{obstacle}; choose another with --port")
            stack, psql = _build(server, database_url or "", host, port, runners, spare)
            if slots is not None:
                with psycopg.connect(stack.service_url, connect_timeout=10) as connection:
                    connection.execute("select lockgate.set_slots('default', %s)", [slots])
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
