"""How long an executor may live: never as long as an adopter waits."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from lockgate_runner import db as statements
from lockgate_runner.__main__ import main
from lockgate_runner.db import Claimed
from lockgate_runner.executor import watchdog
from lockgate_runner.runner import Runner
from lockgate_runner.session import Session
from lockgate_runner.settings import Settings
from lockgate_runner.slot import Slot

from tests.contract import Contract

T = TypeVar("T")


@pytest.mark.parametrize(("grace", "margin"), [(1, 0.5), (5, 0.5), (60, 6), (3600, 360)])
def test_an_executor_is_dead_some_time_before_the_grace_is_over(grace: float, margin: float) -> None:
    assert watchdog.margin(grace) == margin


def with_claimed(q: Contract, story: Callable[[Runner, Session, Slot, Claimed], Awaitable[T]]) -> T:
    """Tells it of a runner that has claimed a task a moment ago, and not yet given it to its executor."""
    context = main.make_context("runner", ["--database-url", q.db.runner])

    q.queue(grace=60)

    async def tell() -> T:
        runner = Runner(Settings(**context.params), "r1")
        await runner._pool.first()
        session = await runner._connect()
        assert session is not None
        try:
            await runner._poll(session)
            await runner._fill(session)
            [slot] = runner._slots.all
            q.submit(kind="sleep", payload={"max": 0})
            claimed = await statements.claim(session, slot.queue, slot.number, "r1")
            assert claimed is not None
            return await story(runner, session, slot, claimed)
        finally:
            await runner._pool.stop()
            await session.close()

    return asyncio.run(tell())


def test_a_claim_whose_answer_is_read_late_begins_with_a_fresh_look_at_the_clock(q: Contract) -> None:
    """The machine slept between the claim's commit and now. The slot may be another's: what it proved is over."""

    async def story(runner: Runner, session: Session, slot: Slot, claimed: Claimed) -> None:
        slot.confirmed = session.sent = session.sent - 100
        begin = watchdog.now()
        await runner._slots.start(session, slot, claimed)
        while slot.outcome is None:
            await runner._wakeups.wait([watchdog.now() + 60])
            runner._take_answers()
        assert slot.outcome.end.outcome == "returned"
        assert begin + 53 < slot.until <= watchdog.now() + 54

    with_claimed(q, story)


def test_a_task_that_was_claimed_for_an_executor_that_is_dead_by_now_is_given_back(q: Contract) -> None:
    async def story(runner: Runner, session: Session, slot: Slot, claimed: Claimed) -> None:
        assert slot.executor
        await slot.executor.stop()
        await runner._slots.start(session, slot, claimed)
        assert slot.idle

    with_claimed(q, story)
    [task] = q.tasks()
    assert (task.status, task.attempt) == ("queued", 0)
