"""POST /queues/{name}/purge and DELETE /queues/{name}."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from lockgate_service.queues import routes

from tests.contract import Contract, until
from tests.database import Database
from tests.service.conftest import RunnerStart

ENDED = "insert into lockgate.task (queue, kind, status, max_attempts, payload, finish_time) "


def test_a_purge_removes_what_has_ended_of_that_queue_and_nothing_else(http: httpx.Client, q: Contract) -> None:
    q.queue("mail")
    for status in ("succeeded", "failed", "cancelled"):
        q.row(status)
    kept = [q.row(status) for status in ("queued", "scheduled", "running")] + [q.row("succeeded", queue="mail")]

    response = http.post("/queues/default/purge")

    assert (response.status_code, response.json()) == (200, {"removed": 3, "more": False})
    assert [task.id for task in q.tasks()] == kept
    assert http.post("/queues/default/purge").json() == {"removed": 0, "more": False}


def test_a_purge_goes_on_over_many_batches(http: httpx.Client, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "PURGE_SECONDS", 600)
    db.query(f"{ENDED} select 'default', 'k', 'succeeded', 1, '{{}}', now() from generate_series(1, 2500)")

    assert http.post("/queues/default/purge").json() == {"removed": 2500, "more": False}
    assert db.value("select count(*) from lockgate.task") == 0


def test_a_purge_that_takes_too_long_ends_between_batches_and_says_that_there_is_more(
    http: httpx.Client, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.query(f"{ENDED} select 'default', 'k', 'succeeded', 1, '{{}}', now() from generate_series(1, 1500)")
    monkeypatch.setattr(routes, "PURGE_SECONDS", 0)

    assert http.post("/queues/default/purge").json() == {"removed": 1000, "more": True}
    assert http.post("/queues/default/purge").json() == {"removed": 500, "more": False}


def test_an_empty_queue_that_nobody_serves_is_deleted(http: httpx.Client, q: Contract) -> None:
    q.queue("mail")

    response = http.delete("/queues/mail")

    assert (response.status_code, response.content) == (204, b"")
    assert http.get("/queues/mail").status_code == 404


@pytest.mark.parametrize("status", ["scheduled", "queued", "running", "succeeded"])
def test_a_queue_with_tasks_is_not_deleted_and_keeps_its_slots_all_the_while(
    http: httpx.Client, q: Contract, status: str
) -> None:
    q.queue("mail", slots=3)
    q.runner().take(2, "mail")
    q.row(status, queue="mail")
    with q.heard() as said:
        response = http.delete("/queues/mail")

    assert response.status_code == 409
    assert response.json()["type"] == "/problems/queue-in-use"
    assert "not empty" in response.json()["detail"]
    assert "slots mail" not in said
    assert http.get("/queues/mail").json()["slots"] == 3


def test_a_queue_whose_slots_are_not_let_go_is_not_deleted_and_gets_them_back(
    http: httpx.Client, q: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    q.queue("mail", slots=3)
    q.runner().take(2, "mail")
    monkeypatch.setattr(routes, "RELEASE_SECONDS", 0.3)

    response = http.delete("/queues/mail")

    assert response.status_code == 409
    assert response.json()["type"] == "/problems/queue-in-use"
    assert "hold slots" in response.json()["detail"]
    assert http.get("/queues/mail").json()["slots"] == 3


def test_a_queue_is_deleted_as_soon_as_its_slots_are_let_go(
    http: httpx.Client, q: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "RELEASE_SECONDS", 60)
    q.queue("mail", slots=3)
    runner = q.runner()
    runner.take(3, "mail")
    with ThreadPoolExecutor(1) as pool:
        request = pool.submit(http.delete, "/queues/mail")
        until(lambda: q.db.value("select slots from lockgate.queue where name = 'mail'") == 0, "its slots to be gone")
        assert not request.done()
        runner.release(3, "mail")

        assert request.result().status_code == 204


def test_a_queue_that_a_real_runner_serves_is_deleted(
    http: httpx.Client, q: Contract, runners: RunnerStart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "RELEASE_SECONDS", 60)
    q.queue("mail", slots=1)
    runner = runners(concurrency=4)
    runner.says("slot taken", queue="mail")

    assert http.delete("/queues/mail").status_code == 204

    assert [queue["name"] for queue in http.get("/queues").json()["items"]] == ["default"]
