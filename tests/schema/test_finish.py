"""finish and finish_and_claim: running -> succeeded."""

from typing import Any

import pytest

from tests.contract import Claimed, Contract, Session


def adopted(q: Contract, claimed: Claimed, owner: Session) -> Session:
    """The owner's session is lost unknowingly, and somebody else adopts its task; who that was."""
    seen = q.task(claimed.task)
    assert seen.slot is not None
    owner.reconnect()
    adopter = q.runner("adopter")
    adopter.take(seen.slot)
    assert adopter.adopt(seen) == "queued"
    return adopter


def test_a_finished_task_has_succeeded(q: Contract) -> None:
    number = q.submit()
    runner = q.runner("r1")
    claimed = runner.work()
    assert runner.finish(claimed, result={"answer": 42}, exec_time=1.25)
    task = q.task(number)
    assert (task.status, task.result, task.exec_time, task.error) == ("succeeded", {"answer": 42}, 1.25, None)
    assert (task.slot, task.lease, task.runner, task.attempt) == (None, claimed.lease, "r1", 1)
    assert task.start_time is not None
    assert task.finish_time is not None
    assert task.create_time <= task.start_time <= task.finish_time
    assert q.attempts(number) == []


@pytest.mark.parametrize("result", [None, 0, "", [], {"a": None}, "ä\U0001f600"])
def test_a_result_is_any_json(q: Contract, result: Any) -> None:
    number = q.submit()
    runner = q.runner()
    runner.finish(runner.work(), result)
    assert q.task(number).result == result


def test_finishing_twice_is_already_recorded_and_changes_nothing(q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    claimed = runner.work()
    assert runner.finish(claimed, result=1, exec_time=1)
    before = q.task(number)
    assert not runner.finish(claimed, result=2, exec_time=2)
    assert q.task(number) == before


def test_a_late_finish_after_an_adoption_is_refused_and_changes_nothing(q: Contract) -> None:
    number = q.submit()
    owner = q.runner()
    claimed = owner.work()
    adopter = adopted(q, claimed, owner)
    waiting = q.task(number)
    with q.refused("LG002") as caught:
        owner.finish(claimed, result="late")
    assert caught.value.diag.message_hint
    assert q.task(number) == waiting

    again = adopter.claim()
    assert again is not None
    running = q.task(number)
    with q.refused("LG002"):
        owner.finish(claimed, result="later")
    assert q.task(number) == running
    assert adopter.finish(again, result="second")
    with q.refused("LG002"):
        owner.finish(claimed, result="latest")
    assert q.task(number).result == "second"


def test_a_late_finish_after_the_last_attempt_was_adopted_is_refused(q: Contract) -> None:
    number = q.submit(max_attempts=1)
    owner = q.runner()
    claimed = owner.work()
    seen = q.task(number)
    owner.reconnect()
    adopter = q.runner()
    adopter.take(1)
    assert adopter.adopt(seen) == "failed"
    with q.refused("LG002"):
        owner.finish(claimed)
    assert q.task(number).status == "failed"


def test_a_lease_is_worth_nothing_in_another_runners_name(q: Contract) -> None:
    q.submit()
    owner, other = q.runner(), q.runner()
    claimed = owner.work()
    with q.refused("LG002"):
        other.finish(claimed)


def test_the_lease_of_an_earlier_attempt_is_lost_to_the_runner_of_both(q: Contract) -> None:
    """Its hand was given up for dead, the task came back to it, and now the first hand answers."""
    number = q.submit()
    runner = q.runner()
    earlier = runner.work()
    runner.return_task(earlier)
    current = runner.claim()
    assert current is not None
    before = q.task(number)
    with q.refused("LG002"):
        runner.finish(earlier)
    assert q.task(number) == before
    assert runner.finish(current)


def test_a_task_that_is_not_there_cannot_be_finished(q: Contract) -> None:
    runner = q.runner()
    with q.refused("LG002"):
        runner.finish(Claimed(1, 1, "default", "sleep", {}, 1, 1, None, 5.0, None))


def test_finishing_needs_the_lease_and_not_the_lock(q: Contract) -> None:
    """A runner that reconnects has a result to record before it has its slot again."""
    q.submit()
    runner = q.runner()
    claimed = runner.work()
    runner.reconnect()
    assert runner.finish(claimed)


def test_a_result_is_at_most_1_mib(q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    claimed = runner.work()
    brim = "x" * (1048576 - 2)  # and two quotes
    with q.breaks("result_is_at_most_1_mib"):
        runner.finish(claimed, result=brim + "x")
    assert q.task(number).status == "running"
    assert runner.finish(claimed, result=brim)


def test_a_task_that_was_asked_to_stop_and_finished_all_the_same_has_succeeded(q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    claimed = runner.work()
    assert q.cancel(number) == "running"
    assert runner.finish(claimed, result=1)
    assert (q.task(number).status, q.task(number).cancel_requested) == ("succeeded", "graceful")


def test_a_finish_commits_for_good_however_the_server_is_set(q: Contract) -> None:
    q.submit()
    runner = q.runner()
    claimed = runner.work()
    runner.conn.execute("set synchronous_commit = off")
    with runner.conn.transaction():
        runner.finish(claimed)
        assert runner.value("show synchronous_commit") == "on"


# finish_and_claim ----------------------------------------------------------------------------------------------------


def test_the_next_task_comes_with_the_finish_of_the_last(q: Contract) -> None:
    first, second = q.submit(), q.submit()
    runner = q.runner()
    following = runner.finish_and_claim(runner.work(), result=1)
    assert following is not None
    assert (following.task, q.task(second).slot) == (second, 1)
    assert (q.task(first).status, q.task(first).result, q.task(second).status) == ("succeeded", 1, "running")


def test_the_last_task_finishes_though_there_is_no_next(q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    assert runner.finish_and_claim(runner.work()) is None
    assert q.task(number).status == "succeeded"


def test_a_finish_is_recorded_though_the_queue_was_paused_meanwhile(q: Contract) -> None:
    number, _ = q.submit(), q.submit()
    runner = q.runner()
    claimed = runner.work()
    q.queue(paused=True)
    assert runner.finish_and_claim(claimed) is None
    assert q.task(number).status == "succeeded"


def test_saying_it_again_after_a_lost_answer_starts_no_second_task(q: Contract) -> None:
    """What the lost answer gave us is in our slot, under a lease we never started: reconfirm tells it."""
    _, second, third = q.submit(), q.submit(), q.submit()
    runner = q.runner()
    claimed = runner.work()
    given = runner.finish_and_claim(claimed)
    assert runner.finish_and_claim(claimed) is None
    assert (q.task(second).status, q.task(third).status) == ("running", "queued")
    assert runner.reconfirm() == given


def test_whoever_lost_the_lease_is_given_nothing(q: Contract) -> None:
    first, second = q.submit(), q.submit()
    owner = q.runner()
    claimed = owner.work()
    adopter = adopted(q, claimed, owner)
    adopter.release(1)
    owner.take(1)
    with q.refused("LG002"):
        owner.finish_and_claim(claimed)
    assert (q.task(first).status, q.task(second).status) == ("queued", "queued")


def test_whoever_lost_the_slot_finishes_without_claiming(q: Contract) -> None:
    """The whole call is refused, and nothing of it is recorded: `finish` alone does without the lock."""
    number = q.submit()
    runner = q.runner()
    claimed = runner.work()
    runner.release(1)
    with q.refused("LG004"):
        runner.finish_and_claim(claimed)
    assert q.task(number).status == "running"
    assert runner.finish(claimed)
