"""POST /tasks/{id}/retry and DELETE /tasks/{id}."""

import httpx
import pytest

from tests.contract import BOOM, Contract
from tests.database import Database


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_task_that_did_not_succeed_goes_back_in_line(http: httpx.Client, q: Contract, status: str) -> None:
    number = q.row(status, max_attempts=1)

    response = http.post(f"/tasks/{number}/retry")

    assert response.status_code == 202
    task = response.json()
    assert (task["id"], task["status"], task["attempt"], task["max_attempts"]) == (number, "queued", 1, 2)
    assert q.task(number).status == "queued"


def test_what_a_retried_task_went_through_stays_with_it(http: httpx.Client, q: Contract) -> None:
    number = q.row("failed")

    (attempt,) = http.post(f"/tasks/{number}/retry").json()["attempts"]

    assert (attempt["attempt"], attempt["outcome"], attempt["error"]) == (1, "failed", BOOM)


@pytest.mark.parametrize("status", ["scheduled", "queued", "running", "succeeded"])
def test_a_task_that_waits_runs_or_succeeded_is_not_retried(http: httpx.Client, q: Contract, status: str) -> None:
    before = q.task(q.row(status))

    response = http.post(f"/tasks/{before.id}/retry")

    assert response.status_code == 409
    assert response.json()["type"] == "/problems/wrong-status"
    assert status in response.json()["detail"]
    assert q.task(before.id) == before


def test_a_task_whose_dedupe_key_an_unfinished_task_has_is_not_retried(http: httpx.Client, q: Contract) -> None:
    number = q.row("failed", dedupe_key="k")
    q.submit(dedupe_key="k")

    response = http.post(f"/tasks/{number}/retry")

    assert response.status_code == 409
    assert response.json()["type"] == "/problems/dedupe-key-taken"
    assert '"k"' in response.json()["detail"]
    assert q.task(number).status == "failed"


@pytest.mark.parametrize("status", ["scheduled", "queued", "succeeded", "failed", "cancelled"])
def test_a_task_that_does_not_run_can_be_deleted(http: httpx.Client, q: Contract, db: Database, status: str) -> None:
    number = q.row(status)
    db.query("insert into lockgate.output values (%s, 1, 'words')", number)

    response = http.delete(f"/tasks/{number}")

    assert (response.status_code, response.content) == (204, b"")
    assert http.get(f"/tasks/{number}").status_code == 404
    assert db.query("select * from lockgate.output") == []


def test_a_running_task_is_not_deleted(http: httpx.Client, q: Contract) -> None:
    before = q.task(q.row("running"))

    response = http.delete(f"/tasks/{before.id}")

    assert response.status_code == 409
    assert response.json()["type"] == "/problems/wrong-status"
    assert q.task(before.id) == before


@pytest.mark.parametrize("number", [1, -1, 9223372036854775808, -9223372036854775809])
@pytest.mark.parametrize(("method", "path"), [("POST", "/tasks/{}/retry"), ("DELETE", "/tasks/{}")])
def test_a_task_that_is_not_there_is_not_found(refusing: httpx.Client, method: str, path: str, number: int) -> None:
    response = refusing.request(method, path.format(number))

    assert response.status_code == 404
    assert str(number) in response.json()["detail"]
