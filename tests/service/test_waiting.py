"""Prefer: wait=N, and what a GET of one task says besides."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from lockgate_service.pool import Pool
from lockgate_service.tasks import db as service_db
from lockgate_service.tasks import loader, waiting
from lockgate_service.tasks.messages import TaskVersion
from lockgate_service.tasks.waiting import Waiter, Waiters

from tests.contract import Contract, until
from tests.database import Database
from tests.service.conftest import ProcessStart, RunnerStart, opened, serving, stops
from tests.service.test_lost_answers import has_read, status

LONG = {"Prefer": "wait=60"}


def watched(db: Database, task: int) -> bool:
    """Whether a service has lately asked for that task among those that are waited for."""
    asked = (
        "select true from pg_stat_activity where query like '%%task_version%%' and application_name = %s"
        " and datname = current_database() limit 1"
    )
    return db.value(asked, "lockgate-service") is True


@pytest.fixture
def later() -> Any:
    """Calls something beside the test."""
    with ThreadPoolExecutor(10) as pool:
        yield pool.submit


Later = Callable[..., "Future[httpx.Response]"]


def test_a_new_task_that_ends_in_time_is_the_answer(http: httpx.Client, q: Contract, runners: RunnerStart) -> None:
    runners()

    response = http.post("/tasks", json={"kind": "sleep", "payload": {"max": 0}}, headers=LONG, timeout=70)

    assert response.status_code == 200
    assert response.headers["preference-applied"] == "wait=60"
    task = response.json()
    assert response.headers["location"] == f"/tasks/{task['id']}"
    assert (task["status"], task["start_time"] is not None) == ("succeeded", True)
    assert "attempts" not in task


def test_a_new_task_that_does_not_end_in_time_is_accepted_as_ever(http: httpx.Client, q: Contract) -> None:
    response = http.post("/tasks", json={"kind": "sleep"}, headers={"Prefer": "wait=1"})

    assert (response.status_code, response.headers["preference-applied"]) == (202, "wait=1")
    assert response.json()["status"] == "queued"


def test_a_replayed_request_waits_too(http: httpx.Client, q: Contract, later: Later) -> None:
    key = {"Idempotency-Key": "k"}
    number = http.post("/tasks", json={"kind": "sleep"}, headers=key).json()["id"]
    runner = q.runner()
    claimed = runner.work()
    answer = later(http.post, "/tasks", json={"kind": "sleep"}, headers=key | LONG)
    until(lambda: watched(q.db, number), "somebody to wait")
    runner.finish(claimed, {"n": 1})

    response = answer.result(20)
    assert (response.status_code, response.headers["idempotency-replayed"]) == (200, "true")
    assert (response.json()["id"], response.json()["result"]) == (number, {"n": 1})


@pytest.mark.parametrize("end", ["finish", "fail", "cancel"])
def test_a_get_answers_when_the_task_has_ended(http: httpx.Client, q: Contract, later: Later, end: str) -> None:
    number = q.submit(max_attempts=1)
    runner = q.runner()
    claimed = None if end == "cancel" else runner.work()
    answer = later(http.get, f"/tasks/{number}", headers=LONG)
    until(lambda: watched(q.db, number), "somebody to wait")
    if claimed is None:
        q.cancel(number)
    else:
        getattr(runner, end)(claimed)

    response = answer.result(20)
    assert (response.status_code, response.headers["preference-applied"]) == (200, "wait=60")
    assert response.json()["finish_time"] is not None


def test_a_retry_does_not_end_the_wait(http: httpx.Client, q: Contract, later: Later) -> None:
    number = q.submit()
    runner = q.runner()
    answer = later(http.get, f"/tasks/{number}", headers=LONG)
    until(lambda: watched(q.db, number), "somebody to wait")
    runner.fail(runner.work(), retry_after=0)
    again = runner.claim()
    assert again
    assert not answer.done()
    runner.finish(again)

    assert answer.result(20).json()["status"] == "succeeded"


def test_a_get_of_an_ended_task_does_not_wait(http: httpx.Client, q: Contract) -> None:
    begin = time.monotonic()

    assert http.get(f"/tasks/{q.row('failed')}", headers=LONG).status_code == 200

    assert time.monotonic() - begin < 15


def test_a_get_says_how_it_is_when_the_wait_is_over(http: httpx.Client, q: Contract) -> None:
    response = http.get(f"/tasks/{q.submit()}", headers={"Prefer": "respond-async, wait=1; x=y"})

    assert (response.status_code, response.json()["status"]) == (200, "queued")
    assert response.headers["preference-applied"] == "wait=1"


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [("wait=0", "wait=0"), ('wait="0"', "wait=0"), ("WAIT = 0", "wait=0"), ("return=minimal,wait=0", "wait=0")]
    + [(other, None) for other in ("wait", "wait=-1", "wait=1.5", "wait=x", "awaits=1", "", ",", "respond-async")],
)
def test_what_is_not_understood_is_ignored(http: httpx.Client, q: Contract, prefer: str, applied: str | None) -> None:
    response = http.get(f"/tasks/{q.submit()}", headers={"Prefer": prefer})

    assert (response.status_code, response.headers.get("preference-applied")) == (200, applied)


def test_a_wait_has_a_limit_that_is_told(http: httpx.Client, q: Contract) -> None:
    response = http.get(f"/tasks/{q.row('failed')}", headers={"Prefer": "wait=99999999999999999999"})

    assert response.headers["preference-applied"] == "wait=60"


def test_a_task_that_is_not_there_is_not_waited_for(refusing: httpx.Client) -> None:
    assert refusing.get("/tasks/4711", headers=LONG).status_code == 404


def test_who_begins_to_wait_while_others_are_looked_for_is_told_by_the_next_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or a task that was not asked for would be taken for one that is gone."""
    seen: list[TaskVersion | None] = []

    async def versions(_: Pool, ids: Sequence[int]) -> dict[int, TaskVersion]:
        if 2 not in ids:
            entered = stack.enter_context(waiters.waiter(2))
            beside.append(asyncio.create_task(first_news(entered)))
        return {one: TaskVersion("1", False) for one in ids}

    async def first_news(waiter: Waiter) -> None:
        seen.append(await waiter.change())

    async def wait() -> None:
        running = asyncio.create_task(waiters.run())
        with waiters.waiter(1) as first:
            await first.change()
            await asyncio.gather(*beside)
        running.cancel()

    monkeypatch.setattr(service_db, "versions", versions)
    waiters = Waiters(Pool("postgresql://127.0.0.1:1/none", 1), asyncio.Event())
    beside: list[asyncio.Task[None]] = []
    with ExitStack() as stack:
        asyncio.run(wait())
    assert seen == [TaskVersion("1", False)]


def test_a_task_that_is_deleted_meanwhile_is_not_found(http: httpx.Client, q: Contract, later: Later) -> None:
    number = q.submit()
    answer = later(http.get, f"/tasks/{number}", headers=LONG)
    until(lambda: watched(q.db, number), "somebody to wait")
    http.delete(f"/tasks/{number}")

    assert answer.result(20).status_code == 404


def test_more_than_may_wait_are_refused_but_what_they_submit_is_stored(
    http: httpx.Client, q: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "WAITERS_MAX", 0)
    number = q.submit()

    for path in (f"/tasks/{number}", f"/tasks/{number}/events"):
        response = http.get(path, headers=LONG)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    submitted = http.post("/tasks", json={"kind": "sleep"}, headers=LONG)
    assert (submitted.status_code, submitted.headers.get("preference-applied")) == (202, None)
    assert len(q.tasks()) == 2


def test_hundreds_who_wait_take_no_connections_and_all_hear_of_the_end(
    process: ProcessStart, db: Database, q: Contract
) -> None:
    one = serving(process, db.service, "--pool-size", "2")
    tasks = [q.submit() for _ in range(200)]
    runner = q.runner()
    runner.take(1)
    with ExitStack() as stack:
        waiters = [stack.enter_context(opened(one.url, get(task, LONG))) for task in tasks + tasks]
        until(lambda: watched(db, tasks[0]), "somebody to wait")
        sessions = "select count(*) from pg_stat_activity where application_name = %s and datname = current_database()"
        assert db.value(sessions, "lockgate-service") <= 2
        claimed = runner.claim()
        while claimed:
            claimed = runner.finish_and_claim(claimed)
        assert [status(connection) for connection in waiters] == [200] * 400


def get(task: int, headers: dict[str, str]) -> bytes:
    lines = [f"GET /tasks/{task} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in headers.items())]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def test_who_waits_when_the_service_stops_is_told_how_it_is(process: ProcessStart, db: Database, q: Contract) -> None:
    one = serving(process, db.service, patient=True)
    number = q.submit()
    with ExitStack() as stack:
        waiters = [stack.enter_context(opened(one.url, get(number, LONG))) for _ in range(20)]
        until(lambda: watched(db, number), "somebody to wait")
        has_read(one.url)
        stops(one)
        assert [status(connection) for connection in waiters] == [200] * 20


def test_who_does_not_wait_any_more_is_forgotten(http: httpx.Client, q: Contract, later: Later) -> None:
    number = q.submit()
    with pytest.raises(httpx.ReadTimeout):
        http.get(f"/tasks/{number}", headers=LONG, timeout=0.5)
    asked = (
        "select max(query_start) from pg_stat_activity where query like '%task_version%' and pid <> pg_backend_pid()"
    )

    def nobody_asks() -> bool:
        before = q.db.value(asked)
        time.sleep(0.3)  # several looks, if there were any
        return bool(q.db.value(asked) == before)

    until(nobody_asks, "nobody to be waited for")


def test_an_answer_has_a_tag_and_who_knows_it_is_spared(http: httpx.Client, q: Contract) -> None:
    number = q.submit()
    tag = http.get(f"/tasks/{number}").headers["etag"]

    same = http.get(f"/tasks/{number}", headers={"If-None-Match": f'"other", W/{tag}'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    q.cancel(number)
    changed = http.get(f"/tasks/{number}", headers={"If-None-Match": tag})
    assert (changed.status_code, changed.json()["status"]) == (200, "cancelled")
    assert changed.headers["etag"] != tag


def test_a_queued_task_has_a_place_in_the_line_of_its_queue(http: httpx.Client, q: Contract) -> None:
    q.queue("mail")
    low, normal, high, mail = q.submit(priority=-1), q.submit(), q.submit(priority=9), q.submit(queue="mail")
    scheduled, running = q.row("scheduled"), q.row("running")

    def place(task: int) -> Any:
        return http.get(f"/tasks/{task}").json()["position"]

    assert [place(task) for task in (high, normal, low, mail)] == [1, 2, 3, 1]
    assert [place(task) for task in (scheduled, running, q.row("failed"))] == [None, None, None]
    claimed = q.runner().work(slot=2)
    assert claimed.task == high
    assert [place(task) for task in (high, normal, low)] == [None, 1, 2]


def test_a_place_is_counted_to_a_thousand(http: httpx.Client, q: Contract, db: Database) -> None:
    db.query("select lockgate.submit_batch(jsonb_agg(jsonb_build_object('kind', 'k'))) from generate_series(1, 1100)")
    numbers = [task.id for task in q.tasks()]

    places = [http.get(f"/tasks/{numbers[n]}").json()["position"] for n in (0, 998, 999, 1000, 1099)]

    assert places == [1, 999, 1000, 1001, 1001]


def test_a_place_that_takes_long_to_count_is_left_out(
    http: httpx.Client, q: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = q.submit()

    def place() -> Any:
        return http.get(f"/tasks/{number}").json()["position"]

    now = [time.monotonic()]
    monkeypatch.setattr(loader, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(loader, "POSITION_LIMIT", 0.0)
    assert place() is None
    monkeypatch.setattr(loader, "POSITION_LIMIT", 4.5)
    assert place() is None  # and it is not tried again at once
    now[0] += loader.POSITION_PAUSE
    assert place() == 1
