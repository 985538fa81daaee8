"""POST /tasks/batch."""

import json
from typing import Any

import httpx
import pytest

from tests.contract import Contract
from tests.database import Database

OK = {"kind": "sleep"}


def test_all_items_are_stored_in_their_order(http: httpx.Client, q: Contract) -> None:
    items = [OK | {"payload": {"n": n}, "priority": n % 3, "tags": ["x"]} for n in range(1000)]

    response = http.post("/tasks/batch", json={"items": items})

    assert response.status_code == 202, response.text
    tasks = q.tasks()
    assert [task.payload["n"] for task in tasks] == list(range(1000))
    assert response.json() == {"items": [{"id": task.id, "outcome": "created"} for task in tasks]}


def test_runners_are_woken_for_what_is_due(http: httpx.Client, q: Contract) -> None:
    q.queue("mail")
    with q.heard() as said:
        http.post("/tasks/batch", json={"items": [OK, OK, OK | {"queue": "mail", "delay": 9}, OK | {"delay": 9999}]})
        http.post("/tasks", json=OK)  # its notification comes after theirs

    assert sorted(set(said)) == ["later mail", "queue default"]


def test_the_same_batch_with_keys_makes_nothing_new(http: httpx.Client, q: Contract) -> None:
    batch = {"items": [OK | {"idempotency_key": "é 1"}, OK | {"dedupe_key": "d"}]}
    first = http.post("/tasks/batch", json=batch)
    again = http.post("/tasks/batch", json=batch)

    assert (first.status_code, again.status_code) == (202, 200)
    assert [item["outcome"] for item in again.json()["items"]] == ["replayed", "deduplicated"]
    assert [item["id"] for item in again.json()["items"]] == [item["id"] for item in first.json()["items"]]
    assert len(q.tasks()) == 2


@pytest.fixture(scope="session")
def only_b(shared: tuple[Database, httpx.Client]) -> None:
    Contract(shared[0]).queue("only-b", kinds=["b"])


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"kind": ""}, "kind"),
        ({}, "kind"),
        (OK | {"priority": 101}, "priority"),
        (OK | {"tags": ["a", 1]}, "tags[1]"),
        (OK | {"what": 1}, "what"),
        (OK | {"queue": "nosuch"}, "queue"),
        (OK | {"queue": "only-b"}, "kind"),
        (OK | {"payload": "x" * 1_048_576}, "payload"),
        (OK | {"tags": ["x" * 4096]}, "tags"),
        (OK | {"delay": 1, "run_at": "2030-01-01T00:00:00Z"}, "delay"),
        (OK | {"run_at": "2030-01-01T00:00:00"}, "run_at"),
        (OK | {"payload": ["\0"]}, "payload"),
        (OK | {"metadata": {"\ud800": 1}}, "metadata"),
        (OK | {"idempotency_key": ""}, "idempotency_key"),
    ],
    ids=str,
)  # fmt: skip
def test_the_bad_item_is_pointed_at_and_nothing_is_stored(
    refusing: httpx.Client, only_b: None, bad: Any, field: str
) -> None:

    response = refusing.post("/tasks/batch", content=json.dumps({"items": [OK, OK, bad, OK]}))

    assert response.status_code == 400, response.text
    (error,) = response.json()["errors"]
    assert error["field"] == f"items[2].{field}"
    assert error["pointer"] == "/items/2/" + field.replace("[", "/").replace("]", "")


def test_a_key_of_another_task_is_pointed_at_too(http: httpx.Client, q: Contract) -> None:
    number = q.submit(kind="other", idempotency_key="k")

    response = http.post("/tasks/batch", json={"items": [OK, OK | {"idempotency_key": "k"}]})

    assert response.status_code == 422
    assert response.json()["type"] == "/problems/idempotency-key-reused"
    (error,) = response.json()["errors"]
    assert error["pointer"] == "/items/1/idempotency_key"
    assert str(number) in error["message"]
    assert len(q.tasks()) == 1


@pytest.mark.parametrize("items", [[], [OK] * 1001, None, {}], ids=["none", "1001", "null", "an object"])
def test_a_batch_has_1_to_1000_items(refusing: httpx.Client, items: Any) -> None:
    response = refusing.post("/tasks/batch", json={"items": items})

    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (400, "/items")


def test_a_key_for_the_whole_is_refused_instead_of_ignored(refusing: httpx.Client) -> None:
    response = refusing.post("/tasks/batch", json={"items": [OK]}, headers={"Idempotency-Key": "k"})

    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, "Idempotency-Key")
