"""A service on a real port against the test's own database, in this process or in one of its own; runners beside it."""

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
import structlog
import uvicorn
from lockgate_service.app import create_app
from lockgate_service.auth.keys import SCOPES, Scope
from lockgate_service.http.middleware import surrounded
from lockgate_service.options import Settings
from lockgate_service.server import Server, listen, protocol
from lockgate_service.tasks import loader

from lockgate.witness import Witness
from tests.contract import until
from tests.database import Database, Template
from tests.proxy import Proxy
from tests.runner.process import RunnerProcess
from tests.service.api_keys import make_key

# In this process; one of its own has a log of its own, which is looked at.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))

ServiceStart = Callable[..., httpx.Client]
ProcessStart = Callable[..., "Process"]
RunnerStart = Callable[..., RunnerProcess]
Asking = tuple[Database, httpx.Client, dict[Scope, str]]
"""A service that asks for keys, and one key of each scope."""


PATIENT = (
    "import lockgate_service.server as it, lockgate_service.__main__ as run; "
    "it.STOP_SECONDS = it.WAITING_STOP_SECONDS = 60; run.main()"
)
"""A service that gives its end a minute, which is more than SOON, and to those who wait as much."""


@pytest.fixture(autouse=True)
def _positions_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a slow machine would have them left out."""
    monkeypatch.setattr(loader, "POSITION_LIMIT", 4.5)


class ThreadServer(Server):
    """In a thread, where nobody gets signals."""

    capture_signals = uvicorn.Server.capture_signals


@contextmanager
def running(database_url: str, **settings: Any) -> Iterator[httpx.Client]:
    """The service in a thread of this process: quick to start."""
    stopping = asyncio.Event()
    root = settings.get("root_path", "")
    app = surrounded(create_app(Settings(database_url=database_url, **settings), stopping), root)
    config = uvicorn.Config(
        app, http=protocol(root), log_config=None, lifespan="on", server_header=False, timeout_graceful_shutdown=1,
        timeout_keep_alive=60,
    )  # fmt: skip
    server = ThreadServer(config, stopping)
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread = threading.Thread(target=server.run, args=([listener],), name="service")
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive(), "the service to start")
        # Tests share it between threads, and it must close no connection that another thread is about to use.
        limits = httpx.Limits(keepalive_expiry=None)
        with httpx.Client(base_url=url, timeout=20, limits=limits) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def until_ready(service: "httpx.Client | Process", root: str = "") -> None:
    until(lambda: service.get(f"{root}/health/ready").status_code == 200, "the service to be ready")


@pytest.fixture
def start() -> Iterator[ServiceStart]:
    """Starts services with these settings, and waits until each is ready unless told not to."""
    with ExitStack() as stack:

        def begin(url: str, ready: bool = True, **settings: Any) -> httpx.Client:
            client = stack.enter_context(running(url, **settings))
            if ready:
                until_ready(client, settings.get("root_path", ""))
            return client

        yield begin


@pytest.fixture
def http(db: Database, start: ServiceStart) -> httpx.Client:
    """A client of a service that is ready."""
    return start(db.service)


@pytest.fixture(scope="session")
def shared(pg_template: Template) -> Iterator[tuple[Database, httpx.Client]]:
    with pg_template.clone() as db, running(db.service) as client:
        until_ready(client)
        yield db, client


@pytest.fixture
def refusing(shared: tuple[Database, httpx.Client]) -> Iterator[httpx.Client]:
    """A client of one service for all tests in which nothing may be stored; afterwards nothing is."""
    db, client = shared
    yield client
    assert db.query("select * from lockgate.task") == []


class Process:
    """`python -m lockgate_service` as a process of its own. Its log, one JSON object a line, grows in `lines`."""

    def __init__(self, *arguments: str, patient: bool = False, **variables: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LOCKGATE_", "DATABASE_"))}
        self.popen = subprocess.Popen(
            [sys.executable, *(["-c", PATIENT] if patient else ["-m", "lockgate_service"]), *arguments],
            env=kept | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[dict[str, Any]] = []
        self.reader = threading.Thread(target=self._read, name="log")
        self.reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self.lines.append(json.loads(line))

    def said(self, event: str) -> dict[str, Any] | None:
        """The first line of the log about that."""
        return next((line for line in self.lines if line["event"] == event), None)

    @property
    def url(self) -> str:
        until(lambda: self.said("listening") or self.popen.poll() is not None, "the service to listen")
        line = self.said("listening")
        assert line is not None, self.ended()
        return str(line["url"])

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=60, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", timeout=60, **options)

    def ended(self, limit: float = 60) -> tuple[int, str]:
        """Exit code and stderr, once it has ended."""
        code = self.popen.wait(limit)
        self.reader.join(limit)
        assert self.popen.stderr is not None
        return code, self.popen.stderr.read()

    def close(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(20)
        self.reader.join(20)
        for stream in (self.popen.stdout, self.popen.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def process() -> Iterator[ProcessStart]:
    """Starts `python -m lockgate_service` with these arguments and environment variables."""
    started: list[Process] = []

    def begin(*arguments: str, patient: bool = False, **variables: str) -> Process:
        started.append(Process(*arguments, patient=patient, **variables))
        return started[-1]

    yield begin
    for one in started:
        one.close()


def serving(process: ProcessStart, dsn: str, *arguments: str, patient: bool = False) -> Process:
    """A ready one on some free port."""
    one = process("--port", "0", *arguments, patient=patient, DATABASE_URL=dsn)
    until_ready(one)
    return one


SOON = 45.0
"""Seconds for an end that may wait 5 s for open requests and then 2 s for statements, on a machine with other work."""


def ends(one: Process, since: float) -> None:
    """In order, and soon after that time."""
    assert one.ended() == (0, "")
    assert time.monotonic() - since < SOON
    assert one.lines[-1]["event"] == "stopped"
    assert not [line for line in one.lines if line["event"] == "failed"]


def stops(one: Process) -> None:
    begin = time.monotonic()
    one.popen.terminate()
    ends(one, begin)


def opened(url: str, request: bytes) -> socket.socket:
    """A connection on which these bytes have been sent."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(request)
    return connection


@pytest.fixture
def proxy(db: Database) -> Iterator[Proxy]:
    """Between service and database."""
    with Proxy(db.service) as made:
        yield made


@pytest.fixture
def witness() -> Iterator[Witness]:
    """Counts from outside how many handlers execute."""
    with Witness() as counting:
        yield counting


@pytest.fixture
def runners(db: Database, witness: Witness) -> Iterator[RunnerStart]:
    """Starts runner processes with these settings."""
    started: list[RunnerProcess] = []

    def begin(**settings: Any) -> RunnerProcess:
        started.append(RunnerProcess(db.runner, witness.address, **settings))
        return started[-1]

    yield begin
    for one in started:
        one.close()


@pytest.fixture(scope="module")
def asking(pg_template: Template) -> Iterator[Asking]:
    with pg_template.clone() as db, ExitStack() as stack:
        made = {scope: make_key(db, scope, scope) for scope in SCOPES}
        client = stack.enter_context(running(db.service, published="0.0.0.0:8000"))
        until_ready(client)
        yield db, client, made
