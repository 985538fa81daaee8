"""Idle runners are told of new tasks after the commit, and not too often."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import psycopg
import pytest

from tests.contract import Contract, until
from tests.database import Database
from tests.service.conftest import RunnerStart


@pytest.fixture
def listener(db: Database) -> psycopg.Connection[tuple[object, ...]]:
    connection = db.connect("owner")
    connection.execute("listen lockgate")
    return connection


def heard(listener: psycopg.Connection[tuple[object, ...]], last: str) -> Iterator[str]:
    """Notifications up to that one."""
    for notify in listener.notifies(timeout=10):
        yield notify.payload
        if notify.payload == last:
            return
    raise AssertionError(f"never heard {last}")


@pytest.mark.parametrize("path", ["/task", "/tasks"])
def test_a_task_that_is_due_wakes_its_queue(
    http: httpx.Client, listener: psycopg.Connection[tuple[object, ...]], path: str
) -> None:
    http.post(path, json={"kind": "sleep"} if path == "/tasks" else None)

    assert list(heard(listener, "queue default")) == ["queue default"]


def test_only_a_new_task_that_is_due_wakes_its_queue(
    http: httpx.Client, q: Contract, listener: psycopg.Connection[tuple[object, ...]]
) -> None:
    q.queue("mail")
    q.submit(dedupe_key="k")
    assert list(heard(listener, "queue default")) == ["queue default"]

    http.post("/tasks", json={"kind": "sleep", "delay": 70})
    http.post("/tasks", json={"kind": "sleep", "dedupe_key": "k"})
    http.post("/tasks", json={"kind": "sleep", "queue": "mail"})

    assert list(heard(listener, "queue mail")) == ["queue mail"]


def test_a_task_that_is_due_within_a_minute_is_announced(
    http: httpx.Client, listener: psycopg.Connection[tuple[object, ...]]
) -> None:
    http.post("/tasks", json={"kind": "sleep", "delay": 50})

    assert list(heard(listener, "later default")) == ["later default"]


def test_a_short_delay_ends_on_time_although_the_runner_had_nothing_to_look_for(
    http: httpx.Client, q: Contract, runners: RunnerStart
) -> None:
    runners(poll=30).says("slot taken")
    # Once a task went through it, the runner is idle in its slot and looks again in 30 s.
    first = http.post("/tasks", json={"kind": "nap", "payload": {"seconds": 0}}).json()["id"]
    until(lambda: q.task(first).status == "succeeded", "the first to end")

    number = http.post("/tasks", json={"kind": "nap", "payload": {"seconds": 0}, "delay": 0.3}).json()["id"]
    until(lambda: q.task(number).status == "succeeded", "it to end")

    task = q.task(number)
    assert task.start_time is not None
    assert timedelta(0) <= task.start_time - task.run_at < timedelta(seconds=15)


def test_many_tasks_make_few_notifications(
    http: httpx.Client, q: Contract, listener: psycopg.Connection[tuple[object, ...]]
) -> None:
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: http.post("/task"), range(200)))
    q.queue("mail")
    http.post("/tasks", json={"kind": "sleep", "queue": "mail"})

    said = list(heard(listener, "queue mail"))

    assert 1 <= said.count("queue default") < 200
