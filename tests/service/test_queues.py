"""Queues over HTTP: looked at, made, changed, paused."""

from typing import Any

import httpx
import pytest
from lockgate_service.queues.messages import Queue

from tests.contract import Contract
from tests.database import Database

SETTINGS: dict[str, Any] = {
    "slots": 7,
    "paused": True,
    "grace": 2.5,
    "max_attempts": 1,
    "timeout": 60.5,
    "backoff_base": 0.5,
    "backoff_max": 10.0,
    "retention": 3600.0,
    "kinds": ["sleep", "mail"],
}


def names(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [queue["name"] for queue in response.json()["items"]]


def test_queues_come_by_name_each_with_its_settings_and_what_is_in_it(http: httpx.Client, q: Contract) -> None:
    q.queue("b", slots=1)
    q.queue("a")
    for status in ("running", "queued", "queued", "scheduled", "succeeded"):
        q.row(status, queue="b")

    response = http.get("/queues")

    assert names(response) == ["a", "b", "default"]
    a, b, _ = response.json()["items"]
    assert set(b) == set(Queue.__struct_fields__)
    assert (b["slots"], b["running"], b["queued"], b["scheduled"]) == (1, 1, "2", "1")
    assert b["oldest_wait"] >= 0
    assert (a["slots"], a["running"], a["queued"], a["oldest_wait"]) == (2, 0, "0", None)
    assert http.get("/queues/a").json() == a


def test_very_many_tasks_are_not_counted_to_the_end(http: httpx.Client, db: Database) -> None:
    db.query(
        "insert into lockgate.task (queue, kind, status, max_attempts, payload) "
        "select 'default', 'k', 'queued', 1, '{}' from generate_series(1, 10001)"
    )

    assert http.get("/queues/default").json()["queued"] == "10000+"


def test_a_queue_is_made_with_defaults(http: httpx.Client) -> None:
    response = http.post("/queues", json={"name": "mail"})

    assert response.status_code == 201
    assert response.headers["location"] == "/queues/mail"
    default = http.get("/queues/default").json()
    assert response.json() | {"name": "default", "create_time": default["create_time"]} == default


def test_a_queue_is_made_with_any_settings(http: httpx.Client) -> None:
    made = http.post("/queues", json={"name": "gpu", **SETTINGS}).json()

    assert made == made | SETTINGS
    assert http.get("/queues/gpu").json() == made


def test_nulls_at_the_making_mean_no_limit(http: httpx.Client) -> None:
    made = http.post("/queues", json={"name": "gpu", "timeout": None, "retention": None, "kinds": None}).json()

    assert (made["timeout"], made["retention"], made["kinds"]) == (None, None, None)


def test_a_queue_that_exists_is_not_made_again(http: httpx.Client) -> None:
    before = http.get("/queues").json()

    response = http.post("/queues", json={"name": "default", "slots": 9})

    assert response.status_code == 409
    assert response.json()["type"] == "/problems/queue-exists"
    assert '"default"' in response.json()["detail"]
    assert http.get("/queues").json() == before


WRONG = [
    (b'{"slots": -1}', "slots", ">= 0"),
    (b'{"slots": 1001}', "slots", "<= 1000"),
    (b'{"slots": 1.5}', "slots", "Expected `int`"),
    (b'{"slots": null}', "slots", "got `null`"),
    (b'{"paused": null}', "paused", "got `null`"),
    (b'{"grace": 0.9}', "grace", ">= 1"),
    (b'{"grace": 3601}', "grace", "<= 3600"),
    (b'{"max_attempts": 0}', "max_attempts", ">= 1"),
    (b'{"max_attempts": 1001}', "max_attempts", "<= 1000"),
    (b'{"timeout": 0}', "timeout", "> 0"),
    (b'{"timeout": 2592001}', "timeout", "<= 2592000"),
    (b'{"backoff_base": -1}', "backoff_base", ">= 0"),
    (b'{"backoff_max": 2592001}', "backoff_max", "<= 2592000"),
    (b'{"retention": -1}', "retention", ">= 0"),
    (b'{"retention": 315360001}', "retention", "<= 315360000"),
    (b'{"retention": 1e999}', "retention", "number"),
    (b'{"kinds": "sleep"}', "kinds", "Expected `array"),
    (b'{"kinds": ["a\\u0000"]}', "kinds", "NUL"),
    (b'{"slot": 1}', "slot", "unknown"),
    (b"[]", "body", "Expected `object`"),
    (b"", "body", "missing"),
]


@pytest.mark.parametrize(("body", "field", "message"), WRONG)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_wrong_setting_is_refused_by_its_name_and_limit_and_nothing_changes(
    refusing: httpx.Client, method: str, body: bytes, field: str, message: str
) -> None:
    before = refusing.get("/queues").json()
    if method == "POST":
        body = body.replace(b"{", b'{"name": "new", ', 1)

    response = refusing.request(method, "/queues" if method == "POST" else "/queues/default", content=body)

    assert response.status_code == 400, response.text
    assert response.headers["content-type"] == "application/problem+json"
    (error,) = response.json()["errors"]
    assert error["field"] == field
    assert message in error["message"]
    assert refusing.get("/queues").json() == before


@pytest.mark.parametrize(
    "name", ['""', '"Mail"', '"a b"', '"-a"', f'"{"a" * 64}"', '"a\\n"', '"a\\u0000"', "1", "null"]
)
def test_a_name_that_is_none_is_refused(refusing: httpx.Client, name: str) -> None:
    before = names(refusing.get("/queues"))

    response = refusing.post("/queues", content=f'{{"name": {name}}}')

    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == ["name"]
    assert names(refusing.get("/queues")) == before


def test_a_limit_that_only_the_schema_knows_is_refused_by_its_field(http: httpx.Client, db: Database) -> None:
    db.query("alter table lockgate.queue drop constraint slots_are_0_to_1000")
    db.query("alter table lockgate.queue add constraint slots_are_0_to_1000 check (slots < 5)")

    response = http.patch("/queues/default", json={"slots": 5})

    assert response.status_code == 400
    assert response.json()["errors"] == [{"field": "slots", "message": "slots are 0 to 1000"}]


def test_only_what_is_given_is_changed_and_null_takes_a_limit_away(http: httpx.Client) -> None:
    made = http.post("/queues", json={"name": "gpu", **SETTINGS}).json()

    slots = http.patch("/queues/gpu", json={"slots": 3})
    limits = http.patch("/queues/gpu", json={"timeout": None, "kinds": None})
    nothing = http.patch("/queues/gpu", json={})

    assert [response.status_code for response in (slots, limits, nothing)] == [200, 200, 200]
    assert slots.json() == made | {"slots": 3}
    assert limits.json() == made | {"slots": 3, "timeout": None, "kinds": None}
    assert nothing.json() == limits.json() == http.get("/queues/gpu").json()


def test_a_queue_is_never_renamed(http: httpx.Client) -> None:
    response = http.patch("/queues/default", json={"name": "other"})

    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, "name")


def test_runners_are_told_of_a_changed_number_of_slots(http: httpx.Client, q: Contract) -> None:
    with q.heard() as said:
        http.patch("/queues/default", json={"slots": 5})

    assert said == ["slots default"]


def test_pausing_and_resuming_may_be_said_twice(http: httpx.Client) -> None:
    said = [http.post(f"/queues/default/{verb}") for verb in ("pause", "pause", "resume", "resume")]

    assert [response.status_code for response in said] == [200] * 4
    assert [response.json()["paused"] for response in said] == [True, True, False, False]
    assert said[3].json() == http.get("/queues/default").json()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/queues/nosuch"),
        ("PATCH", "/queues/nosuch"),
        ("DELETE", "/queues/nosuch"),
        ("POST", "/queues/nosuch/pause"),
        ("POST", "/queues/nosuch/resume"),
        ("POST", "/queues/nosuch/purge"),
    ],
)
def test_a_queue_that_is_not_there_is_not_found(refusing: httpx.Client, method: str, path: str) -> None:
    response = refusing.request(method, path, content=b"{}" if method == "PATCH" else None)

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert '"nosuch"' in response.json()["detail"]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/queues?name=a", "name"),
        ("/queues/default?x", "x"),
        ("/queues/a%00", "name"),
        ("/slots?queue=default", "queue"),
        ("/runners?alive=true", "alive"),
        ("/tasks/1?fields=id", "fields"),
        ("/task/1?x=%00", "x"),
    ],
)
def test_a_query_parameter_that_no_operation_has_and_a_nul_are_refused(
    refusing: httpx.Client, path: str, field: str
) -> None:
    response = refusing.get(path)

    assert response.status_code == 400, response.text
    assert [error["field"] for error in response.json()["errors"]] == [field]
