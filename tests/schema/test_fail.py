"""fail: running -> scheduled, failed or cancelled; and the back-off."""

import pytest

from tests.contract import BOOM, Contract, Session, Task


def failed(q: Contract, runner: Session, retry_after: float | None = None) -> tuple[str, Task, float]:
    """Fails the next task; the status, the row, and the seconds until it runs again."""
    claimed = runner.work()
    status = runner.fail(claimed, retry_after=retry_after)
    wait = q.db.value(
        "select extract(epoch from t.run_at - a.end_time)::float from lockgate.task t join lockgate.attempt a"
        " on a.task = t.id and a.lease = t.lease where t.id = %s",
        claimed.task,
    )
    return status, q.task(claimed.task), wait


def test_a_failed_attempt_waits_and_is_recorded(q: Contract) -> None:
    number = q.submit()
    runner = q.runner("r1")
    claimed = runner.work(slot=2)
    started = q.task(number).start_time
    assert runner.fail(claimed, BOOM, exec_time=1.5) == "scheduled"
    task = q.task(number)
    assert (task.status, task.slot, task.finish_time, task.attempt) == ("scheduled", None, None, 1)
    assert (task.error, task.exec_time, task.runner, task.lease) == (BOOM, 1.5, "r1", claimed.lease)
    [attempt] = q.attempts(number)
    assert (attempt.attempt, attempt.lease, attempt.outcome) == (1, claimed.lease, "failed")
    assert (attempt.runner, attempt.slot, attempt.start_time) == ("r1", 2, started)
    assert (attempt.exec_time, attempt.error) == (1.5, BOOM)


def test_the_last_attempt_fails_the_task(q: Contract) -> None:
    number = q.submit(max_attempts=2)
    runner = q.runner()
    assert runner.fail(runner.work(), retry_after=0) == "queued"
    assert runner.fail(runner.work(), {"type": "Last"}, exec_time=2.0) == "failed"
    task = q.task(number)
    assert (task.status, task.error, task.exec_time, task.attempt) == ("failed", {"type": "Last"}, 2.0, 2)
    assert (task.slot, task.finish_time is None) == (None, False)
    assert [attempt.attempt for attempt in q.attempts(number)] == [1]


def test_a_discarded_task_is_not_tried_again(q: Contract) -> None:
    number = q.submit(max_attempts=9)
    runner = q.runner()
    assert runner.fail(runner.work(), discard=True, retry_after=1) == "failed"
    assert (q.task(number).attempt, q.attempts(number)) == (1, [])


def test_the_back_off_doubles_within_a_fifth(q: Contract) -> None:
    q.submit(max_attempts=12)
    runner = q.runner()
    for attempt in range(1, 9):
        status, task, wait = failed(q, runner)
        assert status == "scheduled"
        assert 0.8 * 2 ** (attempt - 1) <= wait <= 1.2 * 2 ** (attempt - 1)
        q.change(task.id, run_at="2000-01-01")


def test_the_back_off_is_spread_and_not_the_same_for_all(q: Contract) -> None:
    waits = [q.db.value("select lockgate.backoff(q, 1) from lockgate.queue q") for _ in range(200)]
    assert min(waits) >= 0.8
    assert max(waits) <= 1.2
    assert min(waits) < 0.9 < 1.1 < max(waits)


@pytest.mark.parametrize("attempt", [10, 61, 1000])
def test_the_back_off_has_a_bound(q: Contract, attempt: int) -> None:
    waits = [q.db.value("select lockgate.backoff(q, %s) from lockgate.queue q", attempt) for _ in range(50)]
    assert min(waits) >= 0.8 * 300
    assert max(waits) <= 1.2 * 300


def test_the_back_off_is_the_queues(q: Contract) -> None:
    q.queue(backoff_base=100, backoff_max=150)
    q.submit()
    runner = q.runner()
    _, task, wait = failed(q, runner)
    assert 80 <= wait <= 120
    q.change(task.id, run_at="2000-01-01")
    _, _, wait = failed(q, runner)
    assert 120 <= wait <= 180


def test_a_queue_without_back_off_tries_again_at_once(q: Contract) -> None:
    q.queue(backoff_base=0)
    q.submit()
    runner = q.runner()
    with q.heard() as said:
        assert runner.fail(runner.work()) == "queued"
    assert said == ["queue default"]


def test_the_handler_may_say_when_to_try_again(q: Contract) -> None:
    q.submit()
    status, _, wait = failed(q, q.runner(), retry_after=1234.5)
    assert (status, wait) == ("scheduled", 1234.5)


@pytest.mark.parametrize(("seconds", "told"), [(50, ["later default"]), (70, [])])
def test_idle_runners_are_told_of_a_retry_that_is_due_within_a_minute(
    q: Contract, seconds: float, told: list[str]
) -> None:
    q.submit()
    runner = q.runner()
    claimed = runner.work()
    with q.heard() as said:
        runner.fail(claimed, retry_after=seconds)
    assert said == told


def test_a_task_that_was_asked_to_stop_is_cancelled_and_keeps_its_error(q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    claimed = runner.work()
    q.cancel(number)
    assert runner.fail(claimed, BOOM, exec_time=1.0) == "cancelled"
    task = q.task(number)
    assert (task.status, task.error, task.exec_time, task.slot) == ("cancelled", BOOM, 1.0, None)
    assert task.finish_time is not None
    assert q.attempts(number) == []


@pytest.mark.parametrize(("max_attempts", "status"), [(1, "failed"), (3, "scheduled")])
def test_failing_twice_answers_what_was_recorded_and_changes_nothing(
    q: Contract, max_attempts: int, status: str
) -> None:
    number = q.submit(max_attempts=max_attempts)
    runner = q.runner()
    claimed = runner.work()
    assert runner.fail(claimed) == status
    before, attempts = q.task(number), q.attempts(number)
    assert runner.fail(claimed, {"type": "Other"}) == status
    assert (q.task(number), q.attempts(number)) == (before, attempts)


def test_failing_what_has_succeeded_changes_nothing(q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    claimed = runner.work()
    runner.finish(claimed, result=1)
    before = q.task(number)
    assert runner.fail(claimed) == "succeeded"
    assert q.task(number) == before


def test_a_lost_lease_cannot_fail(q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    lost = runner.work()
    runner.return_task(lost)
    current = runner.work()
    before = q.task(number)
    with q.refused("LG002"):
        runner.fail(lost)
    assert q.task(number) == before
    assert runner.finish(current)


def test_a_failed_task_must_have_an_error(q: Contract) -> None:
    q.submit(max_attempts=1)
    runner = q.runner()
    claimed = runner.work()
    with q.breaks("a_failed_task_has_an_error"):
        runner.value("select lockgate.fail(%s, %s, %s, 1, null)", claimed.task, claimed.lease, runner.name)
    assert runner.fail(claimed) == "failed"


@pytest.mark.parametrize(("asked", "least", "most"), [("NaN", 0, 2), (-5, 0, 0), (1e300, 2592000, 2592000)])
def test_whatever_a_handler_asks_for_its_failure_is_recorded(
    q: Contract, asked: float, least: float, most: float
) -> None:
    number = q.submit()
    runner = q.runner()
    runner.fail(runner.work(), retry_after=float(asked))
    wait = q.db.value(
        "select extract(epoch from t.run_at - a.end_time)::float8 from task t, attempt a where t.id = %s", number
    )
    assert least - 0.001 <= wait <= most + 0.001
