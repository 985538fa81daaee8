"""GET /failures."""

from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from lockgate_service.single_flight import SingleFlightByKey
from lockgate_service.tasks import lists

from tests.contract import Contract
from tests.database import Database
from tests.service.api_keys import bearer, make_key
from tests.service.conftest import ServiceStart
from tests.service.test_bulk import do
from tests.service.test_list import all_pages


@pytest.fixture(autouse=True)
def _read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "SingleFlightByKey", partial(SingleFlightByKey, most=0))


def fail(q: Contract, message: str, hours: float = 0, **columns: Any) -> int:
    error = {"type": "Boom", "message": message, "traceback": "..."}
    return q.row("failed", error=error, finish_time=q.now() - timedelta(hours=hours), **columns)


def groups(client: httpx.Client, query: str = "", **more: Any) -> list[list[Any]]:
    found = client.get(f"/failures{query}", **more).json()["items"]
    return [[one[name] for name in ("queue", "kind", "failure", "tasks", "latest_task")] for one in found]


def scene(q: Contract) -> tuple[int, int, int, int]:
    """The latest tasks of four groups, with 3, 2, 1 and 1 tasks; and others that are much like them."""
    q.queue("mail")
    for n in range(3):
        disk = fail(q, f"Disk {n} is full\nat line {n}", hours=n)
    for hours in (30, 40):
        old = fail(q, "no route", hours, kind="other")
    mail = fail(q, "Disk 1 is full", queue="mail")
    longer = fail(q, "Disk 1 is full again")
    for status in ("succeeded", "cancelled", "queued"):
        q.row(status)
    return disk, old, mail, longer


def test_what_failed_in_the_same_way_is_a_group(http: httpx.Client, q: Contract) -> None:
    disk, old, mail, longer = scene(q)

    answer = http.get("/failures").json()

    found = groups(http)
    assert found[:2] == [
        ["default", "sleep", "Boom: Disk # is full", 3, disk],
        ["default", "other", "Boom: no route", 2, old],
    ]
    assert sorted(found[2:]) == [
        ["default", "sleep", "Boom: Disk # is full again", 1, longer],
        ["mail", "sleep", "Boom: Disk # is full", 1, mail],
    ]
    assert (answer["groups"], answer["looked_at"], answer["complete"]) == (4, 7, True)
    of_disk = answer["items"][0]
    times = sorted(task["finish_time"] for task in http.get("/tasks", params=of_disk["filter"]).json()["items"])
    assert (of_disk["first"], of_disk["last"]) == (times[0], times[-1])


def test_one_queue_some_time_and_some_groups(http: httpx.Client, q: Contract) -> None:
    disk, _, mail, longer = scene(q)

    assert [one[-1] for one in groups(http, "?queue=mail")] == [mail]
    assert groups(http, "?queue=none") == []
    assert {one[-1] for one in groups(http, "?window=24h")} == {disk, mail, longer}
    assert [one[3:] for one in groups(http, "?window=90m&queue=default&limit=1")] == [[2, disk - 1]]
    assert http.get("/failures?limit=1").json()["groups"] == 4


@pytest.mark.parametrize("query", ["", "?window=24h", "?queue=default&window=35h"])
@pytest.mark.parametrize("few", [True, False])
def test_the_filter_of_a_group_is_that_of_its_tasks_and_of_no_others(
    http: httpx.Client, q: Contract, monkeypatch: pytest.MonkeyPatch, query: str, few: bool
) -> None:
    if not few:
        monkeypatch.setattr(lists, "NAMED_MAX", 2)
    scene(q)
    for message in ("", "50% of it's \\ ok & #1?", "größer als 3", "Disk 1 is full ", "m" * 300 + "1"):
        fail(q, message)
    q.row("failed", error={})
    items = http.get(f"/failures{query}").json()["items"]
    assert len(items) >= 8

    for one in items:
        listed, _ = all_pages(http, one["filter"])
        assert len(listed) == one["tasks"] == do(http, "retry", filter=one["filter"], dry_run=True)["matched"]
        assert listed[0] == one["latest_task"]
    for one in items:
        assert do(http, "retry", filter=one["filter"])["affected"] == one["tasks"]
    assert groups(http, query) == []


def test_among_many_the_newest_are_looked_at_and_it_says_so(
    http: httpx.Client, q: Contract, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(q, "old")
    db.query(
        "insert into lockgate.task (queue, kind, status, finish_time, error, max_attempts, payload)"
        " select 'default', 'k', 'failed', now(), jsonb_build_object('type', 'New', 'message', g), 1, '{}'"
        " from generate_series(1, 30) g"
    )
    monkeypatch.setattr(lists, "SPARSE_WINDOW", 10)
    monkeypatch.setattr(lists, "SECONDS", 0.0)

    answer = http.get("/failures").json()

    assert (answer["looked_at"], answer["groups"], answer["complete"]) == (10, 1, False)
    assert answer["items"][0]["tasks"] == 10
    assert do(http, "retry", filter=answer["items"][0]["filter"], dry_run=True)["matched"] == 30


def test_a_key_of_one_queue_is_told_of_that_one(start: ServiceStart, q: Contract) -> None:
    _, _, mail, _ = scene(q)
    client = start(q.db.service, published="0.0.0.0:8000")
    header = bearer(make_key(q.db, "mail", "read", "mail"))

    assert [one[-1] for one in groups(client, headers=header)] == [mail]
    assert client.get("/failures?queue=default", headers=header).status_code == 403


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("window=1y", "window"), ("window=367d", "window"), ("window=9999999d", "window"), ("limit=0", "limit"),
        ("limit=1001", "limit"), ("queue=a%00", "queue"), ("kind=a", "kind"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_for_is_refused_by_name(refusing: httpx.Client, query: str, field: str) -> None:
    response = refusing.get(f"/failures?{query}")
    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, field)
