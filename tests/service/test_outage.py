"""Without its database the service says so, soon, and is itself again as soon as that is."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

import httpx
import psycopg
import pytest

from lockgate.postgres.server import Server
from lockgate.schema import VERSION
from tests.contract import Contract, until
from tests.database import Database
from tests.proxy import Proxy
from tests.runner.process import children
from tests.service.conftest import ProcessStart, ServiceStart, serving

BOUND = 30.0
"""Seconds within which every request is answered, whatever the database does, on a machine with other work to do."""


def is_unavailable(response: httpx.Response) -> bool:
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["retry-after"] == "1"
    assert response.json()["type"] == "/problems/unavailable"
    return response.status_code == 503


def ready(client: httpx.Client) -> bool:
    return client.get("/health/ready").status_code == 200


def test_the_service_starts_without_its_database_and_is_ready_once_that_is_there(
    start: ServiceStart, proxy: Proxy
) -> None:
    proxy.cut()
    client = start(proxy.dsn, ready=False)

    assert client.get("/health/live").status_code == 200
    assert is_unavailable(client.get("/health/ready"))
    proxy.connect()
    until(lambda: ready(client), "the service to be ready")
    assert client.post("/task").status_code == 202


def test_every_request_is_unavailable_while_the_database_is_away_and_works_once_it_is_back(
    start: ServiceStart, proxy: Proxy, q: Contract
) -> None:
    client = start(proxy.dsn)
    proxy.cut()
    begin = time.monotonic()

    with ThreadPoolExecutor(10) as pool:
        requests = [pool.submit(client.post, "/task") for _ in range(3)]
        requests += [pool.submit(client.post, "/tasks", json={"kind": "sleep"}) for _ in range(3)]
        requests += [pool.submit(client.get, path) for path in ("/task/1", "/tasks/1", "/tasks")]
        requests += [pool.submit(client.post, "/tasks/1/cancel")]
        assert all(is_unavailable(request.result()) for request in requests)

    assert time.monotonic() - begin < BOUND
    assert q.tasks() == []
    assert client.get("/health/live").status_code == 200
    proxy.connect()
    until(lambda: client.post("/task").status_code == 202, "a task to be taken")


def test_after_a_long_outage_the_database_is_found_as_soon_as_after_a_short_one(
    start: ServiceStart, proxy: Proxy
) -> None:
    client = start(proxy.dsn)
    proxy.cut()
    # With pauses that keep doubling from one second, the next attempt would be 10 s after this, or later.
    end = time.monotonic() + 18
    while time.monotonic() < end:
        assert not ready(client)

    proxy.connect()

    until(lambda: ready(client), "the service to be ready", limit=8)


def test_a_database_that_falls_silent_is_given_up_in_time_and_is_found_again(start: ServiceStart, proxy: Proxy) -> None:
    client = start(proxy.dsn)
    proxy.silence()
    begin = time.monotonic()

    assert is_unavailable(client.get("/health/ready"))
    assert time.monotonic() - begin < 20
    assert is_unavailable(client.post("/task"))
    assert time.monotonic() - begin < BOUND
    proxy.resume()
    until(lambda: client.post("/task").status_code == 202, "a task to be taken")


def test_connections_that_fell_silent_together_are_given_up_together(start: ServiceStart, proxy: Proxy) -> None:
    client = start(proxy.dsn)
    # All of the pool's connections have been used.
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: client.get("/tasks"), range(100)))
    proxy.strand()

    assert is_unavailable(client.post("/task"))
    # One by one it would be 45 s.
    until(lambda: client.post("/task").status_code == 202, "a task to be taken", limit=25)


def test_the_first_request_after_a_restart_of_the_database_works(http: httpx.Client, db: Database) -> None:
    # All of the pool's connections have been used.
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: http.get("/tasks"), range(100)))
    db.end_sessions()

    assert http.post("/task").status_code == 202


@pytest.mark.parametrize("path", ["/health/ready", "/tasks/1"])
def test_without_its_schema_the_service_says_what_to_do(http: httpx.Client, db: Database, path: str) -> None:
    db.query("drop schema lockgate cascade")

    response = http.get(path)

    assert is_unavailable(response)
    assert "lockgate migrate" in response.json()["detail"]


REQUESTS = [
    ("POST", "/task"),
    ("POST", "/tasks"),
    ("GET", "/task/1"),
    ("GET", "/tasks"),
    ("DELETE", "/tasks/1"),
    ("GET", "/tasks/1/output"),
    ("PATCH", "/queues/default"),
    ("POST", "/queues/default/pause"),
    ("GET", "/slots"),
    ("GET", "/runners"),
    ("GET", "/health/ready"),
]


def test_with_too_old_a_schema_every_request_says_what_to_do_until_it_is_done(
    start: ServiceStart, db: Database, q: Contract
) -> None:
    db.query("update lockgate.release set version = 0")
    client = start(db.service, ready=False)
    until(lambda: "version 0" in client.get("/health/ready").json()["detail"], "the schema to be looked at")

    for method, path in REQUESTS:
        response = client.request(method, path, json={"kind": "sleep"} if path == "/tasks" else None)
        assert is_unavailable(response), path
        assert "version 0" in response.json()["detail"]
        assert "lockgate migrate" in response.json()["detail"]
    assert client.get("/health/live").status_code == 200
    assert q.tasks() == []
    db.query("update lockgate.release set version = %s", VERSION)
    assert client.post("/task").status_code == 202
    until(lambda: ready(client), "the service to be ready")


def test_a_schema_that_becomes_too_old_is_noticed_by_the_next_look_at_it(http: httpx.Client, db: Database) -> None:
    db.query("update lockgate.release set version = 0")

    assert is_unavailable(http.get("/health/ready"))
    assert is_unavailable(http.post("/task"))


def test_a_login_without_the_rights_is_told_which(start: ServiceStart, db: Database) -> None:
    client = start(db.viewer, ready=False)
    until(lambda: "did not answer" not in client.get("/health/ready").text, "an answer of the database")
    response = client.post("/task")

    assert is_unavailable(response)
    assert "lockgate_service" in response.json()["detail"]


def test_a_read_only_database_is_unavailable_for_writing_only(http: httpx.Client, db: Database, q: Contract) -> None:
    number = q.row()
    db.query(f"alter database {db.name} set default_transaction_read_only = on")
    db.end_sessions()

    assert is_unavailable(http.post("/task"))
    assert http.get(f"/tasks/{number}").status_code == 200


# Real processes, a real server, and what happens to servers. ---------------------------------------------------------


def ask_everything(url: str, times: int = 1) -> list[httpx.Response]:
    """Requests of every kind at once, each answered in time."""
    requests = [("POST", "/task", None), ("POST", "/tasks", {"kind": "sleep"}), ("GET", "/tasks/1", None)]
    requests += [("GET", "/tasks", None), ("POST", "/tasks/1/cancel", None), ("GET", "/queues", None)]

    def ask(client: httpx.Client, method: str, path: str, body: object) -> httpx.Response:
        return client.request(method, path, json=body) if body else client.request(method, path)

    limits = httpx.Limits(max_connections=None)
    with httpx.Client(base_url=url, timeout=BOUND, limits=limits) as client, ThreadPoolExecutor(64) as pool:
        return [f.result() for f in [pool.submit(ask, client, *request) for request in requests * times]]


def recovers(url: str) -> None:
    """The service takes tasks again, without anybody's help."""
    until(lambda: httpx.post(f"{url}/task", timeout=BOUND).status_code == 202, "a task to be taken", BOUND)
    until(lambda: httpx.get(f"{url}/health/ready", timeout=BOUND).status_code == 200, "it to be ready", BOUND)


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """The kernel still accepts connections for it, and nobody answers."""
    stopped = [server.pid]
    os.kill(server.pid, signal.SIGSTOP)  # first, so that it starts no more
    try:
        for child in children(server.pid):
            os.kill(child, signal.SIGSTOP)
            stopped.append(child)
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    server.stop("fast")
    try:
        yield
    finally:
        server.start()


@contextmanager
def crowded(server: Server) -> Iterator[None]:
    """All connections are taken, and the service has none."""
    end = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lockgate-service'"
    with ExitStack() as held, psycopg.connect(server.dsn(), autocommit=True) as one:

        def more() -> bool:
            with suppress(psycopg.OperationalError):
                held.enter_context(psycopg.connect(server.dsn()))
                return True
            return False

        while one.execute(end).fetchall() or more():
            pass
        yield


@pytest.mark.parametrize("fault", [stopped, frozen, crowded])
def test_with_its_server_the_service_goes_and_comes_back(
    process: ProcessStart, own_server: Server, fault: Callable[[Server], AbstractContextManager[None]]
) -> None:
    own_server.restart(settings={"max_connections": "20"})
    one = serving(process, own_server.dsn())
    assert {response.status_code for response in ask_everything(one.url)} <= {200, 202, 404}

    with fault(own_server):
        assert all(is_unavailable(response) for response in ask_everything(one.url, times=5))
        assert is_unavailable(httpx.get(f"{one.url}/health/ready", timeout=BOUND))
        assert httpx.get(f"{one.url}/health/live", timeout=BOUND).status_code == 200

    recovers(one.url)
    one.popen.terminate()
    assert one.ended()[0] == 0
    assert not [line for line in one.lines if line["event"] == "failed"]


def test_a_service_that_meets_a_silent_port_first_is_ready_once_a_database_is_there(
    process: ProcessStart, proxy: Proxy
) -> None:
    """It is accepted there, and hears nothing."""
    proxy.silence()
    one = process("--port", "0", DATABASE_URL=proxy.dsn)

    assert all(is_unavailable(response) for response in ask_everything(one.url))
    assert is_unavailable(httpx.get(f"{one.url}/health/ready", timeout=BOUND))
    proxy.cut()
    proxy.resume()
    proxy.connect()
    recovers(one.url)


def test_when_all_connections_wait_for_locks_everybody_is_told_in_time_and_nothing_goes_on_waiting(
    process: ProcessStart, db: Database, q: Contract
) -> None:
    one = serving(process, db.service, "--pool-size", "3")
    locker = db.connect("admin")
    waiting = "select query from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with locker.transaction():
        locker.execute("lock table lockgate.task, lockgate.queue")
        assert all(is_unavailable(response) for response in ask_everything(one.url, times=10))
        assert httpx.get(f"{one.url}/health/live", timeout=BOUND).status_code == 200
        # Or it would be stored long after whoever sent it was told that it could not be.
        until(lambda: db.query(waiting) == [], "nothing to wait for the lock any more")

    assert q.tasks() == []
    recovers(one.url)


def test_when_slow_statements_have_all_connections_the_others_wait_no_longer_than_the_limit(
    process: ProcessStart, db: Database
) -> None:
    one = serving(process, db.service, "--pool-size", "2")
    db.query(
        "create or replace function lockgate.cancel(task bigint, force boolean default false) returns lockgate.status"
        " language plpgsql as $$ begin perform pg_sleep(600); return 'running'; end $$"
    )
    with httpx.Client(base_url=one.url, timeout=BOUND) as client, ThreadPoolExecutor(30) as pool:
        slow = [pool.submit(client.post, "/tasks/1/cancel") for _ in range(10)]
        asleep = "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'"
        until(lambda: db.value(asleep) == 2, "all connections to be taken")
        others = [pool.submit(client.get, "/tasks") for _ in range(10)]
        assert all(is_unavailable(request.result()) for request in slow)
        assert all(request.result().status_code == 200 or is_unavailable(request.result()) for request in others)

    until(lambda: db.value(asleep) == 0, "the slow statements to be given up")
    recovers(one.url)


def test_more_requests_than_may_wait_for_a_connection_are_refused_at_once(process: ProcessStart, db: Database) -> None:
    one = serving(process, db.service, "--pool-size", "1")
    locker = db.connect("admin")
    with locker.transaction():
        locker.execute("lock table lockgate.task, lockgate.queue")
        assert all(is_unavailable(response) for response in ask_everything(one.url, times=60))
    recovers(one.url)
