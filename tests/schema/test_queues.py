"""Queues: set_slots."""

import pytest

from tests.contract import Contract


def test_the_number_of_slots_changes_and_runners_are_told(q: Contract) -> None:
    with q.heard() as said:
        q.set_slots(7)
    assert q.db.value("select slots from lockgate.queue") == 7
    assert said == ["slots default"]


def test_only_the_queue_that_is_named_changes(q: Contract) -> None:
    q.queue("other")
    q.set_slots(9, "other")
    assert q.db.query("select name, slots from lockgate.queue order by id") == [("default", 2), ("other", 9)]


@pytest.mark.parametrize("slots", [-1, 1001])
def test_an_impossible_number_is_refused(q: Contract, slots: int) -> None:
    with q.heard() as said, q.breaks("slots_are_0_to_1000"):
        q.set_slots(slots)
    assert said == []


def test_the_slots_of_an_unknown_queue_cannot_be_set(q: Contract) -> None:
    with q.refused("LG001"):
        q.set_slots(1, "nowhere")


def test_lowering_the_number_ends_nothing(q: Contract) -> None:
    for _ in range(3):
        q.submit()
    first, second = q.runner(), q.runner()
    first.work(slot=1)
    claimed = second.work(slot=2)
    q.set_slots(1)
    assert [task.status for task in q.tasks()] == ["running", "running", "queued"]
    assert second.finish(claimed)
    assert second.claim(slot=2) is None
