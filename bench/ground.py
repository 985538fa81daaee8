"""What everything is measured on: a server that loses nothing, on a disk, and real programs beside it."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psycopg

from bench import machine, processes
from lockgate import schema
from lockgate.postgres.server import Server

ROOT = machine.ROOT
INSERT = """
insert into lockgate.task (queue, kind, status, run_at, max_attempts, payload)
select 'default', %s, 'queued', now(), 3, %s from generate_series(1, %s)
"""


@dataclass(frozen=True)
class Scale:
    """How long to measure, and where to keep the data meanwhile."""

    short: bool
    folder: Path

    def __call__(self, whole: Any, short: Any) -> Any:
        return short if self.short else whole


@dataclass
class Program:
    """A program of ours as it is started by others: ``python -P -m <module>``, its words in a file.

    `python`, `folder`: the interpreter and the working directory, for a program of another checkout.
    """

    module: str
    settings: Mapping[str, str]
    log: Path
    python: Path = Path(sys.executable)
    folder: Path = ROOT
    process: "subprocess.Popen[bytes]" = field(init=False)
    _asked: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LOCKGATE_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.python, "-P", "-m", *self.module.split()],
                env=inherited | {"LOCKGATE_LOG_FORMAT": "json"} | dict(self.settings),
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    def executors(self) -> list[int]:
        """The processes below a runner in which handlers execute."""
        return [
            pid
            for pid in processes.children(self.pid)
            if "lockgate_runner.executor.child" in processes.command_line(pid)
        ]

    def ask(self) -> None:
        """To stop; once, for a program that is asked again stops at once."""
        if not self._asked and self.process.poll() is None:
            self._asked = True
            self.process.terminate()

    def stop(self) -> None:
        """Asks, then kills."""
        self.ask()
        if self.process.poll() is None:
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)

    def words(self) -> str:
        """The last of what it said."""
        return self.log.read_text(errors="replace")[-2000:]


class Database:
    """One database with our schema in it, and a connection of its owner."""

    def __init__(self, server: Server, name: str) -> None:
        self.name = name
        schema.apply(server.dsn(database=name))
        logins = schema.create_logins(server.dsn(database=name), server.password)
        self.urls = {use: server.dsn(login, name) for use, login in logins.items()} | {
            "owner": server.dsn(database=name)
        }
        self.owner: psycopg.Connection[Any] = psycopg.connect(self.urls["owner"], autocommit=True)

    def value(self, query: str, *parameters: object) -> Any:
        row = self.owner.execute(query.encode(), parameters).fetchone()
        return row[0] if row else None

    def refill(self, number: int, kind: str = "noop", payload: str = "{}") -> None:
        """Nothing but so many waiting tasks, and the table as it is after a vacuum."""
        self.owner.execute("truncate lockgate.task, lockgate.attempt, lockgate.output")
        self.add(number, kind, payload)
        self.owner.execute("vacuum (analyze) lockgate.task")
        self.owner.execute("checkpoint")

    def add(self, number: int, kind: str = "noop", payload: str = "{}") -> None:
        self.owner.execute(INSERT, (kind, payload, number))

    def claims(self) -> int:
        """How many there have been. Costs nobody anything: the sequence of leases tells."""
        return self.given("lease")

    def given(self, sequence: str) -> int:
        """The last number that a sequence has given; 0 before the first."""
        return int(self.value("select coalesce(pg_sequence_last_value(%s), 0)", f"lockgate.{sequence}"))

    def abandon(self) -> None:
        """Forgets what pgbench, which never finishes its last tasks, has left running."""
        self.owner.execute("delete from lockgate.task where status = 'running'")


class Ground:
    """A context: the embedded server with its own settings, and more where a question needs it (``settings``)."""

    def __init__(self, scale: Scale, settings: Mapping[str, str] = {}) -> None:
        if machine.filesystem(scale.folder) == "tmpfs":
            raise SystemExit(f"{scale.folder} is memory, not a disk; choose another with --folder")
        self._machine = machine.machine(scale.folder)
        self.folder = Path(tempfile.mkdtemp(prefix="lockgate-bench-", dir=scale.folder))
        self.folder.chmod(0o755)  # as root, the server runs as somebody who has to get there
        self.server = Server(self.folder / "data", settings=settings)
        self._programs: list[Program] = []
        self._databases: list[Database] = []

    def __enter__(self) -> Self:
        try:
            self.server.start()
            self.main = Database(self.server, "lockgate")
        except BaseException:
            self.__exit__()
            raise
        self._databases.append(self.main)
        return self

    def __exit__(self, *_: object) -> None:
        for program in self._programs:
            program.stop()
        for database in self._databases:
            database.owner.close()
        self.server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def database(self, name: str) -> Database:
        """One more, with the schema in it."""
        self.main.owner.execute(f"create database {name}".encode())
        self._databases.append(Database(self.server, name))
        return self._databases[-1]

    def said(self) -> list[str]:
        """What it is, a line each."""
        return [*self._machine, machine.server(self.main.owner)]

    def start(self, module: str, **settings: str) -> Program:
        """Starts a program; all of them end with the ground."""
        program = Program(module, settings, self.folder / f"{module.replace(' ', '-')}-{secrets.token_hex(3)}.log")
        self._programs.append(program)
        return program

    def backends(self) -> list[int]:
        """All processes of the server."""
        return [self.server.pid, *processes.children(self.server.pid)]

    @contextmanager
    def runners(self, number: int, database: Database, module: str = "lockgate_runner", **settings: str) -> Any:
        """So many runner processes, with a session each; they are stopped at the end."""
        before = database.value("select count(*) from lockgate.runner")
        settings = {"DATABASE_URL": database.urls["runner"], "LOCKGATE_HANDLERS": "bench.handlers"} | settings
        started = [self.start(module, **settings) for _ in range(number)]
        try:
            until(
                lambda: database.value("select count(*) from lockgate.runner") >= before + number,
                lambda: f"{number} runners: {started[-1].words()}",
                60 + number,
            )
            yield started
        finally:
            for program in started:
                program.ask()
            for program in started:
                program.stop()


def until(condition: Callable[[], object], what: Callable[[], str], limit: float, every: float = 0.02) -> None:
    """Waits until something is so. Raises TimeoutError."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {limit:.0f} s in vain for {what()}")
        time.sleep(every)
