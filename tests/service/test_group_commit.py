"""Requests that come together are stored together, and do not hurt each other."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import httpx
import pytest
from lockgate_service.http.errors import refusal
from lockgate_service.http.problems import Refusal
from lockgate_service.pool import Pool
from lockgate_service.tasks.group_commit import (
    BYTES_MAX,
    ITEMS_MAX,
    WAITING_BYTES_MAX,
    WAITING_MAX,
    GroupCommit,
    Submitted,
)
from lockgate_service.tasks.messages import NewTask
from msgspec import Raw

from tests.contract import Contract, until
from tests.database import Database

T = TypeVar("T")

SLEEP = NewTask("sleep")
TOO_LONG_A_NUMBER = NewTask("sleep", payload=Raw(b"1" * 140_000))
NUL = NewTask("sleep", payload=Raw(b'"\\u0000"'))
KIB_60 = NewTask("sleep", payload=Raw(b'"%s"' % (b"x" * 60 * 1024)))
KIB_900 = NewTask("sleep", payload=Raw(b'"%s"' % (b"x" * 900 * 1024)))


def with_group_commit(db: Database, story: Callable[[GroupCommit], Awaitable[T]]) -> T:
    async def tell() -> T:
        pool = Pool(db.service, 4)
        await pool.open()
        try:
            return await story(GroupCommit(pool, notify=lambda _queue, _due: None))
        finally:
            await pool.close()

    return asyncio.run(tell())


def statements(db: Database) -> list[int]:
    """How many tasks each statement stored; rows of one statement have one xmin."""
    return sorted(Counter(row[0] for row in db.query("select xmin::text from lockgate.task")).values())


def blocked(db: Database) -> int:
    """How many of the service's statements wait for a lock."""
    number: int = db.value(
        "select count(*) from pg_stat_activity where datname = current_database() "
        "and application_name = 'lockgate-service' and wait_event_type = 'Lock'"
    )
    return number


async def see(condition: Callable[[], object], description: str) -> None:
    await asyncio.to_thread(until, condition, description)


def test_requests_that_come_together_are_stored_by_one_statement(db: Database) -> None:
    async def story(group_commit: GroupCommit) -> list[Submitted]:
        return await asyncio.gather(*(group_commit.submit(SLEEP) for _ in range(100)))

    submitted = with_group_commit(db, story)

    assert statements(db) == [100]
    assert len({one.id for one in submitted}) == 100
    assert all(one.task is not None and one.task.id == one.id for one in submitted)


def test_each_request_gets_its_own_task(db: Database, q: Contract) -> None:
    async def story(group_commit: GroupCommit) -> list[Submitted]:
        tasks = [NewTask("sleep", priority=number, dedupe_key=f"{number * 37 % 100}") for number in range(100)]
        return await asyncio.gather(*map(group_commit.submit, tasks))

    submitted = with_group_commit(db, story)

    assert [q.task(one.id or 0).priority for one in submitted] == list(range(100))


def test_no_request_waits_for_others_to_come(db: Database) -> None:
    async def story(group_commit: GroupCommit) -> None:
        for _ in range(3):
            await group_commit.submit(SLEEP)

    with_group_commit(db, story)

    assert statements(db) == [1, 1, 1]


def test_while_two_statements_are_under_way_the_rest_is_gathered(db: Database) -> None:
    locker = db.connect("admin")

    async def story(group_commit: GroupCommit) -> None:
        with locker.transaction():
            locker.execute("lock table lockgate.task")
            requests = []
            for number in (1, 2):
                requests.append(asyncio.ensure_future(group_commit.submit(SLEEP)))
                await see(lambda number=number: blocked(db) == number, "the statement to be under way")  # type: ignore[misc]
            for wave in (10, 5):
                requests += [asyncio.ensure_future(group_commit.submit(SLEEP)) for _ in range(wave)]
                for _ in range(5):
                    await asyncio.sleep(0)  # whatever would be sent is on its way
            assert not any(request.done() for request in requests), "answered before its commit"
            assert blocked(db) == 2
        await asyncio.gather(*requests)

    with_group_commit(db, story)

    assert statements(db) == [1, 1, 15]


def test_a_statement_is_bounded_by_items(db: Database) -> None:
    async def story(group_commit: GroupCommit) -> None:
        await asyncio.gather(*(group_commit.submit(SLEEP) for _ in range(2 * ITEMS_MAX + 1)))

    with_group_commit(db, story)

    assert statements(db) == [1, ITEMS_MAX, ITEMS_MAX]


def test_a_statement_is_bounded_by_bytes(db: Database) -> None:
    async def story(group_commit: GroupCommit) -> None:
        await asyncio.gather(*(group_commit.submit(KIB_60) for _ in range(100)))

    with_group_commit(db, story)

    assert statements(db) == [100 - BYTES_MAX // (60 * 1024 + 40), BYTES_MAX // (60 * 1024 + 40)]


def test_a_large_item_has_a_statement_of_its_own(db: Database) -> None:
    async def story(group_commit: GroupCommit) -> None:
        await asyncio.gather(*map(group_commit.submit, [SLEEP, SLEEP, KIB_900, KIB_900, SLEEP]))

    with_group_commit(db, story)

    assert statements(db) == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ("task", "most"), [(SLEEP, WAITING_MAX), (KIB_900, WAITING_BYTES_MAX // (900 * 1024 + 40))], ids=["items", "bytes"]
)
def test_more_than_can_wait_is_refused_at_once_and_the_rest_is_stored(
    db: Database, monkeypatch: pytest.MonkeyPatch, task: NewTask, most: int
) -> None:
    monkeypatch.setattr(
        "lockgate_service.tasks.group_commit.WAIT_LIMIT", 100.0
    )  # for all that is stored, one statement after another

    async def story(group_commit: GroupCommit) -> list[Submitted | BaseException]:
        return await asyncio.gather(*(group_commit.submit(task) for _ in range(most + 3)), return_exceptions=True)

    results = with_group_commit(db, story)

    refused = [one for one in results if isinstance(one, Refusal)]
    assert [one.status for one in refused] == [503, 503, 503]
    assert "waiting" in refused[0].detail
    assert sum(statements(db)) == most == sum(isinstance(one, Submitted) for one in results)


@pytest.mark.parametrize("unfit", [TOO_LONG_A_NUMBER, NUL], ids=["alone in its statement", "gathered with others"])
def test_what_cannot_be_stored_hurts_nobody_else(db: Database, unfit: NewTask) -> None:
    bad = {0, 17, 18, 41}

    async def story(group_commit: GroupCommit) -> list[Submitted | BaseException]:
        tasks = [unfit if number in bad else SLEEP for number in range(42)]
        return await asyncio.gather(*map(group_commit.submit, tasks), return_exceptions=True)

    results = with_group_commit(db, story)

    assert {number for number, one in enumerate(results) if not isinstance(one, Submitted)} == bad
    for number in bad:
        error = results[number]
        assert isinstance(error, Exception)
        said = refusal(error)
        assert said is not None
        assert (said.status, said.fields[0].field) == (400, "payload")
    assert sum(statements(db)) == 42 - len(bad)


def test_a_refused_item_does_not_stop_the_others_of_its_statement(db: Database) -> None:
    async def story(group_commit: GroupCommit) -> list[Submitted]:
        return await asyncio.gather(
            *(group_commit.submit(NewTask("a", queue=name)) for name in ("nosuch", None, "nosuch"))
        )

    assert [one.outcome for one in with_group_commit(db, story)] == ["unknown_queue", "created", "unknown_queue"]
    assert statements(db) == [1]


def test_a_request_that_is_given_up_hurts_nobody_else(db: Database) -> None:
    locker = db.connect("admin")

    async def story(group_commit: GroupCommit) -> list[Submitted | BaseException]:
        with locker.transaction():
            locker.execute("lock table lockgate.task")
            under_way = [asyncio.ensure_future(group_commit.submit(SLEEP)) for _ in range(3)]
            await see(lambda: blocked(db) == 1, "the statement to be under way")
            second = asyncio.ensure_future(group_commit.submit(SLEEP))
            await see(lambda: blocked(db) == 2, "the second statement to be under way")
            waiting = [asyncio.ensure_future(group_commit.submit(SLEEP)) for _ in range(3)]
            await asyncio.sleep(0)
            under_way[1].cancel()
            waiting[1].cancel()
        return await asyncio.gather(*under_way, second, *waiting, return_exceptions=True)

    results = with_group_commit(db, story)

    given_up = [number for number, one in enumerate(results) if isinstance(one, asyncio.CancelledError)]
    assert given_up == [1, 5]
    # What was under way is stored whoever waits for it; what had not been sent is not sent any more.
    assert statements(db) == [1, 2, 3]


def test_keys_that_cross_do_not_lock_each_other_out(http: httpx.Client, q: Contract) -> None:
    def create(number: int) -> int:
        place = number // 2 % 50
        key = {"Idempotency-Key": f"key-{place if number % 2 else 49 - place}"}
        return http.post("/tasks", json={"kind": "sleep"}, headers=key).status_code

    with ThreadPoolExecutor(30) as pool:
        codes = list(pool.map(create, range(600)))

    assert set(codes) == {200, 202}
    assert len(q.tasks()) == 50
