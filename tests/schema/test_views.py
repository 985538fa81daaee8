"""Views, as the roles that read them see them."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from tests.contract import BOOM, Contract, until
from tests.database import Role

READERS: tuple[Role, ...] = ("service", "viewer")
EVERYBODY: tuple[Role, ...] = ("service", "runner", "viewer")


def read(q: Contract, text: str, role: Role = "viewer") -> list[tuple[Any, ...]]:
    return q.db.connect(role).execute(text).fetchall()


def test_task_detail_shows_a_task_and_not_its_machinery(q: Contract) -> None:
    number = q.row("failed", error=BOOM, tags=["a"], metadata={"m": 1}, priority=3)
    for role in READERS:
        text = "select id, status, error, tags, metadata, priority from task_detail"
        assert read(q, text, role) == [(number, "failed", BOOM, ["a"], {"m": 1}, 3)]
    columns = {
        row[0]
        for row in q.db.query("select column_name from information_schema.columns where table_name = 'task_detail'")
    }
    assert columns.isdisjoint({"session", "grace", "idempotency_scope", "request_digest"})


def test_queue_overview_counts_what_runs_and_waits(q: Contract) -> None:
    q.queue("empty", slots=5, paused=True)
    for status, times in {"queued": 3, "scheduled": 2, "succeeded": 1, "failed": 1, "cancelled": 1}.items():
        for _ in range(times):
            q.row(status)
    q.row("running", slot=1)
    expected = [("default", 2, False, 1, "3", "2"), ("empty", 5, True, 0, "0", "0")]
    for role in READERS:
        text = "select queue, slots, paused, running, queued, scheduled from queue_overview"
        assert read(q, text, role) == expected


def test_queue_overview_counts_to_ten_thousand(q: Contract) -> None:
    q.db.query(
        "insert into lockgate.task (queue, kind, status, max_attempts, payload)"
        " select 'default', 'sleep', 'queued', 1, '{}' from generate_series(1, 10000)"
    )
    assert read(q, "select queued from queue_overview") == [("10000",)]
    q.submit()
    assert read(q, "select queued from queue_overview") == [("10000+",)]


def test_queue_overview_says_how_long_the_oldest_has_been_due(q: Contract) -> None:
    assert read(q, "select oldest_wait from queue_overview") == [(None,)]
    q.row("queued")
    q.row("queued", run_at=q.now() - timedelta(seconds=100))
    [(wait,)] = read(q, "select oldest_wait from queue_overview")
    assert 100 <= wait < 110


def test_task_recent_shows_the_newest_first_and_no_more_than_fit_on_a_screen(q: Contract) -> None:
    numbers = [q.row("queued") for _ in range(41)]
    rows = read(q, "select id from task_recent")
    assert [row[0] for row in rows] == numbers[:0:-1]
    number = q.row("failed", attempt=3, exec_time=1.234, error={"type": "Boom", "message": "m" * 100})
    text = "select id, attempt, seconds, error from task_recent limit 1"
    assert read(q, text) == [(number, "3/3", Decimal("1.23"), "Boom: " + "m" * 54)]


def test_failures_are_counted_by_what_went_wrong(q: Contract) -> None:
    for message in ("disk full\nat line 1", "disk full\nat line 2", "no route"):
        latest = q.row("failed", error={"type": "OSError", "message": message})
    q.row("succeeded")
    rows = read(q, "select queue, kind, failure, tasks, latest_task from failures order by tasks", "service")
    assert rows == [
        ("default", "sleep", "OSError: no route", 1, latest),
        ("default", "sleep", "OSError: disk full", 2, latest - 1),
    ]


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ({"type": "Boom3", "message": "task 17 took 3.25 s"}, "Boom3: task # took #.# s"),
        ({"type": "Boom", "message": "550e8400-e29b-41d4-a716-446655440000 at 0xdeadbeef"}, "Boom: #-#-#-#-# at #"),
        ({"type": "Boom", "message": " \r\n first\nsecond"}, "Boom: first"),
        ({"type": "Boom", "message": "größe_1 fehlt"}, "Boom: größ# fehlt"),
        ({"type": "T" * 500, "message": "m" * 5000}, "T" * 100 + ": " + "m" * 200),
        ({"type": "Boom", "message": ""}, "Boom: "),
        ({"message": "no type"}, "no type"),
        ({"message": {"a": 1}}, '{"a": #}'),
        ({}, ""),
        ("only text", ""),
        (None, ""),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_failure_is_told_by_all_of_its_error_but_numbers(q: Contract, error: Any, failure: str) -> None:
    for role in READERS:
        conn = q.db.connect(role)
        assert conn.execute("select lockgate.failure(%s)", (Jsonb(error),)).fetchone() == (failure,)


def test_the_attempts_and_their_output_can_be_read(q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    claimed = runner.work()
    runner.value("select lockgate.write_output(%s, %s, 'text')", number, claimed.lease)
    runner.fail(claimed)
    for role in READERS:
        assert read(q, "select task, attempt, outcome from attempt_detail", role) == [(number, 1, "failed")]
        assert read(q, "select task, lease, text from output_detail", role) == [(number, claimed.lease, "text")]


def test_slot_overview_shows_every_slot_its_holder_and_its_task(q: Contract) -> None:
    q.queue(slots=3)
    number = q.submit("mail")
    busy, idle = q.runner("busy"), q.runner("idle")
    busy.work(slot=1)
    idle.take(2)
    text = "select queue, slot, runner, backend_pid, task, kind, seconds >= 0 from slot_overview"
    assert read(q, text) == [
        ("default", 1, "busy", busy.pid, number, "mail", True),
        ("default", 2, "idle", idle.pid, None, None, None),
        ("default", 3, None, None, None, None, None),
    ]


def test_slot_overview_shows_what_still_runs_above_a_lowered_number(q: Contract) -> None:
    q.submit()
    q.runner().work(slot=2)
    q.set_slots(0)
    assert read(q, "select slot, task is not null from slot_overview") == [(2, True)]


def test_slot_overview_shows_what_is_still_held_above_a_lowered_number(q: Contract) -> None:
    runner = q.runner()
    assert runner.take(2) == 2

    q.set_slots(0)
    held = read(q, "select slot, backend_pid, task from slot_overview")
    runner.release(2)

    assert held == [(2, runner.pid, None)]
    assert read(q, "select slot from slot_overview") == []


def test_slot_overview_shows_an_orphan_without_a_holder(q: Contract) -> None:
    number = q.submit()
    owner = q.runner("gone")
    owner.work()
    owner.die()
    assert read(q, "select runner, backend_pid, task from slot_overview where slot = 1") == [("gone", None, number)]


def test_slot_detail_says_what_is_the_matter_with_each_slot(q: Contract) -> None:
    q.queue(slots=5, grace=1)
    for _ in range(2):
        q.submit()
    busy, gone, idle, frozen = q.runner(), q.runner(), q.runner(), q.runner()
    frozen.take(4)
    gone.work(2)
    gone.die()
    busy.work(1)
    idle.take(3)
    expected = ["running", "abandoned", "held", "silent", "free"]

    def status() -> bool:
        for living in (busy, idle):
            living.value("select 1")
        return [row[0] for row in q.db.query("select status from lockgate.slot_detail order by slot")] == expected

    until(status, "a grace to be over")


def test_runner_overview_says_who_lives_and_how_much_each_runs(q: Contract) -> None:
    q.submit()
    busy, idle, gone = q.runner("busy"), q.runner("idle"), q.runner("gone")
    busy.work()
    gone.die()
    for role in READERS:
        text = "select session, runner, backend_pid, alive, running from runner_overview"
        assert read(q, text, role) == [
            (busy.number, "busy", busy.pid, True, 1),
            (idle.number, "idle", idle.pid, True, 0),
            (gone.number, "gone", gone.pid, False, 0),
        ]


def test_locks_of_another_database_are_not_ours(q: Contract) -> None:
    """Advisory locks are per database, and pg_locks shows those of all."""
    runner = q.runner()
    runner.die()
    with q.db.elsewhere() as stranger:
        stranger.execute("select pg_advisory_lock(1279721472, %s)", (runner.number,))
        stranger.execute("select pg_advisory_lock(1279721472 + %s, 1)", (q.queue_id(),))
        assert read(q, "select alive from runner_overview") == [(False,)]
        assert read(q, "select backend_pid from slot_overview where slot = 1") == [(None,)]
        assert q.runner().take() == 1


def test_the_schema_says_its_version(q: Contract) -> None:
    version = q.db.value("select version from lockgate.release")
    for role in EVERYBODY:
        assert read(q, "select schema_version()", role) == [(version,)]
