"""How long a hand may live: never as long as an adopter waits."""

import asyncio

import pytest

from runner import db as statements
from runner import deadline
from runner.__main__ import main
from runner.runner import Runner
from runner.settings import Settings
from tests.contract import Contract, until


@pytest.mark.parametrize(("grace", "margin"), [(1, 0.5), (5, 0.5), (60, 6), (3600, 360)])
def test_a_hand_is_dead_some_time_before_the_grace_is_over(grace: float, margin: float) -> None:
    assert deadline.margin(grace) == margin


def test_a_claim_whose_answer_is_read_late_begins_with_a_fresh_look_at_the_clock(q: Contract) -> None:
    """The machine slept between the claim's commit and now. The slot may be another's: what it proved is over."""
    context = main.make_context("runner", ["--database-url", q.db.runner])

    async def story() -> tuple[float, float, str]:
        runner = Runner(Settings(**context.params), "r1")
        await runner._hands.first()
        session = await runner._connect()
        assert session is not None
        try:
            await runner._look(session)
            await runner._fill(session)
            [slot] = runner._slots
            q.submit(kind="sleep", payload={"max": 0})
            claimed = await statements.claim(session, slot.queue, slot.number, "r1")
            assert claimed is not None
            slot.confirmed = session.sent = session.sent - 100
            began = deadline.now()
            await runner._start(session, slot, claimed)
            outcome = await asyncio.to_thread(until, lambda: slot.outcome, "its end")
            return began, slot.until, outcome.ended.outcome
        finally:
            await runner._hands.stop(runner._slots)
            await session.close()

    began, live_until, outcome = asyncio.run(story())
    assert outcome == "returned"
    assert began + 4 < live_until <= deadline.now() + 4.5
