"""The client against a service: what it sends is what was meant, and what it brings is what is stored."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from lockgate_client import NewTask, RequestFailed, TaskCancelled, TaskFailed, calls
from lockgate_client.messages import Time, read_time
from msgspec import UNSET

from lockgate import AsyncClient, Client
from tests.client.conftest import Calling, Synchronous
from tests.contract import Contract, Session, until
from tests.database import Database
from tests.proxy import Proxy
from tests.service.api_keys import make_key
from tests.service.conftest import ServiceStart
from tests.service.test_waiting import watched

Later = Callable[..., "Future[Any]"]


@pytest.fixture
def refused() -> Callable[[int], Any]:
    """For `with refused(status) as failed:`."""
    return lambda status: pytest.raises(RequestFailed, check=lambda error: error.status == status)


Refused = Callable[[int], Any]


def test_a_submitted_task_is_as_it_was_said(client: Synchronous, q: Contract) -> None:
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)

    task = client.call(
        "submit", "mail", {"to": "a@b", "at": later}, priority=5, run_at=later, max_attempts=7, timeout=2.5,
        tags=["x"], metadata={"trace": 1}, dedupe_key="once", idempotency_key='say "a\\b"',
    )  # fmt: skip

    assert (task.status, task.priority, task.run_at, task.max_attempts, task.timeout) == ("scheduled", 5, later, 7, 2.5)
    assert (task.tags, task.metadata, task.dedupe_key) == (["x"], {"trace": 1}, "once")
    assert (task.payload["to"], task.idempotency_key) == ("a@b", 'say "a\\b"')
    assert client.call("get", task).payload == task.payload
    assert client.call("submit", "mail", dedupe_key="once").id == task.id


def test_each_call_is_a_task_of_its_own(client: Synchronous, q: Contract) -> None:
    assert client.call("submit", "mail").id != client.call("submit", "mail").id


def test_an_answer_that_is_lost_makes_no_second_task(calling: Calling, between: Proxy, q: Contract) -> None:
    lost = between.lose_answer_to(b"POST /tasks")

    task = calling(f"http://{between.address}").call("submit", "mail", {"n": 1})

    assert lost.is_set()
    assert [row.id for row in q.tasks()] == [task.id]


def test_a_service_that_is_away_is_tried_some_times_and_no_more(calling: Calling, between: Proxy, q: Contract) -> None:
    between.cut()

    with pytest.raises(RequestFailed, match="no answer") as failed:
        calling(f"http://{between.address}", retries=2).call("submit", "mail")

    assert failed.value.status is None
    assert isinstance(failed.value.__cause__, httpx.ConnectError)


def test_a_service_that_comes_back_in_time_takes_the_task(
    calling: Calling, between: Proxy, q: Contract, later: Later
) -> None:
    between.cut()
    submitting = later(calling(f"http://{between.address}", retries=100).call, "submit", "mail")
    between.connect()

    assert submitting.result(30).id == q.tasks()[0].id


class Canned(httpx.BaseTransport):
    """Answers with these, one after the other; and remembers what was asked, and when."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.times: list[float] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.times.append(time.monotonic())
        return self.answers.pop(0)


AWAY = {"type": "/problems/unavailable", "title": "no", "status": 503, "detail": "not now"}


def away() -> httpx.Response:
    return httpx.Response(503, json=AWAY, headers={"Retry-After": "1"})


def test_after_a_503_it_comes_again_when_it_was_told_to_with_the_same_key(q: Contract, url: str) -> None:
    with Client(url) as real:
        task = httpx.get(f"{url}/tasks/{real.submit('mail').id}", timeout=60)
    canned = Canned(away(), task)

    with Client("http://canned", transport=canned) as client:
        client.submit("mail")

    first, second = canned.requests
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert canned.times[1] - canned.times[0] >= 1


def test_what_is_not_safe_to_repeat_is_not(refused: Refused) -> None:
    canned = Canned(away())

    with Client("http://canned", transport=canned) as client, refused(503) as failed:
        client.retry(1)

    assert failed.value.retry_after == 1


def test_an_answer_of_a_proxy_is_an_error_with_its_text(refused: Refused) -> None:
    canned = Canned(httpx.Response(403, text="<html>no"))

    with Client("http://canned", transport=canned) as client, refused(403) as failed:
        client.get(1)

    assert failed.value.problem.detail == "<html>no"


def test_what_is_no_answer_of_the_service_is_an_error() -> None:
    with (
        Client("http://canned", transport=Canned(httpx.Response(200, text="hello"))) as client,
        pytest.raises(RequestFailed, match="cannot be understood"),
    ):
        client.get(1)


def test_an_error_has_the_problem_document(client: Synchronous, q: Contract, refused: Refused) -> None:
    with refused(400) as failed:
        client.call("submit", "mail", priority=1000)

    problem = failed.value.problem
    assert (problem.name, problem.errors[0].field, problem.errors[0].pointer) == (
        "invalid-input", "priority", "/priority",
    )  # fmt: skip


def test_a_full_queue_is_no_reason_to_try_again(client: Synchronous, q: Contract, refused: Refused) -> None:
    q.queue(depth_max=0)

    with refused(429) as failed:
        client.call("submit", "mail")

    assert (failed.value.problem.name, failed.value.retry_after) == ("queue-full", 1)


def test_a_key_is_sent(calling: Calling, start: ServiceStart, db: Database, refused: Refused) -> None:
    key = make_key(db, "ours")
    where = str(start(db.service).base_url)

    assert calling(where, key=key).call("submit", "mail").status == "queued"
    with refused(401):
        calling(where).call("submit", "mail")


# Waiting --------------------------------------------------------------------------------------------------------------


def test_waiting_brings_the_result(client: Synchronous, q: Contract, runner: Session, later: Later) -> None:
    task = client.call("submit", "mail")
    waiting = later(client.call, "wait", task)
    until(lambda: watched(q.db, task.id), "somebody to wait")
    runner.finish(runner.work(), {"n": 1})

    assert waiting.result(20) == {"n": 1}


def test_waiting_for_a_task_that_fails_raises_its_error(client: Synchronous, q: Contract, runner: Session) -> None:
    number = q.submit(max_attempts=1)
    runner.fail(runner.work())

    with pytest.raises(TaskFailed) as failed:
        client.call("wait", number)

    assert failed.value.task.id == number
    assert failed.value.error.type
    assert failed.value.error.message in str(failed.value)


def test_waiting_for_a_cancelled_task_says_so(client: Synchronous, q: Contract) -> None:
    task = client.call("submit", "mail")
    assert client.call("cancel", task).status == "cancelled"

    with pytest.raises(TaskCancelled, match=str(task.id)):
        client.call("wait", task)


def test_a_wait_is_over_in_time(client: Synchronous, q: Contract) -> None:
    with pytest.raises(TimeoutError, match=r"is queued after 0\.5 s"):
        client.call("wait", q.submit(), timeout=0.5)


def test_a_wait_outlasts_a_broken_connection(
    calling: Calling, between: Proxy, q: Contract, runner: Session, later: Later
) -> None:
    number = q.submit()
    waiting = later(calling(f"http://{between.address}", retries=0).call, "wait", number)
    until(lambda: watched(q.db, number), "somebody to wait")
    between.cut()
    runner.finish(runner.work(), "done")
    between.connect()

    assert waiting.result(30) == "done"


def test_the_events_of_a_task_end_with_its_end(client: Synchronous, q: Contract, runner: Session, later: Later) -> None:
    number = q.submit()
    watching = later(client.all, "events", number)
    until(lambda: client.seen, "the first event")
    claimed = runner.work()
    runner.finish(claimed, 7)

    *before, end = watching.result(20)
    assert (end.status, end.result) == ("succeeded", 7)
    assert before[0].status == "queued"


def test_the_events_go_on_after_a_broken_connection(
    calling: Calling, between: Proxy, q: Contract, runner: Session, later: Later
) -> None:
    number = q.submit()
    client = calling(f"http://{between.address}", retries=100)
    watching = later(client.all, "events", number)
    until(lambda: client.seen, "the first event")
    between.cut()
    runner.finish(runner.work(), 7)
    between.connect()

    assert watching.result(30)[-1].result == 7


def test_events_of_a_deleted_task_end(client: Synchronous, q: Contract, later: Later) -> None:
    number = q.submit()
    watching = later(client.all, "events", number)
    until(lambda: client.seen, "the first event")
    client.call("delete", number)

    assert [task.status for task in watching.result(20)] == ["queued"]


def test_there_are_no_events_of_no_task(client: Synchronous, q: Contract, refused: Refused) -> None:
    with refused(404):
        client.all("events", 1)


# Many -----------------------------------------------------------------------------------------------------------------


def test_many_tasks_are_submitted_in_several_requests(client: Synchronous, q: Contract) -> None:
    tasks = [NewTask("mail", {"n": n}) for n in range(2500)]

    stored = client.call("submit_many", tasks)

    assert {one.outcome for one in stored} == {"created"}
    assert [row.payload["n"] for row in q.tasks()] == [*range(2500)]
    assert [row.id for row in q.tasks()] == [one.id for one in stored]


def test_many_tasks_after_a_lost_answer_are_there_once(calling: Calling, between: Proxy, q: Contract) -> None:
    lost = between.lose_answer_to(b"POST /tasks/batch")

    stored = calling(f"http://{between.address}").call("submit_many", [NewTask("mail")] * 3)

    assert lost.is_set()
    assert {one.outcome for one in stored} == {"replayed"}
    assert len(q.tasks()) == 3


def test_many_tasks_of_which_one_is_bad(client: Synchronous, q: Contract, refused: Refused) -> None:
    with refused(400) as failed:
        client.call("submit_many", [NewTask("mail")] * 1003 + [NewTask("")])

    assert (failed.value.taken.lines, failed.value.taken.created) == (1000, 1000)
    assert failed.value.problem.errors[0].pointer == "/items/3/kind"
    assert len(q.tasks()) == 1000


def test_large_tasks_go_in_requests_that_are_not_too_large(client: Synchronous, q: Contract) -> None:
    large = NewTask("mail", "x" * 1_000_000)

    assert len(client.call("submit_many", [large] * 5)) == 5
    assert client.call("stream", [large] * 5).created == 5


def test_a_stream_says_what_was_taken(client: Synchronous, q: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "STREAM_MAX", 100)

    taken = client.call("stream", (NewTask("mail", {"n": n}, dedupe_key=f"{n % 200}") for n in range(250)))

    assert (taken.lines, taken.created, taken.deduplicated) == (250, 200, 50)


def test_a_stream_after_a_lost_answer_is_there_once(calling: Calling, between: Proxy, q: Contract) -> None:
    lost = between.lose_answer_to(b"POST /tasks/stream")

    taken = calling(f"http://{between.address}").call("stream", [NewTask("mail")] * 3)

    assert lost.is_set()
    assert (taken.lines, taken.replayed, len(q.tasks())) == (3, 3, 3)


def test_a_stream_says_where_it_stopped(
    client: Synchronous, q: Contract, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "STREAM_MAX", 100)

    with refused(400) as failed:
        client.call("stream", [NewTask("mail")] * 130 + [NewTask("")])

    assert (failed.value.taken.lines, failed.value.taken.created, len(q.tasks())) == (130, 130, 130)


def test_a_stream_keeps_no_more_than_a_request(calling: Calling, url: str, q: Contract) -> None:
    given = stored = 0

    def tasks() -> Iterator[NewTask]:
        nonlocal given, stored
        for given in range(25_000):
            if given % 10_000 == 9_999:
                stored = max(stored, int(q.db.value("select count(*) from lockgate.task")))
                assert given - stored <= calls.STREAM_MAX
            yield NewTask("mail")

    assert calling(url).call("stream", tasks()).created == 25_000


def test_an_async_stream_takes_an_async_iterable(url: str, q: Contract) -> None:
    async def tasks() -> AsyncIterator[NewTask]:
        for n in range(3):
            yield NewTask("mail", n)

    async def streaming() -> int:
        async with AsyncClient(url) as client:
            return (await client.stream(tasks())).created

    assert asyncio.run(streaming()) == 3


# The rest -------------------------------------------------------------------------------------------------------------


def test_a_list_goes_over_all_pages(client: Synchronous, q: Contract) -> None:
    client.call("submit_many", [NewTask("mail", n, tags=["x"]) for n in range(1203)] + [NewTask("other")])

    found = client.all("list", kind="mail", tag="x", status=["queued", "running"])

    assert [task.id for task in found] == sorted((row.id for row in q.tasks("kind = 'mail'")), reverse=True)
    assert found[0].payload is UNSET


def test_a_list_is_of_what_was_asked_for(client: Synchronous, q: Contract) -> None:
    failed = q.row("failed")
    q.row("succeeded")
    begin = datetime.now(UTC) - timedelta(hours=1)

    assert [task.id for task in client.all("list", status="failed", error="boom", finished_after=begin)] == [failed]
    assert client.all("list", finished_before=begin) == []
    assert [task.payload for task in client.all("list", fields="full", queue="default", created_after=begin)] == [
        {}
    ] * 2


def test_what_has_failed_in_the_same_way_is_a_group_and_can_be_listed(client: Synchronous, q: Contract) -> None:
    failed = [q.row("failed", error={"type": "Boom", "message": f"no. {n} is bad"}) for n in range(2)]
    q.row("failed", kind="other")

    def found() -> Any:
        answer = client.call("failures", queue="default", window="24h", limit=1)
        return answer.groups == 2 and answer.items[0].latest_task == failed[1] and answer

    answer = until(found, "an answer that is not older than these")
    (group,) = answer.items
    assert (answer.looked_at, answer.complete) == (3, True)
    assert (group.failure, group.tasks) == ("Boom: no. # is bad", 2)
    assert [task.id for task in client.all("list", **group.filter)] == failed[::-1]


def test_a_failed_task_is_retried_with_a_record_of_its_attempt(client: Synchronous, q: Contract) -> None:
    task = client.call("retry", q.row("failed"))

    assert (task.status, task.attempts[0].outcome) == ("queued", "failed")
    # A service that was slow to count leaves it out for a while.
    assert until(lambda: client.call("get", task).position, "its position") == 1
    assert task.attempts[0].error.type


def test_a_running_task_is_asked_to_stop(client: Synchronous, q: Contract, refused: Refused) -> None:
    number = q.row("running")

    assert client.call("cancel", number).cancel_requested == "graceful"
    assert client.call("cancel", number, force=True).cancel_requested == "force"
    with refused(409):
        client.call("delete", number)
    with refused(409) as failed:
        client.call("cancel", q.row("succeeded"))
    assert failed.value.problem.name == "already-ended"


def test_a_deleted_task_is_gone(client: Synchronous, q: Contract, refused: Refused) -> None:
    number = q.submit()
    assert client.call("output", number) == []

    assert client.call("delete", number) is None

    with refused(404):
        client.call("get", number)


def test_a_time_beyond_those_of_python_is_the_last() -> None:
    assert read_time(Time, "20000-01-01T00:00:00Z") == datetime.max.replace(tzinfo=UTC)


def test_queues_and_their_slots(client: Synchronous, q: Contract, refused: Refused) -> None:
    q.submit()

    assert client.call("change_queue", "default", slots=3, paused=True).slots == 3

    assert [(one.name, one.paused, one.queued) for one in client.call("queues")] == [("default", True, "1")]
    assert [one.slot for one in client.call("slots")] == [1, 2, 3]
    with refused(404):
        client.call("change_queue", "a/b", slots=3)


def test_threads_share_a_client(url: str, q: Contract) -> None:
    with Client(url) as client:
        threads = [threading.Thread(target=client.submit, args=("mail",)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert len(q.tasks()) == 20


WITHOUT_HTTPX = """
import sys
sys.modules["httpx"] = None  # as if it were not there
from lockgate import *
from lockgate import handler
try:
    from lockgate import AsyncClient, Client
except ImportError as error:
    print(error)
"""


def test_handlers_need_no_httpx_and_clients_say_that_they_do() -> None:
    said = subprocess.run([sys.executable, "-c", WITHOUT_HTTPX], capture_output=True, text=True, check=True)
    assert said.stdout == "the clients need httpx: pip install 'lockgate[client]'\n"


def test_a_runner_does_not_load_the_client() -> None:
    program = "import lockgate, lockgate_runner.__main__, sys; print('lockgate_client' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"
