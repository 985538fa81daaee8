"""promote and claim: scheduled -> queued -> running."""

import pytest

from tests.contract import BOOM, Claimed, Contract


def test_a_claim_puts_the_task_into_the_slot_of_its_runner(q: Contract) -> None:
    q.queue(grace=7)
    number = q.submit("mail", payload={"to": "x"}, max_attempts=4, timeout=9.5)
    runner = q.runner("r1")
    claimed = runner.work(slot=2)
    assert (claimed.task, claimed.queue, claimed.kind, claimed.payload) == (number, "default", "mail", {"to": "x"})
    assert (claimed.attempt, claimed.max_attempts, claimed.timeout, claimed.grace) == (1, 4, 9.5, 7.0)
    assert claimed.cancel_requested is None
    task = q.task(number)
    assert (task.status, task.slot, task.attempt, task.grace) == ("running", 2, 1, 7.0)
    assert (task.lease, task.runner, task.session) == (claimed.lease, "r1", runner.number)
    assert task.start_time is not None
    assert task.start_time >= task.create_time
    assert (task.finish_time, task.exec_time, task.result, task.error) == (None, None, None, None)


def test_the_higher_priority_goes_first_and_then_the_lower_number(q: Contract) -> None:
    for name, priority in [("c", 0), ("a", 5), ("e", -1), ("d", 0), ("b", 5)]:
        q.submit(payload=name, priority=priority)
    runner = q.runner()
    order = []
    claimed: Claimed | None = runner.work()
    while claimed:
        order.append(claimed.payload)
        claimed = runner.finish_and_claim(claimed)
    assert order == ["a", "b", "c", "d", "e"]


def test_there_is_nothing_to_claim_in_an_empty_queue(q: Contract) -> None:
    q.queue("other")
    q.submit(queue="other")
    for status in ("succeeded", "failed", "cancelled", "scheduled"):
        q.row(status)
    runner = q.runner()
    runner.take(1)
    assert runner.claim() is None


def test_a_claim_takes_one_task(q: Contract) -> None:
    for _ in range(3):
        q.submit()
    q.runner().work()
    assert [task.status for task in q.tasks()] == ["running", "queued", "queued"]


def test_a_claim_needs_the_lock_of_its_slot(q: Contract) -> None:
    q.submit()
    runner, rival = q.runner(), q.runner()
    with q.refused("LG004"):
        runner.claim(slot=1)
    rival.take(1)
    runner.take(2)
    with q.refused("LG004"):
        runner.claim(slot=1)
    q.queue("other")
    with q.refused("LG004"):
        runner.claim(slot=2, queue="other")
    assert [task.status for task in q.tasks()] == ["queued"]


def test_a_lock_that_was_given_up_is_worth_nothing(q: Contract) -> None:
    q.submit()
    runner = q.runner()
    runner.take(1)
    runner.release(1)
    with q.refused("LG004"):
        runner.claim(slot=1)


def test_nothing_is_claimed_while_the_queue_is_paused(q: Contract) -> None:
    q.submit()
    runner = q.runner()
    runner.take(1)
    q.queue(paused=True)
    assert runner.claim() is None
    q.queue(paused=False)
    assert runner.claim() is not None


@pytest.mark.parametrize("slot", [3, 1000, 0, -1])
def test_nothing_is_claimed_into_a_slot_that_the_queue_does_not_have(q: Contract, slot: int) -> None:
    q.submit()
    runner = q.runner()
    assert runner.take(slot) == slot
    assert runner.claim(slot) is None


def test_nothing_is_claimed_into_a_slot_above_a_lowered_number(q: Contract) -> None:
    q.submit()
    q.submit()
    runner = q.runner()
    claimed = runner.work(slot=2)
    q.set_slots(1)
    assert runner.finish_and_claim(claimed, slot=2) is None
    assert [task.status for task in q.tasks()] == ["succeeded", "queued"]


def test_nothing_is_claimed_into_a_slot_whose_last_task_still_says_running(q: Contract) -> None:
    running, waiting = q.row("running", slot=1), q.submit()
    runner = q.runner()
    runner.take(1)
    assert runner.claim() is None
    assert (q.task(running).status, q.task(waiting).status) == ("running", "queued")


def test_every_claim_has_a_new_and_greater_lease(q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    leases = [(claimed := runner.work()).lease]
    runner.return_task(claimed)
    leases.append((claimed := runner.work()).lease)
    runner.fail(claimed, retry_after=0)
    leases.append((claimed := runner.work()).lease)
    runner.finish(claimed)
    q.submit()
    leases.append(runner.work().lease)
    assert leases == sorted(set(leases))
    assert q.task(number).lease == leases[2]


def test_every_claim_counts_as_an_attempt(q: Contract) -> None:
    q.submit(max_attempts=9)
    runner = q.runner()
    attempts = []
    for _ in range(3):
        claimed = runner.work()
        attempts.append((claimed.attempt, q.task(claimed.task).attempt))
        runner.fail(claimed, retry_after=0)
    assert attempts == [(1, 1), (2, 2), (3, 3)]


def test_a_claim_forgets_what_the_last_attempt_left(q: Contract) -> None:
    number = q.row("queued", error=BOOM, exec_time=3, progress={"done": 1}, attempt=1)
    q.runner().work()
    task = q.task(number)
    assert (task.error, task.exec_time, task.progress, task.attempt) == (None, None, None, 2)


def test_a_claim_commits_for_good_however_the_server_is_set(q: Contract) -> None:
    """In the body of the function, since a SET clause of a function is undone before the commit."""
    q.submit()
    runner = q.runner()
    runner.take(1)
    runner.conn.execute("set synchronous_commit = off")
    with runner.conn.transaction():
        runner.claim()
        assert runner.value("show synchronous_commit") == "on"


def test_a_rolled_back_claim_never_was(q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    runner.take(1)
    with runner.conn.transaction(force_rollback=True):
        assert runner.claim() is not None
    task = q.task(number)
    assert (task.status, task.slot, task.attempt) == ("queued", None, 0)


# promote -------------------------------------------------------------------------------------------------------------


def test_a_claim_promotes_what_has_come_due_and_leaves_the_rest(q: Contract) -> None:
    due, later = q.row("scheduled", run_at="2000-01-01"), q.row("scheduled")
    assert q.runner().work().task == due
    assert q.task(later).status == "scheduled"


def test_what_has_come_due_competes_by_priority(q: Contract) -> None:
    q.row("queued")
    important = q.row("scheduled", run_at="2000-01-01", priority=1)
    assert q.runner().work().task == important


def test_at_most_100_are_promoted_at_a_time_the_longest_due_first(q: Contract) -> None:
    q.db.query(
        "insert into lockgate.task (queue, kind, status, run_at, max_attempts, payload)"
        " select 'default', 'sleep', 'scheduled', now() - i * interval '1 second', 3, to_jsonb(i)"
        " from generate_series(1, 250) i"
    )
    assert q.db.value("select lockgate.promote('default')") == 100
    assert {task.payload for task in q.tasks("status = 'queued'")} == set(range(151, 251))
    assert [q.db.value("select lockgate.promote('default')") for _ in range(3)] == [100, 50, 0]


def test_promotion_leaves_other_queues_alone(q: Contract) -> None:
    q.queue("other")
    number = q.row("scheduled", queue="other", run_at="2000-01-01")
    assert q.db.value("select lockgate.promote('default')") == 0
    assert q.task(number).status == "scheduled"
