"""PATCH /tasks/{id} and POST /tasks/actions."""

from typing import Any, get_args

import httpx
import pytest
from lockgate_service.tasks import actions, lists
from lockgate_service.tasks.messages import Action, Status

from tests.contract import Contract
from tests.database import Database


def test_a_waiting_task_is_changed_and_is_the_answer(http: httpx.Client, q: Contract) -> None:
    number = q.submit()
    changes = {"priority": 7, "tags": ["a"], "max_attempts": 5, "run_at": "2100-01-01T03:00:00+03:00"}

    response = http.patch(f"/tasks/{number}", json=changes)

    assert response.status_code == 200
    task = response.json()
    assert task | changes | {"run_at": "2100-01-01T00:00:00.000000Z", "status": "scheduled"} == task
    assert http.get(f"/tasks/{number}").json() == task
    again = http.patch(f"/tasks/{number}", json={"run_at": None}).json()
    assert (again["status"], again["priority"]) == ("queued", 7)


@pytest.mark.parametrize("status", ["running", "succeeded", "failed", "cancelled"])
def test_a_task_that_does_not_wait_is_not_changed(http: httpx.Client, q: Contract, status: str) -> None:
    before = q.task(q.row(status))

    response = http.patch(f"/tasks/{before.id}", json={"priority": 1})

    assert (response.status_code, response.json()["type"].split("/")[-1].split(":")[-1]) == (409, "wrong-status")
    assert q.task(before.id) == before


def test_a_task_that_is_not_there_is_not_changed(refusing: httpx.Client) -> None:
    assert refusing.patch("/tasks/4711", json={"priority": 1}).status_code == 404


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"priority": 101}, "priority"),
        ({"priority": "1"}, "priority"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": 2}, "max_attempts"),
        ({"tags": ["x" * 4096]}, "tags"),
        ({"tags": ["\0"]}, "tags"),
        ({"run_at": "2100-01-01T00:00:00"}, "run_at"),
        ({"payload": {}}, "payload"),
        ({"queue": "mail"}, "queue"),
    ],
    ids=str,
)
def test_a_wrong_change_is_refused_by_the_name_of_its_field(
    http: httpx.Client, q: Contract, changes: Any, field: str
) -> None:
    before = q.task(q.row(attempt=2))

    response = http.patch(f"/tasks/{before.id}", json=changes)

    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, field)
    assert q.task(before.id) == before


# -- many -------------------------------------------------------------------------------------------------------------


def do(client: httpx.Client, action: str, **request: Any) -> dict[str, Any]:
    response = client.post("/tasks/bulk", json={"action": action} | request)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def done(matched: int, affected: int, **more: Any) -> dict[str, Any]:
    return {"matched": matched, "affected": affected, "dry_run": False, "next_cursor": None} | more


@pytest.mark.parametrize("action", get_args(Action))
def test_what_is_looked_for_is_what_can_be_done(http: httpx.Client, q: Contract, action: Action) -> None:
    """The statuses that the walk is limited to are those that the functions of the schema touch."""
    for status in get_args(Status):
        number = q.row(status)
        count = int(status in actions.STATUSES[action])
        assert do(http, action, ids=[number]) == done(count, count), status
        q.db.query("delete from lockgate.task")


def test_tasks_by_their_numbers(http: httpx.Client, q: Contract) -> None:
    running, waiting, ended, other = q.row("running"), q.row(), q.row("succeeded"), q.row()

    assert do(http, "cancel", ids=[running, waiting, ended, 4711], dry_run=True) == done(2, 0, dry_run=True)
    assert q.task(waiting).status == "queued"
    assert do(http, "cancel", ids=[running, waiting, ended, 4711], force=True) == done(2, 2)
    assert (q.task(running).cancel_requested, q.task(waiting).status) == ("force", "cancelled")
    assert (q.task(ended).status, q.task(other).status) == ("succeeded", "queued")


def test_tasks_by_a_filter(http: httpx.Client, q: Contract) -> None:
    q.queue("mail")
    mine = [q.row("failed", kind="a", queue="mail") for _ in range(3)]
    others = [q.row("failed", kind="b", queue="mail"), q.row("failed", kind="a"), q.row("succeeded", kind="a")]
    only = {"status": ["failed"], "kind": "a", "queue": "mail", "error": "went WRONG"}

    assert do(http, "retry", filter=only, dry_run=True) == done(3, 0, dry_run=True)
    assert do(http, "retry", filter=only) == done(3, 3)
    assert {q.task(number).status for number in mine} == {"queued"}
    assert "queued" not in {q.task(number).status for number in others}
    assert do(http, "retry", filter={"status": ["running"]}) == done(0, 0)


def test_all_has_to_be_said(http: httpx.Client, q: Contract) -> None:
    numbers = {status: q.row(status) for status in get_args(Status)}

    assert do(http, "delete", filter={}, all=True) == done(5, 5)
    assert [task.id for task in q.tasks()] == [numbers["running"]]


@pytest.mark.parametrize("action", get_args(Action))
def test_one_that_goes_on_where_it_was_gets_to_the_end(
    http: httpx.Client, q: Contract, db: Database, monkeypatch: pytest.MonkeyPatch, action: Action
) -> None:
    monkeypatch.setattr(actions, "SECONDS", 0.0)
    monkeypatch.setattr(actions, "BATCH", {action: 30})
    monkeypatch.setattr(lists, "NAMED_MAX", 10)
    status = actions.STATUSES[action][-1]
    db.query(
        "insert into lockgate.task (queue, kind, status, finish_time, error, turn, max_attempts, payload)"
        " select 'default', case when g %% 2 = 0 then 'a' else 'b' end, %s::lockgate.status,"
        " case when %s in ('failed', 'cancelled') then now() end, '{}', null, 1, '{}' from generate_series(1, 200) g",
        "queued" if status == "running" else status,
        status,
    )
    answers = [do(http, action, filter={"kind": "a"})]
    while cursor := answers[-1]["next_cursor"]:
        answers.append(do(http, action, filter={"kind": "a"}, cursor=cursor))

    assert len(answers) > 3
    assert sum(one["matched"] for one in answers) == sum(one["affected"] for one in answers) == 100
    monkeypatch.undo()
    assert do(http, action, filter={"kind": "a"}, dry_run=True)["matched"] == 0
    assert do(http, action, filter={"kind": "b"}, dry_run=True)["matched"] == 100


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({}, "filter"),
        ({"filter": {}}, "filter"),
        ({"filter": {"status": None}}, "filter"),
        ({"ids": []}, "ids"),
        ({"ids": [1] * 1001}, "ids"),
        ({"ids": [1], "filter": {"kind": "a"}}, "filter"),
        ({"ids": [1], "all": True}, "all"),
        ({"ids": [2**63]}, "ids[0]"),
        ({"filter": {"kinds": "a"}}, "filter.kinds"),
        ({"filter": {"status": ["done"]}}, "filter.status[0]"),
        ({"filter": {"created_after": "2026-05-01T12:00:00"}}, "filter.created_after"),
        ({"filter": {"kind": "a\0"}}, "filter"),
        ({"filter": {"kind": "a"}, "cursor": "x"}, "cursor"),
        ({"filter": {"kind": "a"}, "cursor": "1-00000000"}, "cursor"),
        ({"filter": {"kind": "a"}, "action": "kill"}, "action"),
        ({"filter": {"kind": "a"}, "action": "retry", "force": True}, "force"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_not_plain_is_refused(refusing: httpx.Client, request_: Any, field: str) -> None:
    response = refusing.post("/tasks/bulk", json={"action": "cancel"} | request_)

    assert response.status_code == 400, response.text
    assert response.json()["errors"][0]["field"] == field
