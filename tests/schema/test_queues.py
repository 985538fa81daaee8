"""Queues: create_queue, change_queue, set_slots, pause, resume and delete_queue."""

from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.contract import Contract, Threads, until


def create(q: Contract, name: str, **settings: Any) -> None:
    q.service.execute("select lockgate.create_queue(%s, %s)", (name, Jsonb(settings)))


def change(q: Contract, queue: str, **settings: Any) -> None:
    q.service.execute("select lockgate.change_queue(%s, %s)", (queue, Jsonb(settings)))


def delete(q: Contract, name: str, conn: psycopg.Connection[Any] | None = None) -> None:
    (conn or q.service).execute("select lockgate.delete_queue(%s)", (name,))


SETTINGS = {
    "slots": 7,
    "paused": True,
    "grace": 9.5,
    "max_attempts": 8,
    "timeout": 60.0,
    "backoff_base": 2.0,
    "backoff_max": 20.0,
    "retention": None,
    "depth_max": 5000,
    "kinds": ["a", "b"],
}


def settings(q: Contract, name: str) -> dict[str, Any]:
    [row] = q.db.query(f"select {', '.join(SETTINGS)} from lockgate.queue_detail where queue = %s", name)
    return dict(zip(SETTINGS, row, strict=True))


def test_a_queue_is_created_with_what_is_said_and_defaults_for_the_rest(q: Contract) -> None:
    create(q, "plain")
    assert settings(q, "plain") == settings(q, "default")
    create(q, "special", **SETTINGS)
    assert settings(q, "special") == SETTINGS


def test_a_queue_is_created_once(q: Contract) -> None:
    create(q, "gpu", slots=3)
    with q.breaks("a_queue_name_is_unique"):
        create(q, "gpu", slots=4)
    assert settings(q, "gpu")["slots"] == 3


@pytest.mark.parametrize("name", ["", "Upper", "with space", "n" * 64, "line\n"])
def test_a_queues_name_is_short_and_plain(q: Contract, name: str) -> None:
    with q.breaks("a_queue_name_is_short_and_plain"):
        create(q, name)


def test_a_queue_with_an_impossible_setting_is_not_created(q: Contract) -> None:
    with q.breaks("slots_are_0_to_1000"):
        create(q, "gpu", slots=-1)
    assert q.db.query("select name from lockgate.queue") == [("default",)]


def test_what_is_not_said_is_not_changed(q: Contract) -> None:
    create(q, "special", **SETTINGS)
    with q.heard() as said:
        change(q, "special", slots=1, timeout=None, kinds=None)
    assert settings(q, "special") == SETTINGS | {"slots": 1, "timeout": None, "kinds": None}
    assert said == ["slots special"]


@pytest.mark.parametrize("setting", ["slot", "name", "id", "create_time"])
def test_there_is_nothing_else_to_change(q: Contract, setting: str) -> None:
    with q.refused("22023"):
        change(q, "default", **{setting: 1})


def test_only_the_queue_that_is_named_changes(q: Contract) -> None:
    create(q, "other")
    q.set_slots(9, "other")
    assert (settings(q, "default")["slots"], settings(q, "other")["slots"]) == (2, 9)


@pytest.mark.parametrize("slots", [-1, 1001])
def test_an_impossible_number_of_slots_is_refused(q: Contract, slots: int) -> None:
    with q.heard() as said, q.breaks("slots_are_0_to_1000"):
        q.set_slots(slots)
    assert said == []


@pytest.mark.parametrize("call", ["set_slots('nowhere', 1)", "pause('nowhere')", "delete_queue('nowhere')"])
def test_an_unknown_queue_cannot_be_changed(q: Contract, call: str) -> None:
    with q.refused("LG001"):
        q.service.execute(f"select lockgate.{call}")


def test_runners_are_told_of_new_slots_and_of_the_end_of_a_pause(q: Contract) -> None:
    with q.heard() as said:
        q.set_slots(7)
        q.service.execute("select lockgate.pause('default')")
        assert settings(q, "default")["paused"] is True
        q.service.execute("select lockgate.resume('default')")
    assert settings(q, "default")["paused"] is False
    assert said == ["slots default"] * 3


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


# delete_queue --------------------------------------------------------------------------------------------------------


def test_an_empty_queue_is_deleted_and_its_number_not_used_again(q: Contract) -> None:
    create(q, "gpu")
    number = q.queue_id("gpu")
    delete(q, "gpu")
    with q.refused("LG001"):
        q.submit(queue="gpu")
    create(q, "gpu")
    assert q.queue_id("gpu") > number


@pytest.mark.parametrize("status", ["scheduled", "queued", "running", "succeeded", "failed", "cancelled"])
def test_a_queue_with_tasks_stays(q: Contract, status: str) -> None:
    q.row(status)
    with q.refused("LG009"):
        delete(q, "default")


def test_a_queue_whose_slots_somebody_holds_stays(q: Contract) -> None:
    runner = q.runner()
    runner.take(2)
    q.set_slots(1)
    with q.refused("LG009"):
        delete(q, "default")
    runner.release(2)
    delete(q, "default")


def test_while_a_queue_is_being_deleted_nobody_gets_a_slot_of_it(q: Contract) -> None:
    runner = q.runner()
    with q.service.transaction():
        delete(q, "default")
        assert (runner.take(), runner.take(1), runner.take(2)) == (None, None, None)


def test_whoever_held_a_slot_of_a_deleted_queue_claims_nothing(q: Contract) -> None:
    number = q.queue_id()
    delete(q, "default")
    runner = q.runner()
    assert runner.value("select lockgate.take_slot(%s)", number) is None
    assert runner.value("select lockgate.retake_slot(%s, 1)", number) is True
    assert runner.conn.execute("select from lockgate.claim(%s, 1, 'r', 1)", (number,)).fetchall() == []


def test_a_deletion_waits_for_a_submission_and_then_finds_the_queue_not_empty(q: Contract, threads: Threads) -> None:
    other = q.db.connect("service")
    with q.service.transaction():
        q.submit()
        deletion = threads.start(delete, q, "default", other)
        q.until_waiting(other)
    with q.refused("LG009"):
        deletion.result(timeout=10)


def test_a_submission_waits_for_a_deletion_and_then_finds_no_queue(q: Contract, threads: Threads) -> None:
    other = q.db.connect("service")
    with q.service.transaction():
        delete(q, "default")
        submission = threads.start(q.submit_by, other)
        q.until_waiting(other)
    with q.refused("LG001"):
        submission.result(timeout=10)
    assert q.tasks() == []


def test_a_deletion_gives_up_soon_where_somebody_stays_in_its_way(q: Contract, threads: Threads) -> None:
    """It holds up every claim that comes after it."""
    other = q.db.connect("service")
    with q.service.transaction():
        q.submit()
        deletion = threads.start(delete, q, "default", other)
        until(deletion.done, limit=5)
        with q.refused("55P03"):
            deletion.result()
