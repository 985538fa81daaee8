"""return_task: running -> queued, the attempt not counted."""

from tests.contract import Contract


def test_a_task_given_back_is_queued_and_the_attempt_does_not_count(q: Contract) -> None:
    number = q.submit()
    runner = q.runner("r1")
    claimed = runner.work()
    with q.heard() as said:
        assert runner.return_task(claimed) == "queued"
    task = q.task(number)
    assert (task.status, task.slot, task.attempt, task.error) == ("queued", None, 0, None)
    assert said == ["queue default"]
    [attempt] = q.attempts(number)
    assert (attempt.attempt, attempt.lease, attempt.outcome, attempt.runner) == (1, claimed.lease, "returned", "r1")


def test_a_task_may_be_given_back_more_often_than_it_has_attempts(q: Contract) -> None:
    number = q.submit(max_attempts=1)
    runner = q.runner()
    for _ in range(3):
        assert runner.return_task(runner.work()) == "queued"
    assert [(a.attempt, a.outcome) for a in q.attempts(number)] == [(1, "returned")] * 3
    assert runner.finish(runner.work())
    assert q.task(number).attempt == 1


def test_a_task_given_back_keeps_its_place_in_line(q: Contract) -> None:
    number, _ = q.submit(), q.submit()
    runner = q.runner()
    runner.return_task(runner.work())
    assert runner.work().task == number


def test_a_task_that_was_asked_to_stop_is_cancelled_instead(q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    claimed = runner.work()
    q.cancel(number)
    assert runner.return_task(claimed) == "cancelled"
    assert (q.task(number).status, q.task(number).slot) == ("cancelled", None)
    assert q.task(number).finish_time is not None
    assert q.attempts(number) == []


def test_giving_back_twice_answers_where_the_task_is_and_changes_nothing(q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    claimed = runner.work()
    runner.return_task(claimed)
    before = q.task(number)
    assert runner.return_task(claimed) == "queued"
    assert (q.task(number), len(q.attempts(number))) == (before, 1)


def test_a_lost_lease_cannot_give_back(q: Contract) -> None:
    number = q.submit()
    runner, other = q.runner(), q.runner()
    lost = runner.work(slot=1)
    runner.return_task(lost)
    other.work(slot=2)
    before = q.task(number)
    with q.refused("LG002"):
        runner.return_task(lost)
    assert q.task(number) == before


def test_an_earlier_attempt_does_not_give_back_the_present_one(q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    earlier = runner.work()
    runner.return_task(earlier)
    runner.claim()
    before = q.task(number)
    with q.refused("LG002"):
        runner.return_task(earlier)
    assert q.task(number) == before


def test_what_was_finished_is_not_given_back(q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    claimed = runner.work()
    runner.finish(claimed)
    assert runner.return_task(claimed) == "succeeded"
    assert q.task(number).status == "succeeded"
