"""A runner that is told to take no more tasks: it finishes what it has, and its slots are free for others at once."""

from lockgate.witness import Witness
from tests.contract import Contract, until
from tests.runner.conftest import Start
from tests.runner.test_outcomes import ended


def nap(q: Contract, seconds: float) -> int:
    return q.submit(kind="nap", payload={"seconds": seconds})


def test_it_finishes_what_it_has_and_a_standby_takes_over_until_it_is_resumed(
    q: Contract, start: Start, witness: Witness
) -> None:
    q.set_slots(1)
    first = start()
    first.says("slot taken")
    second = start()
    second.says("connected")
    running = nap(q, 8)
    until(lambda: q.task(running).status == "running", "the first to work")
    q.service.execute("select lockgate.drain_runner(%s)", (first.name,))
    assert first.says("draining")["running"] == 1
    later = nap(q, 0)

    assert (ended(q, running).runner, ended(q, later).runner) == (first.name, second.name)
    assert ended(q, running).attempt == 1
    second.says("slot taken")
    assert not first.events("returned")
    assert first.process.poll() is None

    q.service.execute("select lockgate.drain_runner(%s)", (second.name,))
    second.says("slot released")
    waiting = nap(q, 0)
    q.service.execute("select lockgate.resume_runner(%s)", (first.name,))
    assert ended(q, waiting).runner == first.name
    assert witness.most["default"] == 1


def test_it_still_looks_after_the_slots_of_others(q: Contract, start: Start) -> None:
    """It puts the task of a dead one back, and does not take it."""
    q.queue(grace=1)
    drained = start()
    drained.says("slot taken")
    q.service.execute("select lockgate.drain_runner(%s)", (drained.name,))
    drained.says("slot released")
    number = q.submit()
    dead = q.runner("dead")
    dead.work()
    dead.die()
    drained.says("adopted", task=number)
    assert q.task(number).status == "queued"


def test_it_drains_on_when_its_session_was_lost_in_the_middle(q: Contract, start: Start) -> None:
    runner = start()
    runner.says("slot taken")
    running = nap(q, 8)
    until(lambda: q.task(running).status == "running", "it to work")
    q.service.execute("select lockgate.drain_runner(%s)", (runner.name,))
    runner.says("draining")
    q.db.query("select pg_terminate_backend(backend_pid) from lockgate.runner_overview where alive")
    runner.says("slot kept")
    waiting = nap(q, 0)
    assert ended(q, running).attempt == 1
    runner.says("slot released")
    assert q.task(waiting).status == "queued"


def test_a_drained_runner_stops_like_any_other(q: Contract, start: Start) -> None:
    runner = start()
    runner.says("slot taken")
    q.service.execute("select lockgate.drain_runner(%s)", (runner.name,))
    runner.says("slot released")
    assert runner.stop() == 0
