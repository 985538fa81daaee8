"""retry: failed, cancelled -> queued; and delete_task."""

import pytest

from tests.contract import BOOM, Contract


def retry(q: Contract, task: int) -> None:
    q.service.execute("select lockgate.retry(%s)", (task,))


def delete(q: Contract, task: int) -> None:
    q.service.execute("select lockgate.delete_task(%s)", (task,))


def test_a_failed_task_is_queued_again_with_one_more_attempt(q: Contract) -> None:
    number = q.submit(max_attempts=1)
    runner = q.runner("r1")
    claimed = runner.work()
    runner.fail(claimed, BOOM, exec_time=1.5)
    ended = q.task(number)
    with q.heard() as said:
        retry(q, number)
    assert said == ["queue default"]
    task = q.task(number)
    assert (task.status, task.attempt, task.max_attempts, task.finish_time) == ("queued", 1, 2, None)
    [attempt] = q.attempts(number)
    assert (attempt.attempt, attempt.lease, attempt.outcome, attempt.runner) == (1, claimed.lease, "failed", "r1")
    assert (attempt.error, attempt.exec_time) == (BOOM, 1.5)
    assert (attempt.start_time, attempt.end_time) == (ended.start_time, ended.finish_time)
    again = runner.claim()
    assert again is not None
    assert (again.task, again.attempt) == (number, 2)
    assert runner.finish(again)


def test_attempts_that_are_left_stay(q: Contract) -> None:
    number = q.submit(max_attempts=5)
    runner = q.runner()
    runner.fail(runner.work(), discard=True)
    retry(q, number)
    assert q.task(number).max_attempts == 5


def test_a_cancelled_task_is_queued_again_and_no_longer_asked_to_stop(q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    claimed = runner.work()
    q.cancel(number)
    runner.return_task(claimed)
    retry(q, number)
    assert (q.task(number).status, q.task(number).cancel_requested) == ("queued", None)
    again = runner.claim()
    assert again is not None
    assert again.cancel_requested is None


def test_an_attempt_that_was_given_back_cancelled_is_kept(q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    claimed = runner.work()
    q.cancel(number)
    assert runner.return_task(claimed) == "cancelled"
    retry(q, number)
    [attempt] = q.attempts(number)
    assert (attempt.attempt, attempt.lease, attempt.outcome, attempt.error) == (1, claimed.lease, "failed", None)


@pytest.mark.parametrize("end", ["fail", "adopt", "return_task"])
def test_an_attempt_is_kept_once_though_its_task_was_cancelled_afterwards(q: Contract, end: str) -> None:
    number = q.submit()
    owner, adopter = q.runner(), q.runner()
    claimed = owner.work()
    if end == "adopt":
        owner.reconnect()
        adopter.take(1)
        adopter.adopt(q.task(number))
    else:
        getattr(owner, end)(claimed)
    before = q.attempts(number)
    q.cancel(number)
    retry(q, number)
    assert q.attempts(number) == before
    assert len(before) == 1


@pytest.mark.parametrize("status", ["scheduled", "queued", "running", "succeeded"])
def test_nothing_else_can_be_retried(q: Contract, status: str) -> None:
    number = q.row(status)
    before = q.task(number)
    with q.refused("LG007"):
        retry(q, number)
    assert q.task(number) == before


def test_a_retry_gives_way_to_a_newer_task_with_its_dedupe_key(q: Contract) -> None:
    number = q.submit(dedupe_key="k")
    q.cancel(number)
    q.submit(dedupe_key="k")
    with q.refused("LG008"):
        retry(q, number)
    assert q.task(number).status == "cancelled"


def test_a_late_word_about_the_attempt_before_a_retry_changes_nothing(q: Contract) -> None:
    number = q.submit(max_attempts=1)
    runner = q.runner()
    claimed = runner.work()
    runner.fail(claimed)
    retry(q, number)
    before = q.task(number)
    assert not runner.finish(claimed)
    assert q.task(number) == before
    runner.claim()
    with q.refused("LG002"):
        runner.finish(claimed)


@pytest.mark.parametrize("status", ["scheduled", "queued", "succeeded", "failed", "cancelled"])
def test_a_task_that_does_not_run_is_deleted_with_all_that_belongs_to_it(q: Contract, status: str) -> None:
    number, other = q.row(status), q.row(status)
    for task in (number, other):
        q.db.query(
            "insert into lockgate.attempt (task, attempt, lease, outcome) values (%s, 1, %s, 'failed')", task, task
        )
        q.db.query("insert into lockgate.output values (%s, 1, 'text')", task)
    delete(q, number)
    assert [task.id for task in q.tasks()] == [other]
    assert q.db.query("select task from lockgate.attempt") == [(other,)]
    assert q.db.query("select task from lockgate.output") == [(other,)]


def test_a_running_task_is_not_deleted(q: Contract) -> None:
    number = q.row("running")
    with q.refused("LG007"):
        delete(q, number)
    assert q.task(number).status == "running"


def test_there_is_no_retrying_or_deleting_what_is_not_there(q: Contract) -> None:
    for call in (retry, delete):
        with q.refused("LG006"):
            call(q, 1)
