"""Locks: a slot is a session-level advisory lock."""

from tests.contract import Contract


def test_slots_are_taken_from_the_lowest_number_up_and_no_more_than_there_are(q: Contract) -> None:
    q.queue(slots=3)
    runners = [q.runner() for _ in range(4)]
    assert [runner.take() for runner in runners] == [1, 2, 3, None]


def test_one_session_may_hold_several_slots_but_is_never_given_one_twice(q: Contract) -> None:
    runner = q.runner()
    assert [runner.take() for _ in range(3)] == [1, 2, None]


def test_a_dead_session_holds_nothing(q: Contract) -> None:
    q.queue(slots=1)
    first, second = q.runner(), q.runner()
    assert first.take() == 1
    assert second.take() is None
    first.die()
    assert second.take() == 1


def test_slots_of_different_queues_have_nothing_to_do_with_each_other(q: Contract) -> None:
    q.queue("other", slots=1)
    first, second = q.runner(), q.runner()
    assert first.take(1) == 1
    assert second.take(queue="other") == 1
    assert (first.holds(1, "other"), second.holds(1, "other")) == (False, True)


def test_a_slot_whose_task_still_says_running_is_left_to_its_owner(q: Contract) -> None:
    runner = q.runner()
    q.row("running", slot=1)
    assert runner.take() == 2
    assert runner.take() is None


def test_a_slot_whose_task_still_says_running_can_be_taken_by_number_for_adoption(q: Contract) -> None:
    q.row("running", slot=1)
    assert q.runner().take(1) == 1


def test_no_slot_of_a_paused_queue_is_taken(q: Contract) -> None:
    q.queue(paused=True)
    assert q.runner().take() is None


def test_a_queue_may_have_no_slots_at_all(q: Contract) -> None:
    q.set_slots(0)
    assert q.runner().take() is None


def test_a_raised_number_lets_a_standby_in_at_once(q: Contract) -> None:
    q.set_slots(1)
    owner, standby = q.runner(), q.runner()
    assert (owner.take(), standby.take()) == (1, None)
    q.set_slots(2)
    assert standby.take() == 2


def test_a_slot_above_a_lowered_number_stays_held_but_is_not_given_out_again(q: Contract) -> None:
    runner = q.runner()
    assert (runner.take(), runner.take()) == (1, 2)
    q.set_slots(1)
    assert runner.holds(2)
    assert runner.release(2)
    assert q.runner().take() is None


def test_retaking_a_slot_one_holds_does_not_lock_it_twice(q: Contract) -> None:
    """pg_try_advisory_lock says yes to the holder too, and then one unlock does not free the lock."""
    runner, rival = q.runner(), q.runner()
    assert [runner.take(1) for _ in range(3)] == [1, 1, 1]
    assert rival.take(1) is None
    assert runner.release(1)
    assert not runner.holds(1)
    assert rival.take(1) == 1


def test_a_slot_locked_twice_by_hand_is_still_held_after_one_release_and_says_so(q: Contract) -> None:
    runner = q.runner()
    runner.take(1)
    runner.value("select pg_try_advisory_lock(lockgate.lock_class(%s), 1)", q.queue_id())
    assert runner.release(1)
    assert runner.holds(1)


def test_releasing_a_slot_one_does_not_hold_says_so_without_a_warning(q: Contract) -> None:
    runner = q.runner()
    notices: list[str | None] = []
    runner.conn.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    assert not runner.release(1)
    assert notices == []


def test_only_the_holder_holds_a_slot(q: Contract) -> None:
    runner, rival = q.runner(), q.runner()
    runner.take(1)
    assert (runner.holds(1), runner.holds(2), rival.holds(1)) == (True, False, False)


def test_locks_of_another_kind_on_the_same_numbers_are_no_slots(q: Contract) -> None:
    """The one-number form has the same class and object in pg_locks, and differs only in objsubid."""
    runner = q.runner()
    runner.value("select pg_advisory_lock((lockgate.lock_class(%s)::bigint << 32) + 1)", q.queue_id())
    assert not runner.holds(1)
    assert runner.take() == 1
