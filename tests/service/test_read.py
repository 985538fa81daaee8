"""GET /tasks/{id} and GET /tasks."""

from datetime import UTC, datetime
from typing import Any, get_args

import httpx
import pytest
from lockgate_service.tasks.messages import Status, Task

from tests.contract import BOOM, Contract
from tests.database import Database


def ids(response: httpx.Response) -> list[int]:
    assert response.status_code == 200, response.text
    return [item["id"] for item in response.json()["items"]]


def test_the_statuses_are_those_of_the_schema(db: Database) -> None:
    assert list(get_args(Status)) == [
        row[0] for row in db.query("select unnest(enum_range(null::lockgate.status))::text")
    ]


@pytest.mark.parametrize("status", get_args(Status))
def test_a_task_of_any_status_can_be_read(http: httpx.Client, q: Contract, status: str) -> None:
    stored = q.task(q.row(status, payload={"a": [1, None]}, metadata={"b": "ю"}, tags=["x"]))

    task: dict[str, Any] = http.get(f"/tasks/{stored.id}").json()

    assert task.pop("attempts") == []
    assert task.pop("position") == (1 if status == "queued" else None)
    assert set(task) == set(Task.__struct_fields__)
    for name, value in task.items():
        expected = getattr(stored, name)
        if isinstance(expected, datetime):
            expected = expected.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        assert value == expected, name


def test_result_error_and_progress_come_as_they_were_stored(http: httpx.Client, q: Contract) -> None:
    done = http.get(f"/tasks/{q.row('succeeded', result={'n': 1})}").json()
    failed = http.get(f"/tasks/{q.row('failed', progress={'percent': 50})}").json()

    assert (done["result"], done["error"]) == ({"n": 1}, None)
    assert (failed["error"], failed["progress"]) == (BOOM, {"percent": 50})


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu"])
def test_times_are_utc_whatever_the_time_zone_of_the_database(
    http: httpx.Client, q: Contract, db: Database, zone: str
) -> None:
    db.query(f"alter database {db.name} set timezone = '{zone}'")
    db.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lockgate-service'")
    number = q.row("queued", create_time="2026-05-01T12:00:00+02:00")

    assert http.get(f"/task/{number}").json()["create_time"] == "2026-05-01T10:00:00.000000Z"


def test_a_list_has_the_newest_first_and_says_when_it_ends(http: httpx.Client, q: Contract) -> None:
    numbers = [q.row() for _ in range(5)]

    response = http.get("/tasks")

    assert ids(response) == numbers[::-1]
    assert response.json()["next_cursor"] is None


def test_pages_give_every_task_once_while_new_ones_come(http: httpx.Client, q: Contract) -> None:
    numbers = [q.row() for _ in range(7)]
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        response = http.get("/tasks", params={"limit": 3} | ({"cursor": cursor} if cursor else {}))
        seen += ids(response)
        cursor = response.json()["next_cursor"]
        q.row()

    assert seen == numbers[::-1]


def test_a_list_is_filtered_by_status_queue_and_kind(http: httpx.Client, q: Contract) -> None:
    q.queue("mail")
    queued, failed, mail, other = q.row(), q.row("failed"), q.row(queue="mail"), q.row(kind="other")

    assert ids(http.get("/tasks?status=failed")) == [failed]
    assert ids(http.get("/tasks?status=queued")) == [other, mail, queued]
    assert ids(http.get("/tasks?status=queued&status=failed")) == [other, mail, failed, queued]
    assert ids(http.get("/tasks?status=running")) == []
    assert ids(http.get("/tasks?queue=mail")) == [mail]
    assert ids(http.get("/tasks?kind=other")) == [other]
    assert ids(http.get("/tasks?status=queued&queue=default&kind=sleep")) == [queued]
    assert ids(http.get("/tasks?queue=nosuch")) == []


def test_a_list_is_filtered_by_a_tag(http: httpx.Client, q: Contract) -> None:
    both, one, _ = q.row(tags=["a", "b"]), q.row(tags=["b"]), q.row()

    assert ids(http.get("/tasks?tag=a")) == [both]
    assert ids(http.get("/tasks?tag=b")) == [one, both]
    assert ids(http.get("/tasks?tag=A")) == []
    assert ids(http.get("/tasks?tag=b&status=queued&limit=1")) == [one]


def test_a_list_leaves_out_what_may_be_large(http: httpx.Client, q: Contract) -> None:
    q.row("succeeded", result={"n": 1})

    (item,) = http.get("/tasks").json()["items"]

    assert set(Task.__struct_fields__) - set(item) == {"payload", "result"}


def test_a_list_has_50_items_unless_more_are_asked_for_and_never_more_than_500(
    http: httpx.Client, db: Database
) -> None:
    db.query("select lockgate.submit_batch(jsonb_agg(jsonb_build_object('kind', 'k'))) from generate_series(1, 501)")

    assert len(ids(http.get("/tasks"))) == 50
    assert len(ids(http.get("/tasks?limit=60"))) == 60
    assert len(ids(http.get("/tasks?limit=1000000"))) == 500


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=done", "status"),
        ("status=", "status"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=many", "limit"),
        ("cursor=abc", "cursor"),
        ("cursor=-1", "cursor"),
        ("cursor=", "cursor"),
        ("cursor=9999999999999999999", "cursor"),
        ("cursor=1-00000000", "cursor"),
        ("cursor=9999999999999999999-00000000", "cursor"),
        ("created_after=yesterday", "created_after"),
        ("created_before=2026-05-01T12:00:00", "created_before"),
        ("finished_after=monday", "finished_after"),
        ("finished_before=", "finished_before"),
        ("fields=some", "fields"),
        ("error=" + "x" * 201, "error"),
        ("runner=a%00", "runner"),
        ("queue=a%00", "queue"),
        ("kind=a%00", "kind"),
        ("tag=a%00", "tag"),
        ("tag=a&tag=b", "tag"),
        ("limit=1&limit=2", "limit"),
        ("status=queued&status=done", "status"),
        ("staus=queued", "staus"),
    ],
)
def test_a_wrong_filter_is_refused_by_its_name(refusing: httpx.Client, query: str, field: str) -> None:
    response = refusing.get(f"/tasks?{query}")

    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == [field]


def test_a_filter_that_is_no_unicode_is_refused(refusing: httpx.Client) -> None:
    response = refusing.get("/tasks?queue=%ED%A0%80%FF")

    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == ["queue"]
