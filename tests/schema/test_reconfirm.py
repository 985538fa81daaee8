"""reconfirm: an owner that lost its session keeps its task."""

from tests.contract import Contract


def test_an_owner_that_took_its_slot_again_keeps_its_task(q: Contract) -> None:
    number = q.submit()
    owner = q.runner()
    claimed = owner.work()
    before = q.task(number)
    owner.reconnect()
    owner.take(1)
    assert owner.reconfirm() == claimed
    task = q.task(number)
    assert task.session == owner.number != before.session
    assert (task.lease, task.attempt, task.start_time) == (before.lease, before.attempt, before.start_time)
    assert owner.finish(claimed)


def test_a_reconfirmed_row_ends_every_adopters_wait(q: Contract) -> None:
    number = q.submit()
    owner = q.runner()
    owner.work()
    seen = q.task(number)
    owner.reconnect()
    owner.take(1)
    owner.reconfirm()
    owner.release(1)
    adopter = q.runner()
    adopter.take(1)
    assert adopter.adopt(seen) is None
    assert q.task(number).status == "running"


def test_reconfirming_needs_the_lock_of_the_slot(q: Contract) -> None:
    number = q.submit()
    owner = q.runner()
    owner.work()
    before = q.task(number)
    owner.reconnect()
    with q.refused("LG004"):
        owner.reconfirm()
    assert q.task(number) == before


def test_an_adopted_task_is_not_reconfirmed(q: Contract) -> None:
    number = q.submit()
    owner = q.runner()
    owner.work()
    seen = q.task(number)
    owner.reconnect()
    adopter = q.runner()
    adopter.take(1)
    adopter.adopt(seen)
    adopter.claim()
    adopter.die()
    owner.take(1)
    assert owner.reconfirm() is None
    assert q.task(number).runner == adopter.name


def test_what_a_lost_answer_gave_is_found(q: Contract) -> None:
    """The claim was committed, its answer never came: the row is in our slot, under a lease we never started."""
    first, second = q.submit(), q.submit()
    owner = q.runner()
    claimed = owner.work()
    lost = owner.finish_and_claim(claimed)
    owner.reconnect()
    owner.take(1)
    found = owner.reconfirm()
    assert found == lost
    assert found is not None
    assert (found.task, q.task(first).status) == (second, "succeeded")


def test_reconfirming_tells_of_a_cancel_that_was_missed(q: Contract) -> None:
    number = q.submit()
    owner = q.runner()
    owner.work()
    owner.reconnect()
    q.cancel(number, force=True)
    owner.take(1)
    found = owner.reconfirm()
    assert found is not None
    assert found.cancel_requested == "force"


def test_there_is_nothing_to_reconfirm_in_an_empty_slot(q: Contract) -> None:
    q.submit()
    owner = q.runner()
    owner.work(slot=2)
    owner.take(1)
    assert owner.reconfirm(slot=1) is None


def test_reconfirming_touches_no_other_slot_and_no_other_queue(q: Contract) -> None:
    q.queue("other")
    q.submit()
    q.submit(queue="other")
    owner = q.runner()
    owner.work()
    elsewhere = owner.work(queue="other")
    owner.reconnect()
    owner.take(1)
    owner.reconfirm()
    assert q.task(elsewhere.task).session != owner.number


def test_a_reconfirmation_is_on_disk_and_waits_for_no_standby_however_the_server_is_set(q: Contract) -> None:
    q.submit()
    owner = q.runner()
    owner.work()
    owner.conn.execute("set synchronous_commit = off")
    with owner.conn.transaction():
        owner.reconfirm()
        assert owner.value("show synchronous_commit") == "local"
