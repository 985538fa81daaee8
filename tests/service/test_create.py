"""POST /tasks: what is stored, what is refused, and what a key does."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.contract import Contract
from tests.database import Database

KEY = {"Idempotency-Key": "one"}


def test_a_new_task_is_accepted_and_is_the_answer(http: httpx.Client, q: Contract, db: Database) -> None:
    response = http.post("/tasks", json={"kind": "sleep"})

    assert response.status_code == 202
    task = response.json()
    assert response.headers["location"] == f"/tasks/{task['id']}"
    assert "idempotency-replayed" not in response.headers
    columns = {
        row[0]
        for row in db.query(
            "select column_name from information_schema.columns "
            "where table_schema = 'lockgate' and table_name = 'task_detail'"
        )
    }
    assert set(task) == columns
    assert http.get(f"/tasks/{task['id']}").json() == task | {"attempts": [], "position": 1}
    stored = q.task(task["id"])
    assert (stored.kind, stored.payload, stored.queue, stored.status) == ("sleep", {}, "default", "queued")


def test_every_setting_is_stored_as_it_was_given(http: httpx.Client, q: Contract) -> None:
    q.queue("mail", slots=1)
    given = {
        "kind": "sleep",
        "queue": "mail",
        "payload": {"min": 5, "max": 10, "failure_rate": 0.2, "text": "жук 🐞 \\u0000 \\"},
        "priority": -7,
        "run_at": "2100-01-01T03:00:00+03:00",
        "max_attempts": 1,
        "timeout": 2.5,
        "tags": ["a", "b"],
        "metadata": {"from": {"whom": 1}},
        "dedupe_key": "k",
    }

    task = http.post("/tasks", json=given, headers=KEY).json()

    assert task | given | {"run_at": "2100-01-01T00:00:00.000000Z"} == task
    assert (task["status"], task["idempotency_key"]) == ("scheduled", "one")
    stored = q.task(task["id"])
    assert (stored.payload, stored.metadata, stored.tags) == (given["payload"], given["metadata"], given["tags"])


def test_an_offset_may_be_one_that_postgres_does_not_know(http: httpx.Client) -> None:
    for offset, utc in (("-23:59", "2099-01-02T11:59:00.000000Z"), ("+16:30", "2098-12-31T19:30:00.000000Z")):
        time = f"2099-01-01T12:00:00{offset}"
        task = http.post("/tasks", json={"kind": "sleep", "run_at": time}).json()
        assert task["run_at"] == utc
        assert http.patch(f"/tasks/{task['id']}", json={"run_at": time}).json()["run_at"] == utc
        assert http.get("/tasks", params={"created_before": time}).json()["items"] != []


def test_a_delay_is_seconds_from_now(http: httpx.Client, q: Contract) -> None:
    task = q.task(http.post("/tasks", json={"kind": "sleep", "delay": 90}).json()["id"])

    assert task.status == "scheduled"
    assert task.run_at - task.create_time == timedelta(seconds=90)


@pytest.mark.parametrize(
    "payload", [None, 0, "text", [1, [2, {}]], {"a": 1e20, "b": 1e-300}, {"a": 10**40}, {"x": "y" * 900_000}]
)
def test_a_payload_is_any_json_and_comes_back_as_it_was(http: httpx.Client, payload: Any) -> None:
    response = http.post("/tasks", json={"kind": "sleep", "payload": payload})

    assert response.status_code == 202
    assert response.json()["payload"] == ({} if payload is None else payload)


def test_a_null_is_the_same_as_leaving_a_field_out(http: httpx.Client, q: Contract) -> None:
    nothing = dict.fromkeys(("queue", "priority", "run_at", "delay", "max_attempts", "timeout", "tags", "metadata"))
    task = q.task(http.post("/tasks", json={"kind": "sleep", **nothing}).json()["id"])

    assert (task.queue, task.priority, task.max_attempts, task.timeout, task.tags) == ("default", 0, 3, None, [])


@pytest.fixture(scope="session")
def only_b(shared: tuple[Database, httpx.Client]) -> None:
    """A queue that takes one kind."""
    Contract(shared[0]).queue("only-b", kinds=["b"])


NESTED = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (b"", "body", "missing"),
        (b"{", "body", "truncated"),
        (b"[]", "body", "Expected `object`"),
        (b"\xff", "body", "UTF-8"),
        (b'{"payload": {}}', "kind", "missing"),
        (b'{"kind": ""}', "kind", "length >= 1"),
        (b'{"kind": "%s"}' % (b"x" * 201), "kind", "length <= 200"),
        (b'{"kind": 1}', "kind", "Expected `str`"),
        (b'{"kind": "a\\u0000"}', "kind", "NUL"),
        (b'{"kind": "a\\ud800"}', "kind", "surrogate"),
        (b'{"kind": "a\xed\xa0\x80"}', "kind", "surrogate"),
        (b'{"kind": "a", "kinds": 1}', "kinds", "unknown"),
        (b'{"kind": "a", "idempotency_key": "x"}', "idempotency_key", "unknown"),
        (b'{"kind": "a", "queue": "nosuch"}', "queue", 'there is no queue "nosuch"'),
        (b'{"kind": "a", "queue": "only-b"}', "kind", 'does not take tasks of kind "a"'),
        (b'{"kind": "a", "priority": 101}', "priority", "<= 100"),
        (b'{"kind": "a", "priority": -101}', "priority", ">= -100"),
        (b'{"kind": "a", "priority": 1.5}', "priority", "Expected `int"),
        (b'{"kind": "a", "max_attempts": 0}', "max_attempts", ">= 1"),
        (b'{"kind": "a", "max_attempts": 1001}', "max_attempts", "<= 1000"),
        (b'{"kind": "a", "timeout": 0}', "timeout", "> 0"),
        (b'{"kind": "a", "timeout": 2592001}', "timeout", "<= 2592000"),
        (b'{"kind": "a", "delay": -1}', "delay", ">= 0"),
        (b'{"kind": "a", "delay": 1e300}', "delay", "<= 315360000"),
        (b'{"kind": "a", "delay": 1, "run_at": "2030-01-01T00:00:00Z"}', "delay", "together with run_at"),
        (b'{"kind": "a", "run_at": "2030-01-01T00:00:00"}', "run_at", "timezone"),
        (b'{"kind": "a", "run_at": "soon"}', "run_at", "RFC3339"),
        (b'{"kind": "a", "tags": "x"}', "tags", "Expected `array"),
        (b'{"kind": "a", "tags": ["x", 1]}', "tags[1]", "Expected `str`"),
        (b'{"kind": "a", "tags": ["x\\u0000"]}', "tags", "NUL"),
        (b'{"kind": "a", "tags": ["%s"]}' % (b"x" * 4096), "tags", "4 KiB"),
        (b'{"kind": "a", "metadata": []}', "metadata", "Expected `object"),
        (b'{"kind": "a", "metadata": {"\\u0000": 1}}', "metadata", "NUL"),
        (b'{"kind": "a", "metadata": {"a": "%s"}}' % (b"x" * 16384), "metadata", "16 KiB"),
        (b'{"kind": "a", "dedupe_key": ""}', "dedupe_key", "length >= 1"),
        (b'{"kind": "a", "dedupe_key": "%s"}' % (b"x" * 201), "dedupe_key", "length <= 200"),
        (b'{"kind": "a", "dedupe_key": "\\u0000"}', "dedupe_key", "NUL"),
        (b'{"kind": "a", "payload": "%s"}' % (b"x" * 1_048_576), "payload", "1 MiB"),
        (b'{"kind": "a", "payload": {"a": ["\\u0000"]}}', "payload", "NUL"),
        (b'{"kind": "a", "payload": {"\\udc00": 1}}', "payload", "surrogate"),
        (b'{"kind": "a", "payload": ["\xff"]}', "payload", "UTF-8"),
        (b'{"kind": "a", "payload": 1e400}', "payload", "number"),
        (b'{"kind": "a", "payload": 1e-5000}', "payload", "number"),
        (b'{"kind": "a", "payload": [%s1]}' % (b"1e308," * 690_000), "body", "digits"),
        (b'{"kind": "a", "payload": %s}' % (b"1" * 140_000), "payload", ""),
        (b'{"kind": "a", "payload": NaN}', "body", "malformed"),
        (b'{"kind": "a", "payload": %s}' % NESTED, "body", "nested"),
    ],
    ids=lambda value: value[:60] if isinstance(value, bytes) else None,
)  # fmt: skip
def test_what_is_wrong_is_refused_by_the_name_of_its_field_and_nothing_is_stored(
    refusing: httpx.Client, only_b: None, body: bytes, field: str, message: str
) -> None:
    response = refusing.post("/tasks", content=body)

    assert response.status_code == 400, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["type"], problem["status"]) == ("/problems/invalid-input", 400)
    assert problem["title"] == "The request is not valid"
    said = {error["field"]: error["message"] for error in problem["errors"]}
    assert message in said[field]
    assert said[field] in problem["detail"]


def test_what_only_looks_unstorable_is_stored(http: httpx.Client) -> None:
    body = rb'{"kind": "a", "payload": ["\\u0000", "\ud83d\udc1e", "1e999", 1e-300]}'

    response = http.post("/tasks", content=body)

    assert response.status_code == 202, response.text
    assert response.json()["payload"] == ["\\u0000", "🐞", "1e999", 1e-300]


def test_a_body_beyond_4_mib_is_too_large(refusing: httpx.Client) -> None:
    response = refusing.post("/tasks", content=b" " * (4 * 1024 * 1024 + 1))

    assert (response.status_code, response.json()["type"]) == (413, "/problems/too-large")


@pytest.mark.parametrize(("method", "path"), [("POST", "/queues"), ("PATCH", "/queues/default"), ("POST", "/task")])
def test_what_creates_no_payload_takes_half_a_mib(refusing: httpx.Client, method: str, path: str) -> None:
    response = refusing.request(method, path, content=b" " * (512 * 1024 + 1))

    assert (response.status_code, response.json()["type"]) == (413, "/problems/too-large")


@pytest.mark.parametrize("shape", [b"[%s]", b'{"a": %s}', b'[1, {"b]": "\\"]", "a": %s}]'])
def test_a_body_is_nested_100_deep_at_most(http: httpx.Client, shape: bytes) -> None:
    levels = 2 if shape.startswith(b"[1") else 1

    def nested(depth: int) -> bytes:
        payload = b"1"
        for _ in range((depth - 1) // levels):
            payload = shape.replace(b"%s", payload)
        return b'{"kind": "a", "payload": %s}' % payload

    assert http.post("/tasks", content=nested(99)).status_code == 202
    refused = http.post("/tasks", content=nested(103))
    assert (refused.status_code, refused.json()["errors"][0]["message"]) == (400, "is nested more than 100 deep")


def test_what_is_wide_or_only_looks_nested_is_taken(http: httpx.Client) -> None:
    for payload in (b"[%s[]]" % (b"[]," * 5000), b'"%s"' % (b"[{" * 5000), b'["\\\\", "%s"]' % (b'\\"[' * 5000)):
        response = http.post("/tasks", content=b'{"kind": "a", "payload": %s}' % payload)
        assert response.status_code == 202, response.text


def test_the_same_key_and_request_give_the_same_task(http: httpx.Client, q: Contract) -> None:
    first = http.post("/tasks", content=b'{"kind": "sleep", "payload": {"a": 1, "b": 2}}', headers=KEY)
    again = http.post("/tasks", content=b'{"payload": {"b":2, "a":1}, "kind":"sleep"}', headers=KEY)

    assert (first.status_code, again.status_code) == (202, 200)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert again.json() == first.json()
    assert len(q.tasks()) == 1


def test_a_key_means_the_same_with_quotes_and_without(http: httpx.Client, q: Contract) -> None:
    for key in ("one", '"one"'):
        http.post("/tasks", json={"kind": "sleep"}, headers={"Idempotency-Key": key})

    (task,) = q.tasks()
    assert task.idempotency_key == "one"


def test_a_key_that_was_used_for_another_request_is_refused(http: httpx.Client, q: Contract) -> None:
    first = http.post("/tasks", json={"kind": "sleep"}, headers=KEY).json()["id"]

    response = http.post("/tasks", json={"kind": "other"}, headers=KEY)

    assert response.status_code == 422
    assert response.json()["type"] == "/problems/idempotency-key-reused"
    assert str(first) in response.json()["detail"]
    assert [task.kind for task in q.tasks()] == ["sleep"]


@pytest.mark.parametrize("key", ["", '"', '"a"b"', "a b", '""', "x" * 201, "й"])
def test_a_key_that_cannot_be_one_is_refused(refusing: httpx.Client, key: str) -> None:
    response = refusing.post("/tasks", json={"kind": "sleep"}, headers=[(b"Idempotency-Key", key.encode())])

    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "Idempotency-Key"


def test_concurrent_duplicates_make_one_task(http: httpx.Client, q: Contract) -> None:
    def create(number: int) -> httpx.Response:
        # Each key several times, in an order that differs from thread to thread.
        return http.post("/tasks", json={"kind": "sleep"}, headers={"Idempotency-Key": f"key-{number * 7 % 10}"})

    with ThreadPoolExecutor(20) as pool:
        responses = list(pool.map(create, range(200)))

    statuses = [response.status_code for response in responses]
    assert (statuses.count(202), statuses.count(200)) == (10, 190)
    assert len({response.json()["id"] for response in responses}) == len(q.tasks()) == 10


def test_a_dedupe_key_gives_the_unfinished_task_that_has_it(http: httpx.Client, q: Contract) -> None:
    task = {"kind": "sleep", "dedupe_key": "k"}
    first = http.post("/tasks", json=task)
    second = http.post("/tasks", json=task | {"priority": 5})
    q.cancel(first.json()["id"])
    third = http.post("/tasks", json=task)

    assert [r.status_code for r in (first, second, third)] == [202, 200, 202]
    assert "idempotency-replayed" not in second.headers
    assert first.json() == second.json() != third.json()


def test_a_full_queue_says_when_to_come_again(http: httpx.Client, q: Contract) -> None:
    assert http.patch("/queues/default", json={"depth_max": 1}).json()["depth_max"] == 1
    assert http.post("/tasks", json={"kind": "sleep"}).status_code == 202

    for refused in (
        http.post("/tasks", json={"kind": "sleep"}),
        http.post("/task"),
        http.post("/tasks/batch", json={"items": [{"kind": "sleep"}]}),
        http.post("/tasks/stream", content=b'{"kind": "sleep"}'),
    ):
        assert (refused.status_code, refused.json()["type"]) == (429, "/problems/queue-full")
        assert int(refused.headers["retry-after"]) > 0
    assert http.patch("/queues/default", json={"depth_max": None}).json()["depth_max"] is None
    assert http.post("/task").status_code == 202
    assert len(q.tasks()) == 2
