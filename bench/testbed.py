"""The testbed of all measurements: a durable server on a disk, and our programs as processes."""

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
    """The duration of a measurement, and the folder of its data."""

    short: bool
    folder: Path

    def __call__(self, whole: Any, short: Any) -> Any:
        return short if self.short else whole


@dataclass
class Program:
    """One of our programs, started as ``python -P -m <module>``; its log goes to a file.

    `python`, `folder`: the interpreter and the working directory, for a program of another checkout.
    """

    module: str
    settings: Mapping[str, str]
    log: Path
    python: Path = Path(sys.executable)
    folder: Path = ROOT
    process: "subprocess.Popen[bytes]" = field(init=False)
    _terminated: bool = field(default=False, init=False)

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
        """Returns the executors of a runner."""
        return [
            pid
            for pid in processes.children(self.pid)
            if "lockgate_runner.executor.child" in processes.command_line(pid)
        ]

    def terminate(self) -> None:
        """Sends TERM, once: a second one would make the program stop at once."""
        if not self._terminated and self.process.poll() is None:
            self._terminated = True
            self.process.terminate()

    def stop(self) -> None:
        """Sends TERM, waits, then KILL."""
        self.terminate()
        if self.process.poll() is None:
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)

    def log_tail(self) -> str:
        """Returns the end of its log."""
        return self.log.read_text(errors="replace")[-2000:]


class Database:
    """A database with our schema, and a connection of its owner."""

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
        """Replaces all tasks by a number of waiting ones, then vacuums."""
        self.owner.execute("truncate lockgate.task, lockgate.attempt, lockgate.output")
        self.add(number, kind, payload)
        self.owner.execute("vacuum (analyze) lockgate.task")
        self.owner.execute("checkpoint")

    def add(self, number: int, kind: str = "noop", payload: str = "{}") -> None:
        self.owner.execute(INSERT, (kind, payload, number))

    def claims(self) -> int:
        """Returns the number of claims so far, from the sequence of leases."""
        return self.given("lease")

    def given(self, sequence: str) -> int:
        """Returns the last value of a sequence; 0 before the first."""
        return int(self.value("select coalesce(pg_sequence_last_value(%s), 0)", f"lockgate.{sequence}"))

    def delete_running(self) -> None:
        """Deletes the running tasks: pgbench never finishes its last ones."""
        self.owner.execute("delete from lockgate.task where status = 'running'")


class Testbed:
    """A context: the embedded server with its default settings and those in ``settings``."""

    def __init__(self, scale: Scale, settings: Mapping[str, str] = {}) -> None:
        if machine.filesystem(scale.folder) == "tmpfs":
            raise SystemExit(f"{scale.folder} is memory, not a disk; choose another with --folder")
        self._machine = machine.machine(scale.folder)
        self.folder = Path(tempfile.mkdtemp(prefix="lockgate-bench-", dir=scale.folder))
        self.folder.chmod(0o755)  # as root, the server runs as another user
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
        """Makes another database."""
        self.main.owner.execute(f"create database {name}".encode())
        self._databases.append(Database(self.server, name))
        return self._databases[-1]

    def describe(self) -> list[str]:
        """Describes machine, programs, disk and server, a line each."""
        return [*self._machine, machine.server(self.main.owner)]

    def start(self, module: str, **settings: str) -> Program:
        """Starts a program; the testbed stops it at its end."""
        program = Program(module, settings, self.folder / f"{module.replace(' ', '-')}-{secrets.token_hex(3)}.log")
        self._programs.append(program)
        return program

    def backends(self) -> list[int]:
        """Returns all processes of the server."""
        return [self.server.pid, *processes.children(self.server.pid)]

    @contextmanager
    def runners(self, number: int, database: Database, module: str = "lockgate_runner", **settings: str) -> Any:
        """Starts runner processes, waits for their sessions, and stops them at the end."""
        before = database.value("select count(*) from lockgate.runner")
        settings = {"DATABASE_URL": database.urls["runner"], "LOCKGATE_HANDLERS": "bench.handlers"} | settings
        started = [self.start(module, **settings) for _ in range(number)]
        try:
            until(
                lambda: database.value("select count(*) from lockgate.runner") >= before + number,
                lambda: f"{number} runners: {started[-1].log_tail()}",
                60 + number,
            )
            yield started
        finally:
            for program in started:
                program.terminate()
            for program in started:
                program.stop()


def until(condition: Callable[[], object], what: Callable[[], str], limit: float, every: float = 0.02) -> None:
    """Waits until the condition holds. Raises TimeoutError."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {limit:.0f} s in vain for {what()}")
        time.sleep(every)
