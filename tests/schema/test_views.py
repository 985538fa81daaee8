"""Views, as the roles that read them see them."""

from typing import Any

from tests.contract import BOOM, Contract
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


def test_slot_overview_shows_every_slot_its_holder_and_its_task(q: Contract) -> None:
    q.queue(slots=3)
    number = q.submit("mail")
    busy, idle = q.runner("busy"), q.runner("idle")
    busy.work(slot=1)
    idle.take(2)
    text = "select queue, slot, runner, backend_pid, task, kind, seconds >= 0 from slot_overview"
    assert read(q, text) == [
        ("default", 1, "busy", busy.pid, number, "mail", True),
        ("default", 2, None, idle.pid, None, None, None),
        ("default", 3, None, None, None, None, None),
    ]


def test_slot_overview_shows_what_still_runs_above_a_lowered_number(q: Contract) -> None:
    q.submit()
    q.runner().work(slot=2)
    q.set_slots(0)
    assert read(q, "select slot, task is not null from slot_overview") == [(2, True)]


def test_slot_overview_shows_an_orphan_without_a_holder(q: Contract) -> None:
    number = q.submit()
    owner = q.runner("gone")
    owner.work()
    owner.die()
    assert read(q, "select runner, backend_pid, task from slot_overview where slot = 1") == [("gone", None, number)]


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
