"""submit_all: all items or none."""

import json
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.contract import Contract


def submit_all(q: Contract, *tasks: Any, scope: str = "") -> list[tuple[Any, ...]]:
    return q.service.execute("select * from lockgate.submit_all(%s, %s)", (Jsonb(tasks), scope)).fetchall()


def test_every_item_is_stored_in_order_and_says_where_it_is_and_when_it_is_due(q: Contract) -> None:
    q.queue("mail")
    rows = submit_all(
        q, {"kind": "a"}, {"kind": "b", "queue": "mail", "delay": 30}, {"kind": "c", "run_at": "2100-01-01T00:00:00Z"}
    )
    numbers = [task.id for task in q.tasks()]
    assert [task.kind for task in q.tasks()] == ["a", "b", "c"]
    assert rows == [
        (1, numbers[0], "created", "default", "now"),
        (2, numbers[1], "created", "mail", "soon"),
        (3, numbers[2], "created", "default", None),
    ]


def test_keys_give_the_tasks_that_have_them(q: Contract) -> None:
    first = q.submit(dedupe_key="d")
    [(_, keyed, *_)] = submit_all(q, {"kind": "a", "idempotency_key": "k"}, scope="s")
    rows = submit_all(
        q, {"kind": "a", "idempotency_key": "k"}, {"kind": "b"}, {"kind": "c", "dedupe_key": "d"}, scope="s"
    )
    assert [(row[1], row[2]) for row in rows if row[0] != 2] == [(keyed, "replayed"), (first, "deduplicated")]


OK = {"kind": "a"}


@pytest.mark.parametrize(
    ("bad", "sqlstate", "constraint"),
    [
        ({"kind": "x" * 201}, "23514", "kind_is_1_to_200_characters"),
        ({"kind": "a", "payload": "x" * 1_048_576}, "23514", "payload_is_at_most_1_mib"),
        ({"kind": "a", "priority": 101}, "23514", "priority_is_between_minus_100_and_100"),
        ({"kind": "a", "priority": "high"}, "22P02", None),
        ({}, "23502", None),
    ],
)
def test_one_that_cannot_be_stored_is_named_and_nothing_is_stored(
    q: Contract, bad: Any, sqlstate: str, constraint: str | None
) -> None:
    with q.refused(sqlstate) as caught:
        submit_all(q, OK, OK, bad, OK)
    assert json.loads(caught.value.diag.message_detail or "") == {"item": 3}
    assert caught.value.diag.constraint_name == (constraint or "")
    assert q.tasks() == []


@pytest.mark.parametrize(
    ("bad", "outcome"),
    [
        ({"kind": "a", "queue": "nosuch"}, "unknown_queue"),
        ({"kind": "a", "queue": "only-b"}, "kind_refused"),
        ({"kind": "a", "idempotency_key": "k"}, "key_reused"),
    ],
)
def test_one_that_is_refused_is_named_and_nothing_is_stored(q: Contract, bad: Any, outcome: str) -> None:
    q.queue("only-b", kinds=["b"])
    taken = q.submit(kind="other", idempotency_key="k")
    with q.refused("LG012") as caught:
        submit_all(q, OK, bad, OK)
    detail = json.loads(caught.value.diag.message_detail or "")
    assert detail == {"item": 2, "outcome": outcome, "task": taken if outcome == "key_reused" else None}
    assert [task.id for task in q.tasks()] == [taken]


def test_what_is_no_array_is_refused(q: Contract) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        q.service.execute("select * from lockgate.submit_all('{}')")
