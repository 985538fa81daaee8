"""Chores, as a runner process does them beside its work."""

from datetime import timedelta

from tests.contract import Contract, until
from tests.runner.conftest import Start


def test_a_runner_counts_what_has_ended_and_removes_what_is_kept_no_longer(q: Contract, start: Start) -> None:
    kept = q.row("succeeded", finish_time=q.now() - timedelta(minutes=5))
    q.queue("short", retention=0)
    q.row("failed", queue="short", finish_time=q.now() - timedelta(minutes=5))

    start()

    totals = "select queue, succeeded, failed from lockgate.stats_total order by queue"
    until(lambda: q.db.query(totals) == [("default", 1, 0), ("short", 0, 1)], "both to be counted")
    until(lambda: [task.id for task in q.tasks()] == [kept], "the old one to be gone")
