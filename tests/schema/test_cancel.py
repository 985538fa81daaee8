"""cancel: scheduled, queued -> cancelled; running is asked to stop."""

import pytest

from tests.contract import Contract


@pytest.mark.parametrize("status", ["scheduled", "queued"])
def test_a_waiting_task_is_cancelled_at_once(q: Contract, status: str) -> None:
    number = q.row(status)
    with q.heard() as said:
        assert q.cancel(number) == "cancelled"
    task = q.task(number)
    assert (task.status, task.cancel_requested, task.start_time, task.error) == ("cancelled", None, None, None)
    assert task.finish_time is not None
    assert said == []


def test_a_cancelled_task_is_never_claimed(q: Contract) -> None:
    q.cancel(q.submit())
    q.cancel(q.submit(delay=60.0))
    q.db.query("update lockgate.task set run_at = '2000-01-01'")
    runner = q.runner()
    runner.take(1)
    assert runner.claim() is None


def test_a_running_task_is_asked_and_its_runner_told(q: Contract) -> None:
    number = q.submit()
    q.runner().work()
    before = q.task(number)
    with q.heard() as said:
        assert q.cancel(number) == "running"
    task = q.task(number)
    assert (task.status, task.cancel_requested) == ("running", "graceful")
    assert (task.slot, task.lease, task.finish_time) == (before.slot, before.lease, None)
    assert said == [f"cancel {number}"]


def test_a_running_task_may_be_killed(q: Contract) -> None:
    number = q.row("running")
    assert q.cancel(number, force=True) == "running"
    assert q.task(number).cancel_requested == "force"


def test_asking_may_become_killing_and_not_the_other_way_round(q: Contract) -> None:
    number = q.row("running")
    asked = []
    for force in (False, True, False):
        q.cancel(number, force)
        asked.append(q.task(number).cancel_requested)
    assert asked == ["graceful", "force", "force"]


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_an_ended_task_stays_as_it_is(q: Contract, status: str) -> None:
    number = q.row(status)
    before = q.task(number)
    with q.heard() as said:
        assert q.cancel(number, force=True) == status
    assert q.task(number) == before
    assert said == []


def test_there_is_no_cancelling_what_is_not_there(q: Contract) -> None:
    with q.refused("LG006"):
        q.cancel(1)


def test_a_task_waiting_for_its_retry_is_cancelled_and_keeps_its_history(q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    claimed = runner.work()
    runner.fail(claimed)
    assert q.cancel(number) == "cancelled"
    assert q.task(number).lease == claimed.lease
    assert len(q.attempts(number)) == 1


def test_a_cancelled_tasks_dedupe_key_is_free(q: Contract) -> None:
    number = q.submit(dedupe_key="k")
    q.cancel(number)
    assert q.submit(dedupe_key="k") != number


def test_cancel_reads_as_a_person_would_type_it(q: Contract) -> None:
    number = q.row("running")
    assert q.service.execute(f"select cancel({number}, force => true)").fetchone() == ("running",)
