"""adopt: running -> queued, scheduled, failed or cancelled, for a task whose runner is gone."""

import pytest

from tests.contract import BOOM, Contract, Session, Task


def orphan(q: Contract, slot: int = 1) -> Task:
    """The next task, running, its runner dead."""
    owner = q.runner()
    claimed = owner.work(slot)
    owner.die()
    return q.task(claimed.task)


def adopter(q: Contract, slot: int = 1) -> Session:
    runner = q.runner()
    assert runner.take(slot) == slot
    return runner


def test_an_adopted_task_is_queued_at_once_and_the_attempt_counts(q: Contract) -> None:
    number = q.submit()
    seen = orphan(q)
    with q.heard() as said:
        assert adopter(q).adopt(seen) == "queued"
    task = q.task(number)
    assert (task.status, task.slot, task.attempt) == ("queued", None, 1)
    assert task.error["type"] == "RunnerDied"
    assert said == ["queue default"]
    [attempt] = q.attempts(number)
    assert (attempt.attempt, attempt.lease, attempt.outcome) == (1, seen.lease, "adopted")
    assert (attempt.runner, attempt.slot, attempt.start_time) == (seen.runner, 1, seen.start_time)
    assert attempt.error == task.error


def test_an_adopted_task_has_a_lease_of_its_own(q: Contract) -> None:
    """Or its old owner would be told that its end is already recorded."""
    number = q.submit()
    seen = orphan(q)
    adopter(q).adopt(seen)
    lease = q.task(number).lease
    assert lease is not None
    assert seen.lease is not None
    assert lease > seen.lease


def test_the_second_death_in_a_row_backs_off(q: Contract) -> None:
    number = q.submit(max_attempts=9)
    statuses = []
    for _ in range(4):
        seen = orphan(q)
        runner = adopter(q)
        statuses.append(runner.adopt(seen))
        runner.release(1)
        wait = q.db.value(
            "select extract(epoch from run_at - (select max(end_time) from lockgate.attempt))::float from lockgate.task"
        )
        doubled = 2 ** (len(statuses) - 1) if len(statuses) > 1 else 0
        assert 0.8 * doubled <= wait <= 1.2 * doubled
        q.change(number, run_at="2000-01-01")
    assert statuses == ["queued", "scheduled", "scheduled", "scheduled"]


@pytest.mark.parametrize("end", ["fail", "return_task"])
def test_a_death_after_another_end_is_the_first_again(q: Contract, end: str) -> None:
    q.submit(max_attempts=9)
    seen = orphan(q)
    adopted = adopter(q)
    assert adopted.adopt(seen) == "queued"
    adopted.release(1)
    runner = q.runner()
    claimed = runner.work()
    _ = runner.fail(claimed, retry_after=0) if end == "fail" else runner.return_task(claimed)
    runner.die()
    seen = orphan(q)
    assert adopter(q).adopt(seen) == "queued"
    assert len(q.attempts(seen.id)) == 3


def test_the_last_attempt_fails_the_task_saying_that_its_runner_died(q: Contract) -> None:
    number = q.submit(max_attempts=1)
    seen = orphan(q)
    assert adopter(q).adopt(seen) == "failed"
    task = q.task(number)
    assert (task.status, task.slot, task.attempt) == ("failed", None, 1)
    assert task.finish_time is not None
    assert task.error["type"] == "RunnerDied"
    assert f"its runner {seen.runner} died" in task.error["message"]
    assert "attempt 1 of 1" in task.error["message"]
    assert q.attempts(number) == []


def test_a_task_that_was_asked_to_stop_is_cancelled(q: Contract) -> None:
    number = q.submit()
    seen = orphan(q)
    q.cancel(number)
    assert adopter(q).adopt(seen) == "cancelled"
    task = q.task(number)
    assert (task.status, task.slot) == ("cancelled", None)
    assert task.finish_time is not None


def test_adoption_needs_the_lock_of_the_slot(q: Contract) -> None:
    number = q.submit()
    seen = orphan(q)
    before = q.task(number)
    with q.refused("LG004"):
        q.runner().adopt(seen)
    with q.refused("LG004"):
        adopter(q, slot=2).adopt(seen)
    assert q.task(number) == before


def test_a_living_owner_cannot_be_robbed(q: Contract) -> None:
    q.submit()
    owner, thief = q.runner(), q.runner()
    seen = q.task(owner.work().task)
    assert thief.take(1) is None
    with q.refused("LG004"):
        thief.adopt(seen)


def test_a_row_that_was_claimed_anew_is_left_alone(q: Contract) -> None:
    number = q.submit()
    owner = q.runner()
    claimed = owner.work()
    seen = q.task(number)
    owner.return_task(claimed)
    owner.claim()
    owner.die()
    before = q.task(number)
    assert adopter(q).adopt(seen) is None
    assert (q.task(number), len(q.attempts(number))) == (before, 1)


def test_a_row_that_its_owner_reconfirmed_is_left_alone(q: Contract) -> None:
    number = q.submit()
    owner = q.runner()
    owner.work()
    seen = q.task(number)
    owner.reconnect()
    owner.take(1)
    assert owner.reconfirm() is not None
    owner.die()
    before = q.task(number)
    assert adopter(q).adopt(seen) is None
    assert q.task(number) == before
    assert q.attempts(number) == []


def test_a_row_that_its_owner_finished_is_left_alone(q: Contract) -> None:
    number = q.submit()
    owner = q.runner()
    claimed = owner.work()
    seen = q.task(number)
    owner.finish(claimed, result=1)
    owner.die()
    before = q.task(number)
    assert adopter(q).adopt(seen) is None
    assert q.task(number) == before


def test_there_is_nothing_to_adopt_in_a_queue_that_was_deleted_meanwhile(q: Contract) -> None:
    number = q.queue_id(q.task(q.submit()).queue)
    owner = q.runner()
    claimed = owner.work()
    seen = q.task(claimed.task)
    owner.finish(claimed)
    owner.die()
    q.db.query("select lockgate.purge('default')")
    q.db.query("select lockgate.delete_queue('default')")
    runner = q.runner()
    assert runner.value("select lockgate.retake_slot(%s, 1)", number) is True
    text = "select lockgate.adopt(%s, 1, %s, %s, %s)"
    assert runner.value(text, number, seen.id, seen.lease, seen.session) is None


def test_adopting_twice_is_adopting_once(q: Contract) -> None:
    number = q.submit()
    seen = orphan(q)
    runner = adopter(q)
    assert (runner.adopt(seen), runner.adopt(seen)) == ("queued", None)
    assert len(q.attempts(number)) == 1


def test_the_adopter_claims_into_the_slot_it_took(q: Contract) -> None:
    number = q.submit()
    seen = orphan(q)
    runner = adopter(q)
    runner.adopt(seen)
    claimed = runner.claim()
    assert claimed is not None
    assert (claimed.task, claimed.attempt) == (number, 2)


def test_a_task_above_a_lowered_number_is_adopted_too(q: Contract) -> None:
    number = q.submit()
    seen = orphan(q, slot=2)
    q.set_slots(1)
    assert adopter(q, slot=2).adopt(seen) == "queued"
    assert q.task(number).status == "queued"


def test_adoption_forgets_the_progress_of_the_attempt(q: Contract) -> None:
    number = q.submit()
    seen = orphan(q)
    q.change(number, progress={"done": 1})
    adopter(q).adopt(seen)
    assert q.task(number).progress is None


def test_the_error_of_the_attempt_before_is_in_its_record(q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    runner.fail(runner.work(), BOOM, retry_after=0)
    runner.die()
    seen = orphan(q)
    adopter(q).adopt(seen)
    assert [a.error["type"] for a in q.attempts(number)] == ["Boom", "RunnerDied"]
