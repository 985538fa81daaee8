"""change_task, and what is done to many tasks at a time."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from tests.contract import Contract


def change(q: Contract, task: int, **changes: Any) -> None:
    q.service.execute("select lockgate.change_task(%s, %s::jsonb)", (task, json.dumps(changes)))


@pytest.mark.parametrize("status", ["queued", "scheduled"])
def test_what_is_given_is_changed_and_the_rest_stays(q: Contract, status: str) -> None:
    before = q.task(q.row(status, tags=["a"], priority=3))
    change(q, before.id, priority=-7)
    change(q, before.id, tags=["b", "c"])
    change(q, before.id, max_attempts=9)
    after = q.task(before.id)
    assert (after.priority, after.tags, after.max_attempts) == (-7, ["b", "c"], 9)
    assert (after.status, after.run_at, after.payload) == (before.status, before.run_at, before.payload)


def test_null_is_what_a_new_task_has_that_names_none(q: Contract) -> None:
    q.queue(max_attempts=4)
    number = q.row("scheduled", tags=["a"], priority=3)
    change(q, number, priority=None, tags=None, max_attempts=None, run_at=None)
    task = q.task(number)
    assert (task.priority, task.tags, task.max_attempts, task.status) == (0, [], 4, "queued")
    assert abs(task.run_at - q.now()) < timedelta(minutes=1)


def test_a_higher_priority_goes_first(q: Contract) -> None:
    first, second = q.submit(), q.submit()
    change(q, second, priority=1)
    runner = q.runner()
    assert runner.work().task == second
    assert first in {task.id for task in q.tasks("status = 'queued'")}


def test_a_later_time_takes_a_task_out_of_the_line_and_an_earlier_one_puts_it_back(q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    runner.take(1)
    change(q, number, run_at=(q.now() + timedelta(hours=1)).isoformat())
    assert (q.task(number).status, runner.claim()) == ("scheduled", None)
    with q.heard() as said:
        change(q, number, run_at=(q.now() + timedelta(seconds=30)).isoformat())
        change(q, number, run_at=(q.now() - timedelta(hours=1)).isoformat())
        change(q, number, priority=5)
    assert said == ["later default", "queue default"]
    claimed = runner.claim()
    assert claimed is not None
    assert claimed.task == number


@pytest.mark.parametrize("status", ["running", "succeeded", "failed", "cancelled"])
def test_only_a_task_that_waits_is_changed(q: Contract, status: str) -> None:
    before = q.task(q.row(status))
    with q.refused("LG007"):
        change(q, before.id, priority=5)
    assert q.task(before.id) == before


def test_there_is_no_changing_what_is_not_there(q: Contract) -> None:
    with q.refused("LG006"):
        change(q, 1, priority=5)


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"priority": 101}, "priority_is_between_minus_100_and_100"),
        ({"run_at": "infinity"}, "run_at_is_within_the_years_1_to_9999"),
        ({"tags": ["x" * 4096]}, "tags_are_at_most_4_kib"),
        ({"max_attempts": 1001}, "max_attempts_are_1_to_1000"),
        ({"max_attempts": 2}, "max_attempts_are_more_than_the_attempts"),
    ],
    ids=str,
)
def test_a_limit_is_a_limit_here_too(q: Contract, changes: Any, constraint: str) -> None:
    before = q.task(q.row(attempt=2))
    with q.breaks(constraint):
        change(q, before.id, **changes)
    assert q.task(before.id) == before


def test_nothing_else_can_be_changed(q: Contract) -> None:
    with q.refused("22023") as caught:
        change(q, q.submit(), payload={})
    assert caught.value.diag.column_name == "payload"


STATUSES = ("scheduled", "queued", "running", "succeeded", "failed", "cancelled")


def call(q: Contract, function: str, *arguments: Any) -> int:
    places = ", ".join(["%s"] * len(arguments))
    row = q.service.execute(f"select lockgate.{function}({places})".encode(), arguments).fetchone()
    assert row
    return int(row[0])


@pytest.mark.parametrize(
    ("function", "becomes"),
    [
        ("cancel_tasks", {"scheduled": "cancelled", "queued": "cancelled", "running": "running"}),
        ("retry_tasks", {"failed": "queued", "cancelled": "queued"}),
        ("delete_tasks", dict.fromkeys({*STATUSES} - {"running"})),
    ],
)
def test_each_does_what_it_can_to_each_status(q: Contract, function: str, becomes: dict[str, str | None]) -> None:
    numbers = {status: q.row(status) for status in STATUSES}
    others = [q.row(status) for status in STATUSES if status != "running"]
    assert call(q, function, [*numbers.values(), 4711]) == len(becomes)
    after = {task.id: task for task in q.tasks()}
    assert {status: after[number].status if number in after else None for status, number in numbers.items()} == {
        status: becomes.get(status, status) for status in STATUSES
    }
    assert all(number in after for number in others)
    assert (after[numbers["running"]].cancel_requested is not None) == (function == "cancel_tasks")


def test_running_tasks_are_told_to_stop_by_the_way_they_listen(q: Contract) -> None:
    number, waiting = q.row("running"), q.row()
    with q.heard() as said:
        assert call(q, "cancel_tasks", [number, waiting], True) == 2
    assert said == [f"cancel {number}"]
    assert q.task(number).cancel_requested == "force"


@pytest.mark.parametrize("function", ["cancel_tasks", "retry_tasks", "delete_tasks"])
def test_another_status_or_queue_than_meant_is_left_alone(q: Contract, function: str) -> None:
    q.queue("mail")
    rows = [q.row(status, queue=queue) for status in STATUSES[:-1] for queue in ("default", "mail")]
    ask = (rows, False) if function == "cancel_tasks" else (rows,)
    before = q.tasks()
    assert call(q, function, *ask, ["cancelled"], None) == 0
    assert call(q, function, *ask, None, "gpu") == 0
    assert q.tasks() == before
    status = "failed" if function == "retry_tasks" else "queued"
    assert call(q, function, *ask, [status], "mail") == 1
    assert [old for old in before if old not in q.tasks()] == [
        old for old in before if (old.status, old.queue) == (status, "mail")
    ]


def test_a_dedupe_key_that_is_taken_keeps_one_from_being_retried_and_no_other(q: Contract) -> None:
    blocked, free = q.row("failed", dedupe_key="k"), q.row("failed", dedupe_key="l")
    q.submit(dedupe_key="k")
    assert call(q, "retry_tasks", [blocked, free]) == 1
    assert (q.task(blocked).status, q.task(free).status) == ("failed", "queued")


def test_what_belongs_to_deleted_tasks_goes_with_them(q: Contract) -> None:
    numbers = [q.row("failed") for _ in range(3)]
    for number in numbers:
        q.db.query("insert into lockgate.attempt (task, attempt, lease, outcome) values (%s, 1, 1, 'failed')", number)
        q.db.query("insert into lockgate.output values (%s, 1, 'text')", number)
    assert call(q, "delete_tasks", numbers[:2]) == 2
    for table in ("attempt", "output"):
        assert q.db.query(f"select task from lockgate.{table}") == [(numbers[2],)]


def test_a_task_that_is_claimed_meanwhile_is_not_deleted(q: Contract) -> None:
    """The deletion comes to a row that a claim has locked and not yet committed."""
    number = q.submit()
    runner = q.runner()
    runner.take(1)
    deleter = q.db.connect("service")
    with runner.conn.transaction():
        assert runner.claim()
        deleter.execute("set statement_timeout = '60s'")
        with ThreadPoolExecutor(1) as pool:
            deleting = pool.submit(deleter.execute, "select lockgate.delete_tasks(%s)", ([number],))
            q.until_waiting(deleter)
            runner.conn.execute("commit")
            runner.conn.execute("begin")
            assert deleting.result(20).fetchone() == (0,)
    assert q.task(number).status == "running"
