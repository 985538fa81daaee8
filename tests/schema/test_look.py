"""What runners look at on each poll: look, occupied, watch."""

from typing import Any

from tests.contract import Contract, until


def look(q: Contract, *queues: str) -> list[tuple[Any, ...]]:
    text = "select name, slots, paused, grace, due, next_due from lockgate.poll_queues(%s)"
    return q.runner().conn.execute(text, (list(queues) or None,)).fetchall()


def test_an_empty_queue_has_nothing_due(q: Contract) -> None:
    assert look(q) == [("default", 2, False, 5.0, False, None)]


def test_a_queued_task_is_due(q: Contract) -> None:
    q.submit()
    assert look(q) == [("default", 2, False, 5.0, True, None)]


def test_the_seconds_to_the_next_scheduled_task_are_told(q: Contract) -> None:
    q.submit(delay=100.0)
    q.submit(delay=50.0)
    [(*_, due, next_due)] = look(q)
    assert due is False
    assert 40 < next_due <= 50


def test_a_scheduled_task_whose_time_has_come_is_due(q: Contract) -> None:
    q.row("scheduled", run_at="2000-01-01")
    [(*_, due, next_due)] = look(q)
    assert due is True
    assert next_due < 0


def test_running_and_ended_tasks_are_not_due(q: Contract) -> None:
    for status in ("running", "succeeded", "failed", "cancelled"):
        q.row(status)
    assert [row[4] for row in look(q)] == [False]


def test_a_runner_sees_all_queues_or_the_ones_it_names(q: Contract) -> None:
    q.queue("a", slots=7, paused=True, grace=2)
    q.queue("b")
    assert [row[0] for row in look(q)] == ["default", "a", "b"]
    assert look(q, "a", "nowhere") == [("a", 7, True, 2.0, False, None)]


def occupied(q: Contract) -> list[tuple[Any, ...]]:
    text = (
        "select queue, slot, task, lease, runner, session, grace, cancel_requested, pid from lockgate.occupied_slots()"
    )
    return sorted(q.runner("observer").conn.execute(text).fetchall())


def test_a_running_task_and_the_lock_over_it_are_one_slot(q: Contract) -> None:
    q.queue(grace=3)
    q.submit()
    runner = q.runner()
    claimed = runner.work()
    default = q.queue_id()
    seen = (default, 1, claimed.task, claimed.lease, runner.name, runner.number, 3.0)
    assert occupied(q) == [(*seen, None, runner.pid)]
    q.cancel(claimed.task)
    assert occupied(q) == [(*seen, "graceful", runner.pid)]
    runner.die()
    assert occupied(q) == [(*seen, "graceful", None)]


def test_a_held_slot_without_a_task_has_the_grace_of_its_queue(q: Contract) -> None:
    q.queue("other", grace=9)
    runner = q.runner()
    runner.take(2, "other")
    assert occupied(q) == [(q.queue_id("other"), 2, None, None, None, None, 9.0, None, runner.pid)]


def test_the_grace_of_a_running_task_is_that_of_its_claim(q: Contract) -> None:
    q.submit()
    q.runner().work()
    q.queue(grace=60)
    assert [row[6] for row in occupied(q)] == [5.0]


def test_running_rows_are_seen_in_slots_above_a_lowered_number(q: Contract) -> None:
    q.submit()
    q.runner().work(slot=2)
    q.set_slots(1)
    assert [row[1] for row in occupied(q)] == [2]


def test_a_silent_holder_shows_in_the_time_of_its_last_statement(q: Contract) -> None:
    """Between sessions of one login: a ping moves state_change, and nothing else does."""
    holder, observer = q.runner(), q.runner()
    holder.take(1)
    text = "select backend_start, state_change from lockgate.slot_activity() where pid = %s"
    [(start, first)] = observer.conn.execute(text, (holder.pid,)).fetchall()
    assert observer.conn.execute(text, (holder.pid,)).fetchall() == [(start, first)]
    holder.value("select pg_backend_pid()")
    [(again, second)] = observer.conn.execute(text, (holder.pid,)).fetchall()
    assert again == start
    assert second > first


def test_a_runner_may_end_a_silent_holder_of_its_own_login(q: Contract) -> None:
    holder, observer = q.runner(), q.runner()
    holder.take(1)
    assert observer.value("select pg_terminate_backend(%s, 5000)", holder.pid) is True
    assert observer.take(1) == 1


def test_those_who_stand_by_are_the_living_runners_without_a_slot(q: Contract) -> None:
    holder, standby, gone = q.runner(), q.runner(), q.runner()
    holder.take(1)
    gone.deregister()
    assert holder.value("select lockgate.standing_by()") == 1
    holder.release(1)
    assert holder.value("select lockgate.standing_by()") == 2
    standby.conn.close()
    until(lambda: holder.value("select lockgate.standing_by()") == 1, "the server to see that a runner is gone")
