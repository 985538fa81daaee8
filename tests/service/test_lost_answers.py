"""The answer to a submission never came. Sent again under its key, it is the same task; nothing is stored twice."""

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPResponse

import httpx
import pytest

from tests.contract import Contract, until
from tests.database import Database
from tests.proxy import Proxy
from tests.service.conftest import ProcessStart, opened, serving
from tests.service.test_outage import BOUND, is_unavailable

MANY = 40


def body(number: int) -> bytes:
    return b'{"kind":"sleep","payload":{"number":%d}}' % number


def submit(url: str, number: int, key: bool = True) -> httpx.Response:
    headers = {"Idempotency-Key": f"key-{number}"} if key else {}
    return httpx.post(f"{url}/tasks", content=body(number), headers=headers, timeout=BOUND)


def request(number: int) -> bytes:
    """The same as bytes."""
    head = b"POST /tasks HTTP/1.1\r\nHost: x\r\nIdempotency-Key: key-%d\r\nContent-Length: %d\r\n\r\n"
    return head % (number, len(body(number))) + body(number)


def has_read(url: str) -> None:
    """What was sent to the service before has been read."""
    for _ in range(5):
        httpx.get(f"{url}/health/live", timeout=BOUND)


def status(connection: socket.socket) -> int:
    """Of the answer that comes there."""
    answer = HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


def behind(url: str) -> Proxy:
    """A proxy between the service and its clients."""
    host, port = url.removeprefix("http://").split(":")
    return Proxy(f"host={host} port={port}")


def blocked(db: Database) -> int:
    """How many of the service's statements wait for a lock."""
    number: int = db.value(
        "select count(*) from pg_stat_activity where datname = current_database() "
        "and application_name = 'lockgate-service' and wait_event_type = 'Lock'"
    )
    return number


def test_a_client_cut_off_after_the_commit_sends_again_and_gets_the_same_task(
    process: ProcessStart, db: Database, q: Contract
) -> None:
    one = serving(process, db.service)
    with behind(one.url) as proxy:
        url = f"http://{proxy.address}"
        lost = proxy.lose_answer_to(b"POST /tasks")
        with pytest.raises(httpx.TransportError):
            submit(url, 1)
        assert lost.wait(10)
        [stored] = q.tasks()

        again = submit(url, 1)

    assert (again.status_code, again.headers["Idempotency-Replayed"], again.json()["id"]) == (200, "true", stored.id)
    assert len(q.tasks()) == 1


def test_a_client_that_hangs_up_while_its_task_is_being_stored_gets_that_task_later(
    process: ProcessStart, db: Database, q: Contract
) -> None:
    one = serving(process, db.service)
    locker = db.connect("admin")
    with locker.transaction():
        locker.execute("lock table lockgate.task")
        connection = opened(one.url, request(7))
        until(lambda: blocked(db) == 1, "the submission to be under way")
        connection.close()
    until(lambda: len(q.tasks()) == 1, "it to be stored")

    again = submit(one.url, 7)

    assert (again.status_code, again.json()["id"]) == (200, q.tasks()[0].id)
    assert len(q.tasks()) == 1


@pytest.mark.parametrize("key", [True, False], ids=["with a key", "without"])
def test_the_service_does_not_send_a_submission_twice_by_itself(
    process: ProcessStart, proxy: Proxy, q: Contract, key: bool
) -> None:
    """Its own answer was lost, after the commit. It cannot know, and says so; the client may try again, with a key."""
    one = serving(process, proxy.dsn)
    lost = proxy.lose_answer_to(b"lockgate.submit_batch(")

    assert is_unavailable(submit(one.url, 1, key))

    assert lost.wait(10)
    [stored] = q.tasks()
    again = submit(one.url, 1, key)
    assert again.status_code == (200 if key else 202)
    assert (again.json()["id"] == stored.id) is key
    assert len(q.tasks()) == (1 if key else 2)


def test_when_the_answer_for_many_at_once_is_lost_each_gets_its_own_task_again(
    process: ProcessStart, proxy: Proxy, db: Database, q: Contract
) -> None:
    one = serving(process, proxy.dsn)
    locker = db.connect("admin")
    with ExitStack() as stack:
        with locker.transaction():
            locker.execute("lock table lockgate.task")
            first = []
            for number in (MANY, MANY + 1):
                first.append(stack.enter_context(opened(one.url, request(number))))
                until(lambda: blocked(db) == len(first), "its statement to be under way")
            lost = proxy.lose_answer_to(b"lockgate.submit_batch(")
            many = [stack.enter_context(opened(one.url, request(number))) for number in range(MANY)]
            has_read(one.url)
            # This is refused behind the guard, so those before it have passed that.
            assert one.post("/tasks", content=b"{").status_code == 400
            has_read(one.url)
        assert [status(connection) for connection in first] == [202, 202]
        assert lost.wait(10)
        assert {status(connection) for connection in many} == {503}
    assert len({row[0] for row in db.query("select xmin::text from lockgate.task")}) == 3
    stored = {task.payload["number"]: task.id for task in q.tasks()}

    with ThreadPoolExecutor(MANY) as pool:
        again = list(pool.map(lambda number: submit(one.url, number), range(MANY)))

    assert [(answer.status_code, answer.json()["id"]) for answer in again] == [(200, stored[n]) for n in range(MANY)]
    assert len(q.tasks()) == MANY + 2


def test_what_is_stored_is_confirmed_though_it_cannot_be_read_back(
    process: ProcessStart, db: Database, q: Contract
) -> None:
    """With a 503 for it, the client would send it again, perhaps without a key."""
    one = serving(process, db.service)
    db.query("revoke select on lockgate.task_detail from lockgate_service")

    answer = submit(one.url, 1, key=False)

    [stored] = q.tasks()
    assert (answer.status_code, answer.json(), answer.headers["Location"]) == (
        202, {"id": stored.id}, f"/tasks/{stored.id}",
    )  # fmt: skip
    until(lambda: one.said("stored tasks could not be read back"), "the log to say so")
