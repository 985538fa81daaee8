"""A service that is told to stop while requests are open: each is answered or refused, soon, and it ends in order."""

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from http.client import HTTPResponse

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.contract import Contract, until
from tests.database import Database
from tests.proxy import Proxy
from tests.service.conftest import SOON, ProcessStart, ends, opened, serving, stops
from tests.service.test_lost_answers import blocked, has_read, request, status, submit
from tests.service.test_waiting import LONG, get, watched

LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
LIST = b"GET /tasks HTTP/1.1\r\nHost: x\r\n\r\n"


def refuses(url: str) -> bool:
    try:
        opened(url, b"").close()
    except ConnectionRefusedError:
        return True
    return False


def test_requests_that_wait_for_the_database_are_answered_before_the_end(
    process: ProcessStart, db: Database, q: Contract
) -> None:
    """Those whose statement is under way, those that are gathered behind it, and those that read."""
    one = serving(process, db.service)
    locker = db.connect("admin")
    with ExitStack() as stack:
        with locker.transaction():
            locker.execute("lock table lockgate.task")
            writers = [stack.enter_context(opened(one.url, request(number))) for number in range(10)]
            readers = [stack.enter_context(opened(one.url, LIST)) for _ in range(3)]
            has_read(one.url)
            until(lambda: blocked(db) >= 4, "inserts and three reads to be under way")
            begin = time.monotonic()
            one.popen.terminate()
            until(lambda: refuses(one.url), "it to refuse connections")
        assert [status(connection) for connection in writers + readers] == [202] * 10 + [200] * 3
        ends(one, begin)
    assert len(q.tasks()) == 10


def test_requests_that_the_database_does_not_answer_are_refused_and_can_be_sent_again(
    process: ProcessStart, db: Database, q: Contract
) -> None:
    one = serving(process, db.service)
    locker = db.connect("admin")
    with ExitStack() as stack, locker.transaction():
        locker.execute("lock table lockgate.task")
        connections = [stack.enter_context(opened(one.url, request(number))) for number in range(10)]
        has_read(one.url)
        until(lambda: blocked(db), "an insert to be under way")
        begin = time.monotonic()
        one.popen.terminate()
        assert [status(connection) for connection in connections] == [503] * 10
        ends(one, begin)
        until(lambda: blocked(db) == 0, "nothing of it to be left on the server")
    assert q.tasks() == []

    another = serving(process, db.service)
    assert [submit(another.url, number).status_code for number in range(10)] == [202] * 10
    assert [submit(another.url, number).status_code for number in range(10)] == [200] * 10
    assert len(q.tasks()) == 10


def test_connections_that_are_kept_open_hold_nothing_up(process: ProcessStart, db: Database) -> None:
    """Idle after an answer, idle from the beginning, and in the middle of a head."""
    one = serving(process, db.service)
    with ExitStack() as stack:
        for sent in (LIVE, b"", b"GET /tasks HTTP/1.1\r\nHos"):
            connections = [stack.enter_context(opened(one.url, sent)) for _ in range(20)]
            if sent == LIVE:
                assert {status(connection) for connection in connections} == {200}
        stops(one)


def test_a_body_that_stops_coming_is_refused_like_the_rest(process: ProcessStart, db: Database, q: Contract) -> None:
    one = serving(process, db.service)
    whole = request(1)
    with opened(one.url, whole[:-5]) as connection:
        has_read(one.url)
        begin = time.monotonic()
        one.popen.terminate()
        assert status(connection) == 503
        ends(one, begin)
    assert q.tasks() == []


@pytest.mark.parametrize("fault", [Proxy.silence, Proxy.cut], ids=["silent", "away"])
def test_a_database_that_is_gone_does_not_hold_up_the_end(
    process: ProcessStart, proxy: Proxy, fault: Callable[[Proxy], None]
) -> None:
    one = serving(process, proxy.dsn)
    fault(proxy)
    with ExitStack() as stack:
        connections = [stack.enter_context(opened(one.url, request(number))) for number in range(10)]
        connections += [stack.enter_context(opened(one.url, LIST)) for _ in range(10)]
        has_read(one.url)
        begin = time.monotonic()
        one.popen.terminate()
        assert {status(connection) for connection in connections} == {503}
        ends(one, begin)


def test_hundreds_who_wait_are_all_answered_and_hold_up_nothing(
    process: ProcessStart, db: Database, q: Contract
) -> None:
    one = serving(process, db.service, patient=True)
    tasks = [q.submit() for _ in range(100)]
    with ExitStack() as stack:
        polls = [stack.enter_context(opened(one.url, get(task, LONG))) for task in tasks]
        streams = [HTTPResponse(stack.enter_context(opened(one.url, watch(task)))) for task in tasks]
        for stream in streams:
            stream.begin()
            while stream.readline().strip() != b"event: task":
                assert not stream.isclosed()
        until(lambda: in_progress(one.url) >= len(polls), "all polls to wait")
        begin = time.monotonic()
        one.popen.terminate()
        assert [status(connection) for connection in polls] == [200] * len(polls)
        for stream in streams:
            stream.read()  # to its end, or it raises
        ends(one, begin)


def test_who_waits_is_cut_off_when_it_takes_long_to_answer_and_nobody_else_is_there(
    process: ProcessStart, db: Database, q: Contract
) -> None:
    one = serving(process, db.service)
    number = q.submit()
    locker = db.connect("admin")
    with ExitStack() as stack:
        poll = stack.enter_context(opened(one.url, get(number, LONG)))
        until(lambda: watched(db, number), "it to be waited for")
        with locker.transaction():
            locker.execute("lock table lockgate.task")
            stops(one)
        line = one.said("waiting requests cut off")
        assert line
        assert line["waiting"] == 1
        assert poll.recv(1) == b""


def watch(task: int) -> bytes:
    return f"GET /tasks/{task}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def in_progress(url: str) -> float:
    """Requests that are being answered, streams not counted."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics", timeout=30).text)
    return sum(
        each.value
        for family in families
        for each in family.samples
        if each.name == "lockgate_http_requests_in_progress"
    )


def test_told_twice_it_ends_as_well(process: ProcessStart, db: Database) -> None:
    one = serving(process, db.service)
    locker = db.connect("admin")
    with locker.transaction():
        locker.execute("lock table lockgate.task")
        with opened(one.url, request(1)):
            until(lambda: blocked(db) == 1, "the insert to be under way")
            begin = time.monotonic()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGINT):
                one.popen.send_signal(number)
            assert one.ended()[0] == 0
            assert time.monotonic() - begin < SOON
