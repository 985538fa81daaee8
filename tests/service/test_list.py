"""GET /tasks: its filters, and its pages over a table that is larger than what one of them may look at."""

from collections.abc import Callable
from datetime import timedelta
from itertools import product
from typing import Any, get_args
from urllib.parse import urlencode

import httpx
import pytest
from lockgate_service.tasks import lists
from lockgate_service.tasks.messages import Status, Task

from tests.contract import Contract, until
from tests.contract import Task as Row
from tests.database import Database
from tests.service.test_read import ids


def all_pages(client: httpx.Client, parameters: dict[str, Any], limit: int = 3) -> tuple[list[int], int]:
    """The tasks of all pages, by way of the Link; how many pages."""
    path = "/tasks?" + urlencode({"limit": limit} | parameters, doseq=True)
    seen: list[int] = []
    pages = 0
    while True:
        response = client.get(path)
        seen += ids(response)
        pages += 1
        assert ("next" in response.links) == (response.json()["next_cursor"] is not None)
        if "next" not in response.links:
            return seen, pages
        assert response.json()["next_cursor"] in response.links["next"]["url"]
        path = str(response.url.join(response.links["next"]["url"]))
        assert pages < 500


@pytest.fixture(scope="module")
def crowd(pg_template: Any) -> Any:
    """A service, and 180 tasks of every status with different everything, over some days."""
    from tests.service.conftest import running, until_ready

    with pg_template.clone() as db, running(db.service) as client:
        until_ready(client)
        q = Contract(db)
        q.queue("mail")
        start = q.now() - timedelta(days=9)
        db.query("select setval('lockgate.task_id_seq', 1000)")
        slot = 0
        for n in range(180):
            status = get_args(Status)[n * 7 % 11 % 6]
            columns: dict[str, Any] = {"create_time": start + timedelta(hours=n), "kind": f"kind-{n % 4}"}
            columns |= {
                "queue": "mail" if n % 5 == 0 else "default",
                "tags": ["a", "b"][: n % 3],
                "priority": n % 7 - 3,
            }
            if status == "running":
                slot += 1
                columns["slot"] = slot
            if status in ("succeeded", "failed", "cancelled"):
                columns |= {"finish_time": start + timedelta(hours=n + n * 31 % 50), "runner": f"r{n % 2}"}
            if status == "failed":
                columns["error"] = {"type": ("Boom", "Bang")[n % 2], "message": f"Disk {n % 3} is full"}
            q.row(status, **columns)
            if n == 100:
                db.query("select setval('lockgate.task_id_seq', 5000)")
        yield client, q.tasks(), start


Matches = Callable[[Row], bool]


def filters(start: Any) -> list[tuple[dict[str, Any], Matches]]:
    """Filters, and what they mean."""
    days = {n: (start + timedelta(days=n)).isoformat() for n in range(9)}
    some: list[tuple[dict[str, Any], Matches]] = [
        ({}, lambda task: task.id > 0),
        ({"kind": "kind-1"}, lambda task: task.kind == "kind-1"),
        ({"tag": "b"}, lambda task: "b" in task.tags),
        ({"runner": "r1"}, lambda task: task.runner == "r1"),
        ({"error": "DISK 2"}, lambda task: task.status == "failed" and "Disk 2" in task.error["message"]),
        ({"error": "bang: d"}, lambda task: task.status == "failed" and task.error["type"] == "Bang"),
        ({"failure": "Boom: Disk # is full"}, lambda task: task.status == "failed" and task.error["type"] == "Boom"),
        ({"created_after": days[3]}, lambda task: task.create_time >= start + timedelta(days=3)),
        ({"created_before": days[3]}, lambda task: task.create_time < start + timedelta(days=3)),
        (
            {"created_after": days[2], "created_before": days[5]},
            lambda task: start + timedelta(days=2) <= task.create_time < start + timedelta(days=5),
        ),
        (
            {"finished_after": days[4], "finished_before": days[6]},
            lambda task: (
                bool(task.finish_time) and start + timedelta(days=4) <= task.finish_time < start + timedelta(days=6)
            ),
        ),
        ({"finished_before": days[2]}, lambda task: bool(task.finish_time) and task.finish_time < start + timedelta(2)),
    ]
    statuses: list[list[str]] = [
        [], *([status] for status in get_args(Status)), ["queued", "scheduled", "running"], ["failed", "cancelled"],
        ["failed", "queued"], ["succeeded", "failed"], ["running", "cancelled", "failed", "queued"],
    ]  # fmt: skip
    return [
        (filter_ | {"status": status} | ({"queue": queue} if queue else {}), both(matches, status, queue))
        for (filter_, matches), status, queue in product(some, statuses, ("", "mail"))
    ]


def both(matches: Matches, status: list[str], queue: str) -> Matches:
    return lambda task: matches(task) and (not status or task.status in status) and (not queue or task.queue == queue)


@pytest.mark.parametrize(
    ("window", "named", "limit"), [(10_000, 2_000, 50), (7, 2_000, 3), (7, 5, 4), (1, 1, 100)], ids=str
)
def test_all_pages_together_are_all_that_was_asked_for(
    crowd: Any, monkeypatch: pytest.MonkeyPatch, window: int, named: int, limit: int
) -> None:
    client, rows, start = crowd
    monkeypatch.setattr(lists, "WINDOW", window)
    monkeypatch.setattr(lists, "SPARSE_WINDOW", window)
    monkeypatch.setattr(lists, "NAMED_MAX", named)
    monkeypatch.setattr(lists, "SECONDS", 0.0 if window == 7 else 0.03)
    every = filters(start)
    for parameters, matches in every if limit == 50 else every[:: 23 if window == 1 else 7]:
        expected = [task.id for task in reversed(rows) if matches(task)]
        seen, _ = all_pages(client, parameters, limit)
        assert seen == expected, parameters


def test_a_page_ends_when_its_time_is_up_and_says_where(crowd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client, rows, _ = crowd
    monkeypatch.setattr(lists, "WINDOW", 10)
    monkeypatch.setattr(lists, "SECONDS", 0.0)

    first = client.get("/tasks?kind=none").json()
    _, pages = all_pages(client, {"kind": "none"})

    assert (first["items"], first["next_cursor"].split("-")[0]) == ([], str(rows[-10].id))
    assert pages == len(rows) / 10 + 1


def test_a_cursor_belongs_to_its_filters(crowd: Any) -> None:
    client, _, _ = crowd
    cursor = client.get("/tasks?limit=1&kind=kind-1").json()["next_cursor"]

    assert client.get(f"/tasks?limit=5&kind=kind-1&fields=full&cursor={cursor}").status_code == 200
    for other in ("", "kind=kind-2&", "kind=kind-1&status=failed&"):
        response = client.get(f"/tasks?{other}cursor={cursor}")
        assert (response.status_code, response.json()["errors"][0]["field"]) == (400, "cursor")


def test_the_link_keeps_everything_that_was_asked_for(crowd: Any) -> None:
    client, _, _ = crowd

    asked = "status=failed&status=succeeded&fields=full&tag=a&limit=1"
    link = client.get(f"/tasks?{asked}").links["next"]["url"]

    name, _, query = link.partition("?")
    assert name == ""
    assert sorted(query.split("&")[:-1]) == sorted(asked.split("&"))


def test_a_list_has_payloads_and_results_if_they_are_asked_for(http: httpx.Client, q: Contract, db: Database) -> None:
    number = q.row("succeeded", payload={"a": [1]}, result={"n": 1})

    (item,) = http.get("/tasks?fields=full").json()["items"]
    assert set(item) == set(Task.__struct_fields__)
    assert (item["id"], item["payload"], item["result"]) == (number, {"a": [1]}, {"n": 1})
    db.query("select lockgate.submit_batch(jsonb_agg(jsonb_build_object('kind', 'k'))) from generate_series(1, 60)")
    assert len(ids(http.get("/tasks?fields=full&limit=500"))) == 50


def test_plans_read_no_table_from_end_to_end(q: Contract, db: Database, http: httpx.Client) -> None:
    """Neither with statistics nor, as after a restore, without."""
    db.query(
        "insert into lockgate.task (queue, kind, status, finish_time, max_attempts, payload)"
        " select 'default', 'k', 'succeeded', now(), 1, '{}' from generate_series(1, 50000)"
    )
    queries = ["", "status=failed", "status=queued", "status=running&status=scheduled", "tag=x", "kind=k&queue=q"]
    queries += ["finished_after=2020-01-01T00:00:00Z", "created_before=2020-01-01T00:00:00Z", "error=x"]
    queries += ["failure=x", "status=failed&finished_after=2020-01-01T00:00:00Z"]
    scans = "select seq_scan from pg_stat_all_tables where relid = 'lockgate.task'::regclass"

    def read() -> None:
        db.query("select pg_stat_force_next_flush()")
        for query in queries:
            assert http.get(f"/tasks?{query}").status_code == 200

    before = db.value(scans)
    read()
    db.query("analyze lockgate.task")
    read()
    db.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lockgate-service'")
    until(lambda: not db.query("select from pg_stat_activity where application_name = 'lockgate-service'"), "their end")
    assert db.value(scans) == before
