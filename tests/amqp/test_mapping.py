"""What a message means, without a broker: a message and its properties in, a task or a refusal out."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest
from lockgate_service.amqp.mapping import Asked, asked
from lockgate_service.http.problems import Refusal
from pamqp.commands import Basic

from tests.service.conftest import refusing, shared

__all__ = ["refusing", "shared"]

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def item(body: object, **properties: Any) -> dict[str, Any]:
    """As submit_batch gets it."""
    return dict(json.loads(read(body, **properties).item))


def read(body: object, **properties: Any) -> Asked:
    return asked(body if isinstance(body, bytes) else json.dumps(body).encode(), Basic.Properties(**properties), NOW)


def why(body: object, **properties: Any) -> Refusal:
    with pytest.raises(Refusal) as refused:
        read(body, **properties)
    return refused.value


def test_the_body_is_that_of_a_post_to_tasks() -> None:
    whole = {
        "kind": "sleep", "queue": "gpu", "payload": {"max": [1, None]}, "priority": 5, "delay": 2.5,
        "max_attempts": 7, "timeout": 9.5, "tags": ["a"], "metadata": {"b": 1}, "dedupe_key": "d",
    }  # fmt: skip
    assert item(whole) == whole
    assert item({"kind": "sleep"}) == {"kind": "sleep", "payload": {}}


def test_a_payload_stays_as_it_was_written() -> None:
    assert b'"payload":{"n":  1.50}' in read(b'{"kind":"x","payload":{"n":  1.50}}').item


def test_the_message_id_is_the_idempotency_key() -> None:
    assert item({"kind": "x"}, message_id="order-17")["idempotency_key"] == "order-17"
    assert "idempotency_key" not in item({"kind": "x"}, message_id="")
    assert read({"kind": "x", "dedupe_key": "d"}, message_id="m").keys == ("m", "d")


def test_a_property_says_what_the_body_leaves_open() -> None:
    assert item({"kind": "x"}, priority=7)["priority"] == 7
    assert item({"kind": "x", "priority": 0}, priority=7)["priority"] == 0
    at = datetime(2026, 5, 2, tzinfo=UTC)
    for given in (at, "2026-05-02T00:00:00Z", "2026-05-02T02:00:00+02:00"):
        assert datetime.fromisoformat(item({"kind": "x"}, headers={"run_at": given})["run_at"]) == at
    body = {"kind": "x", "run_at": "2026-06-01T00:00:00Z"}
    assert item(body, headers={"run_at": at})["run_at"] == "2026-06-01T00:00:00Z"


def test_what_came_around_it_is_its_envelope() -> None:
    headers = {"tenant": "a", "run_at": "2026-05-02T00:00:00Z", "x-delivery-count": 3, "x-acquired-count": 3}
    assert item({"kind": "x"}, correlation_id="c-1", headers=headers)["envelope"] == {
        "correlation_id": "c-1",
        "headers": {"tenant": "a"},
    }
    assert "envelope" not in item({"kind": "x"}, headers={"x-delivery-count": 3})


def test_any_header_can_be_kept() -> None:
    headers = {
        "bytes": b"\xff\xfe", "text": b"abc", "time": NOW, "decimal": Decimal("1.50"), "nan": float("nan"),
        "none": None, "list": [{"deep": bytearray(b"x")}], "nul": "a\0b", "half": "a\ud800", "a\0": True,
    }  # fmt: skip
    assert item({"kind": "x"}, headers=headers)["envelope"]["headers"] == {
        "bytes": "//4=", "text": "abc", "time": "2026-05-01T12:00:00Z", "decimal": "1.50", "nan": None, "none": None,
        "list": [{"deep": "x"}], "nul": "a\ufffdb", "half": "a\ufffd", "a\ufffd": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "due"),
    [
        ({}, "now"), ({"delay": 0}, "now"), ({"delay": 59}, "soon"), ({"delay": 61}, None),
        ({"run_at": "2026-05-01T11:00:00Z"}, "soon"), ({"run_at": "2026-05-01T12:00:59Z"}, "soon"),
        ({"run_at": "2026-05-01T12:01:01Z"}, None),
    ],
)  # fmt: skip
def test_runners_are_told_of_what_is_due_sooner_than_they_may_look(body: dict[str, Any], due: str | None) -> None:
    assert read({"kind": "x"} | body).due == due


BAD: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"{kind: x}",
    "not UTF-8": b'{"kind":"\xff"}',
    "not an object": b"[1]",
    "no kind": b"{}",
    "an empty kind": b'{"kind":""}',
    "an unknown field": b'{"kind":"x","colour":"red"}',
    "a wrong type": b'{"kind":"x","max_attempts":"three"}',
    "beyond a limit": b'{"kind":"x","priority":101}',
    "a time without a zone": b'{"kind":"x","run_at":"2026-05-01T12:00:00"}',
    "two times": b'{"kind":"x","run_at":"2026-05-01T12:00:00Z","delay":1}',
    "NUL in a payload": b'{"kind":"x","payload":{"a":"\\u0000"}}',
    "half a pair": b'{"kind":"x","tags":["\\ud800"]}',
    "a monstrous number": b'{"kind":"x","payload":1e999}',
    "too deep": b'{"kind":"x","payload":' + b"[" * 5000 + b"]" * 5000 + b"}",
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_a_bad_body_is_refused_in_the_words_of_the_http_api(refusing: httpx.Client, body: bytes) -> None:
    over_http = refusing.post("/tasks", content=body, headers={"content-type": "application/json"})
    assert over_http.status_code == 400
    refused = why(body)
    assert (refused.status, refused.detail) == (400, over_http.json()["detail"])
    assert [(one.field, one.message) for one in refused.fields] == [
        (error["field"], error["message"]) for error in over_http.json()["errors"]
    ]


def test_a_property_is_refused_in_the_same_words() -> None:
    assert why({"kind": "x"}, priority=101).detail == why({"kind": "x", "priority": 101}).detail
    assert why({"kind": "x"}, headers={"run_at": "soon"}).detail == why({"kind": "x", "run_at": "soon"}).detail
    assert (
        why({"kind": "x", "delay": 1}, headers={"run_at": NOW}).detail == "delay: cannot be given together with run_at"
    )
    assert why({"kind": "x"}, headers={"run_at": [1]}).fields[0].field == "run_at"


def test_a_message_that_is_too_large_is_not_even_read() -> None:
    refused = why(b"x" * (4 * 1024 * 1024 + 1))
    assert (refused.status, refused.detail) == (413, "the message has 4194305 bytes, more than 4194304")


def test_a_message_id_that_cannot_be_a_key_is_refused_by_that_name() -> None:
    assert why({"kind": "x"}, message_id="x" * 201).detail == "message_id: must have at most 200 characters"
    for unstorable in ("a\0", "a\udcff"):
        assert why({"kind": "x"}, message_id=unstorable).fields[0].field == "message_id"
