"""Who may do what: every route, every scope, one queue."""

import asyncio
import json
import re
from typing import Any

import httpx
import pytest
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from lockgate_service.app import create_app
from lockgate_service.auth import keys
from lockgate_service.auth.guard import NEEDED, limit, needed
from lockgate_service.auth.keys import SCOPES, Caller, Scope
from lockgate_service.options import Settings
from lockgate_service.tasks import waiting

from tests.contract import Contract, until
from tests.database import Database
from tests.docs.markdown import table
from tests.service.api_keys import BEARER, bearer, make_key
from tests.service.conftest import Asking, ServiceStart


def operations() -> list[tuple[str, str, HTTPRouteHandler]]:
    """Method, path and handler of every route, with something in the place of each parameter."""
    app = create_app(Settings(database_url="postgresql://127.0.0.1:1/none"))
    found = [
        (method, re.sub(r"{\w+:(\w+)}", lambda found: "1" if found[1] == "int" else "none", route.path), handler)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods
    ]
    return sorted(found, key=lambda one: one[:2])  # Litestar's order is another in each process


OPERATIONS = [(method, path, needed(handler)) for method, path, handler in operations() if method != "OPTIONS"]
GUARDED = [(method, path, scope) for method, path, scope in OPERATIONS if scope]


def status(client: httpx.Client, method: str, path: str, headers: dict[str, str]) -> int:
    """Of a request whose body, where there has to be one, is none. Streams are not waited for."""
    with client.stream(method, path, headers=headers) as response:
        return response.status_code


def test_every_operation_has_a_line_in_the_table_of_scopes_and_every_line_is_one() -> None:
    there = {handler.operation_id for _, _, handler in operations()}
    assert NEEDED.keys() <= there


@pytest.mark.parametrize(("method", "path", "scope"), GUARDED)
def test_every_operation_refuses_who_has_no_key_or_too_small_a_scope(
    asking: Asking, method: str, path: str, scope: Scope
) -> None:
    _, client, made = asking
    refused = client.request(method, path, content=b"{")  # before it is found that this is no JSON
    assert refused.status_code == 401
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["www-authenticate"] == 'Bearer realm="lockgate"'
    assert status(client, method, path, bearer(BEARER)) == 401
    for its_own in SCOPES:
        answer = status(client, method, path, bearer(made[its_own]))
        assert (answer != 403) == Caller(its_own).may(scope), its_own
        assert answer != 401


PUBLIC = [(method, path) for method, path, scope in OPERATIONS if not scope and path not in ("/sign-in", "/sign-out")]


@pytest.mark.parametrize(("method", "path"), PUBLIC)
def test_health_and_documentation_are_for_everybody(asking: Asking, method: str, path: str) -> None:
    _, client, _ = asking
    assert client.request(method, path).status_code in (200, 404)


def test_a_route_without_a_line_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(NEEDED, "listTasks")
    with pytest.raises(Exception, match="does not say which scope listTasks needs"):
        create_app(Settings(database_url="postgresql://127.0.0.1:1/none"))


def test_the_table_of_the_documentation_is_the_one_that_is_applied() -> None:
    rows = [
        [f"{method} {route.path_format}", *("yes" if Caller(its_own).may(scope) else "403" for its_own in SCOPES)]
        for route in create_app(Settings(database_url="postgresql://127.0.0.1:1/none")).routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if (scope := needed(handler))
        for method in handler.http_methods
    ]
    assert sorted(table("docs/security.md", "### What a scope is refused")) == sorted(rows)


NO_KEYS = ["", "Bearer", "Basic YTpi", "Bearer lockgate_x", f"Bearer {BEARER}x", f"Token {BEARER}", BEARER]


@pytest.mark.parametrize("header", NO_KEYS)
def test_what_is_no_key_is_not_known(asking: Asking, header: str) -> None:
    _, client, _ = asking
    refused = client.get("/tasks", headers={"authorization": header})
    assert refused.status_code == 401
    assert refused.json()["type"].endswith("unauthenticated")


def test_the_secret_counts_and_not_only_the_id(asking: Asking) -> None:
    _, client, made = asking
    key = made["admin"]
    assert client.get("/tasks", headers=bearer(key)).status_code == 200
    assert client.get("/tasks", headers={"authorization": f"bearer   {key}"}).status_code == 200
    other = key[:-1] + ("A" if key[-1] != "A" else "B")
    assert client.get("/tasks", headers=bearer(other)).status_code == 401


# -- when keys are asked for ------------------------------------------------------------------------------------------


def test_on_loopback_nobody_is_asked_until_there_is_a_key(http: httpx.Client, db: Database) -> None:
    assert http.post("/task").status_code == 202
    key = make_key(db, "first")
    until(lambda: http.get("/tasks").status_code == 401, "the key to be noticed")
    assert http.get("/tasks", headers=bearer(key)).status_code == 200
    db.query("select lockgate.revoke_key('first')")
    until(lambda: http.get("/tasks", headers=bearer(key)).status_code == 401, "the revocation to be noticed")
    assert http.get("/tasks").status_code == 401  # and not open again


def test_a_key_is_good_at_once_and_a_revoked_one_for_two_seconds(start: ServiceStart, db: Database) -> None:
    client = start(db.service, published="0.0.0.0:8000")
    assert client.get("/tasks").status_code == 401
    key = make_key(db, "web")
    assert client.get("/tasks", headers=bearer(key)).status_code == 200
    db.query("select lockgate.revoke_key('web')")
    until(lambda: client.get("/tasks", headers=bearer(key)).status_code == 401, "the revocation to be noticed")
    assert keys.KEEP_SECONDS <= 2


def test_an_open_service_asks_nobody(start: ServiceStart, db: Database) -> None:
    make_key(db, "web")
    client = start(db.service, published="0.0.0.0:8000", open=True)
    assert client.post("/task").status_code == 202
    assert client.get("/tasks", headers=bearer(BEARER)).status_code == 200


def test_while_the_database_is_away_nobody_is_let_in(start: ServiceStart) -> None:
    for settings in ({}, {"published": "0.0.0.0:8000"}):
        client = start("postgresql://nobody@127.0.0.1:1/none", ready=False, **settings)
        refused = client.get("/tasks", headers=bearer(BEARER))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")


def test_guessing_costs_the_database_one_statement_at_a_time(
    start: ServiceStart, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    most = 0
    in_force = keys.read

    async def counted(pool: Any) -> Any:
        nonlocal reads, most
        reads += 1
        most = max(most, reads)
        try:
            return await in_force(pool)
        finally:
            reads -= 1

    monkeypatch.setattr(keys, "read", counted)
    client = start(db.service, published="0.0.0.0:8000")

    async def guess() -> list[int]:
        async with httpx.AsyncClient(base_url=client.base_url) as many:
            answers = await asyncio.gather(*(many.get("/tasks", headers=bearer(keys.make()[1])) for _ in range(50)))
            return [answer.status_code for answer in answers]

    assert asyncio.run(guess()) == [401] * 50
    assert most == 1


def test_the_last_use_of_a_key_is_noted(start: ServiceStart, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "NOTE_SECONDS", 0.05)
    key = make_key(db, "web")
    make_key(db, "other")
    client = start(db.service, published="0.0.0.0:8000")
    assert client.get("/tasks", headers=bearer(key)).status_code == 200
    until(lambda: db.query("select name from lockgate.key_overview where last_used is not null"), "the use to be noted")
    assert db.query("select name from lockgate.key_overview where last_used is not null") == [("web",)]


def test_an_idempotency_key_belongs_to_the_owner(start: ServiceStart, db: Database) -> None:
    client = start(db.service, published="0.0.0.0:8000")
    first, second = make_key(db, "web", "submit"), make_key(db, "mail", "submit")
    successor = make_key(db, "web-2", "submit", owner="web")

    def create(key: str, kind: str) -> httpx.Response:
        return client.post("/tasks", json={"kind": kind}, headers={**bearer(key), "idempotency-key": "k"})

    made = create(first, "sleep")
    assert made.status_code == 202
    assert create(second, "other").status_code == 202
    replayed = create(successor, "sleep")
    assert (replayed.status_code, replayed.json()["id"]) == (200, made.json()["id"])
    assert create(successor, "other").status_code == 422


def test_a_stream_ends_soon_after_its_key_is_revoked(
    start: ServiceStart, q: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "HEARTBEAT_SECONDS", 0.1)
    client = start(q.db.service, published="0.0.0.0:8000")
    key = make_key(q.db, "web", "read")
    with client.stream("GET", f"/tasks/{q.submit()}/events", headers=bearer(key)) as response:
        assert response.status_code == 200
        q.db.query("select lockgate.revoke_key('web')")
        for _ in response.iter_lines():
            pass


# -- one queue --------------------------------------------------------------------------------------------------------


@pytest.fixture
def limited(start: ServiceStart, q: Contract) -> tuple[httpx.Client, dict[str, str]]:
    """A client of a service with a queue `gpu` beside `default`, and the header of a key for that."""
    q.queue("gpu", slots=1)
    client = start(q.db.service, published="0.0.0.0:8000")
    return client, bearer(make_key(q.db, "gpu", "admin", "gpu"))


def test_a_key_of_one_queue_sees_nothing_of_others(q: Contract, limited: tuple[httpx.Client, dict[str, str]]) -> None:
    client, header = limited
    theirs, its_own = q.submit(), q.submit(queue="gpu")

    def get(path: str) -> Any:
        return client.get(path, headers=header).json()

    assert [task["id"] for task in get("/tasks")["items"]] == [its_own]
    assert [task["id"] for task in get("/tasks?queue=gpu")["items"]] == [its_own]
    assert client.get("/tasks?queue=default", headers=header).status_code == 403
    assert [queue["name"] for queue in get("/queues")["items"]] == ["gpu"]
    assert {slot["queue"] for slot in get("/slots")["items"]} == {"gpu"}
    q.runner(queues=["default"], name="theirs")
    q.runner(queues=["gpu"], name="its-own")
    assert [runner["runner"] for runner in get("/runners")["items"]] == ["its-own"]
    for path in ("", "/output"):
        assert client.get(f"/tasks/{its_own}{path}", headers=header).status_code == 200
        assert client.get(f"/tasks/{theirs}{path}", headers=header).status_code == 404
    assert client.get(f"/task/{theirs}", headers=header).status_code == 404
    assert client.get(f"/tasks/{2**70}", headers=header).status_code == 404


def test_a_key_of_one_queue_touches_nothing_of_others(
    q: Contract, limited: tuple[httpx.Client, dict[str, str]]
) -> None:
    client, header = limited
    theirs = q.submit()
    before = q.db.query("select * from lockgate.task"), q.db.query("select * from lockgate.queue")
    for method, path, handler in operations():
        if needed(handler) and limit(handler) in ("task", "queue"):
            path = path.replace("/1", f"/{theirs}").replace("/none", "/default")
            refused = client.request(method, path, headers=header)
            assert refused.status_code == 404, (method, path)
    assert client.post("/queues", json={"name": "mail"}, headers=header).status_code == 403
    assert client.post("/tasks", json={"kind": "sleep", "queue": "default"}, headers=header).status_code == 403
    assert (q.db.query("select * from lockgate.task"), q.db.query("select * from lockgate.queue")) == before


def test_a_task_without_a_queue_goes_to_that_of_the_key(
    q: Contract, limited: tuple[httpx.Client, dict[str, str]]
) -> None:
    client, header = limited
    assert client.post("/tasks", json={"kind": "sleep"}, headers=header).json()["queue"] == "gpu"
    assert client.post("/tasks", json={"kind": "sleep", "queue": "gpu"}, headers=header).status_code == 202
    number = client.post("/task", headers=header).json()
    assert q.task(number).queue == "gpu"
    assert client.post(f"/tasks/{number}/cancel", headers=header).status_code == 200


def test_an_operation_that_knows_no_queue_is_not_for_a_key_of_one() -> None:
    """So that a new one is closed until it says how it keeps to one."""
    kinds = {handler.operation_id: limit(handler) for _, _, handler in operations()}
    assert kinds["getTask"] == "task"
    assert kinds["pauseQueue"] == "queue"
    assert kinds["listTasks"] == "caller"
    assert kinds["getLiveness"] == "none"


def test_many_tasks_go_to_the_queue_of_the_key_or_nowhere(
    q: Contract, limited: tuple[httpx.Client, dict[str, str]]
) -> None:
    client, header = limited
    keyed, theirs = {"kind": "a", "idempotency_key": "k"}, {"kind": "a", "queue": "default"}
    stored = client.post("/tasks/batch", json={"items": [keyed, {"kind": "a"}]}, headers=header)
    assert stored.status_code == 202
    again = client.post("/tasks", json={"kind": "a"}, headers={**header, "idempotency-key": "k"})
    assert (again.status_code, again.json()["id"]) == (200, stored.json()["items"][0]["id"])
    refused = client.post("/tasks/batch", json={"items": [keyed, theirs]}, headers=header)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (403, "/items/1/queue")
    lines = "\n".join(json.dumps(task) for task in ({"kind": "b"}, theirs, {"kind": "b"}))
    refused = client.post("/tasks/stream", content=lines, headers=header)
    assert (refused.status_code, refused.json()["taken"]["lines"]) == (403, 1)
    assert [(task.queue, task.kind) for task in q.tasks()] == [("gpu", "a"), ("gpu", "a"), ("gpu", "b")]


def test_what_is_done_to_many_is_done_in_the_queue_of_the_key(
    q: Contract, limited: tuple[httpx.Client, dict[str, str]]
) -> None:
    client, header = limited
    theirs, its_own = q.submit(), q.submit(queue="gpu")

    def cancel(**request: Any) -> httpx.Response:
        return client.post("/tasks/bulk", json={"action": "cancel"} | request, headers=header)

    assert cancel(filter={"queue": "default"}).status_code == 403
    assert cancel(filter={}).status_code == 400
    assert cancel(filter={}, all=True, dry_run=True).json()["matched"] == 1
    assert cancel(ids=[theirs, its_own], dry_run=True).json()["matched"] == 1
    assert cancel(ids=[theirs, its_own]).json()["affected"] == 1
    assert (q.task(theirs).status, q.task(its_own).status) == ("queued", "cancelled")
