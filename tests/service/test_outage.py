"""Without its database the service says so, soon, and is itself again as soon as that is."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.contract import Contract, until
from tests.database import Database
from tests.proxy import Proxy
from tests.service.conftest import ServiceStart


def is_unavailable(response: httpx.Response) -> bool:
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["retry-after"] == "1"
    assert response.json()["type"] == "urn:lockgate:problem:unavailable"
    return response.status_code == 503


def ready(client: httpx.Client) -> bool:
    return client.get("/health/ready").status_code == 200


def test_the_service_starts_without_its_database_and_is_ready_once_that_is_there(
    start: ServiceStart, proxy: Proxy
) -> None:
    proxy.cut()
    client = start(proxy.dsn)

    assert client.get("/health/live").status_code == 200
    assert is_unavailable(client.get("/health/ready"))
    proxy.connect()
    until(lambda: ready(client), "the service to be ready")
    assert client.post("/task").status_code == 202


def test_every_request_is_unavailable_while_the_database_is_away_and_works_once_it_is_back(
    start: ServiceStart, proxy: Proxy, q: Contract
) -> None:
    client = start(proxy.dsn)
    until(lambda: ready(client), "the service to be ready")
    proxy.cut()
    begin = time.monotonic()

    with ThreadPoolExecutor(10) as pool:
        requests = [pool.submit(client.post, "/task") for _ in range(3)]
        requests += [pool.submit(client.post, "/tasks", json={"kind": "sleep"}) for _ in range(3)]
        requests += [pool.submit(client.get, path) for path in ("/task/1", "/tasks/1", "/tasks")]
        requests += [pool.submit(client.post, "/tasks/1/cancel")]
        assert all(is_unavailable(request.result()) for request in requests)

    assert time.monotonic() - begin < 10
    assert q.tasks() == []
    assert client.get("/health/live").status_code == 200
    proxy.connect()
    until(lambda: client.post("/task").status_code == 202, "a task to be taken")


def test_after_a_long_outage_the_database_is_found_as_soon_as_after_a_short_one(
    start: ServiceStart, proxy: Proxy
) -> None:
    client = start(proxy.dsn)
    until(lambda: ready(client), "the service to be ready")
    proxy.cut()
    # With pauses that keep doubling, the next attempt would be 8 s after this.
    end = time.monotonic() + 8
    while time.monotonic() < end:
        assert not ready(client)

    proxy.connect()

    until(lambda: ready(client), "the service to be ready", limit=4)


def test_a_database_that_falls_silent_is_given_up_in_time_and_is_found_again(start: ServiceStart, proxy: Proxy) -> None:
    client = start(proxy.dsn)
    until(lambda: ready(client), "the service to be ready")
    proxy.silence()
    begin = time.monotonic()

    assert is_unavailable(client.get("/health/ready"))
    assert time.monotonic() - begin < 3
    assert is_unavailable(client.post("/task"))
    assert time.monotonic() - begin < 12
    proxy.resume()
    until(lambda: client.post("/task").status_code == 202, "a task to be taken", limit=20)


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
    db.query("update lockgate.release set version = 1")
    client = start(db.service)

    for method, path in REQUESTS:
        response = client.request(method, path, json={"kind": "sleep"} if path == "/tasks" else None)
        assert is_unavailable(response), path
        assert "version 1" in response.json()["detail"]
        assert "lockgate migrate" in response.json()["detail"]
    assert client.get("/health/live").status_code == 200
    assert q.tasks() == []
    db.query("update lockgate.release set version = 2")
    assert client.post("/task").status_code == 202
    assert ready(client)


def test_a_schema_that_becomes_too_old_is_noticed_by_the_next_look_at_it(http: httpx.Client, db: Database) -> None:
    db.query("update lockgate.release set version = 1")

    assert is_unavailable(http.get("/health/ready"))
    assert is_unavailable(http.post("/task"))


def test_a_login_without_the_rights_is_told_which(start: ServiceStart, db: Database) -> None:
    response = start(db.viewer).post("/task")

    assert is_unavailable(response)
    assert "lockgate_service" in response.json()["detail"]


def test_a_read_only_database_is_unavailable_for_writing_only(http: httpx.Client, db: Database, q: Contract) -> None:
    number = q.row()
    db.query(f"alter database {db.name} set default_transaction_read_only = on")
    db.end_sessions()

    assert is_unavailable(http.post("/task"))
    assert http.get(f"/tasks/{number}").status_code == 200
