"""Chores: purge and delete_expired."""

from typing import Any

from tests.contract import Contract

UNENDED = ("scheduled", "queued", "running")
ENDED = ("succeeded", "failed", "cancelled")


def old(q: Contract, status: str, days: float, **columns: Any) -> int:
    finish_time = q.db.value("select now() - %s * interval '1 day'", days)
    task = q.row(
        status, **({"finish_time": finish_time} if status in ENDED else {"create_time": finish_time}), **columns
    )
    q.db.query("insert into lockgate.attempt (task, attempt, lease, outcome) values (%s, 1, %s, 'failed')", task, task)
    q.db.query("insert into lockgate.output values (%s, 1, 'text')", task)
    return task


def left(q: Contract) -> set[int]:
    """The tasks there are; and what belongs to tasks is there for just those."""
    tasks = {task.id for task in q.tasks()}
    for table in ("attempt", "output"):
        assert {row[0] for row in q.db.query(f"select task from lockgate.{table}")} == tasks
    return tasks


def test_ended_tasks_are_removed_when_their_queue_keeps_them_no_longer(q: Contract) -> None:
    kept = {old(q, status, 6.9) for status in ENDED} | {old(q, status, 365) for status in UNENDED}
    for status in ENDED:
        old(q, status, 7.1)
    assert q.runner().value("select lockgate.delete_expired()") == 3
    assert left(q) == kept


def test_every_queue_keeps_its_tasks_as_long_as_it_says(q: Contract) -> None:
    q.queue("short", retention=0)
    q.queue("ever", retention=None)
    kept = {old(q, "succeeded", 1), old(q, "succeeded", 365, queue="ever")}
    old(q, "succeeded", 0.01, queue="short")
    assert q.runner().value("select lockgate.delete_expired()") == 1
    assert left(q) == kept


def test_tasks_are_removed_a_batch_at_a_time(q: Contract) -> None:
    q.queue("other")
    for queue in ("default", "other", "other"):
        old(q, "succeeded", 8, queue=queue)
    runner = q.runner()
    assert [runner.value("select lockgate.delete_expired(2)") for _ in range(3)] == [2, 1, 0]


def test_one_session_does_the_chores_until_it_ends(q: Contract) -> None:
    first, second = q.runner(), q.runner()
    assert first.value("select lockgate.delete_expired()") == 0
    assert second.value("select lockgate.delete_expired()") is None
    assert first.value("select lockgate.delete_expired()") == 0
    locks = "select count(*) from pg_locks where locktype = 'advisory' and objid = 0 and pid = %s"
    assert q.db.value(locks, first.pid) == 1
    first.die()
    assert second.value("select lockgate.delete_expired()") == 0


def test_purge_empties_a_queue_of_what_has_ended_whatever_its_age(q: Contract) -> None:
    q.queue("other")
    kept = {old(q, status, 1) for status in UNENDED} | {old(q, "succeeded", 1, queue="other")}
    for status in ENDED:
        old(q, status, 0)
    said = [q.service.execute("select lockgate.purge('default', 2)").fetchone() for _ in range(3)]
    assert said == [(2,), (1,), (0,)]
    assert left(q) == kept


def test_a_batch_passes_by_what_somebody_is_at(q: Contract) -> None:
    number = old(q, "failed", 8)
    old(q, "failed", 9)
    with q.service.transaction():
        q.service.execute("select lockgate.retry(%s)", (number,))
        assert q.runner().value("select lockgate.delete_expired()") == 1
    assert q.task(number).status == "queued"
