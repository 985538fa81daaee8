"""What a claim touches does not grow with what waits."""

from typing import Any

import pytest

from tests.contract import Contract, Session


def pages(q: Contract, runner: Session) -> int:
    """Pages that a working runner's claim touches, finishing the task before it: the least of several, plans warm."""

    def one() -> int:
        ((task, lease),) = q.db.query("select id, lease from task where status = 'running'")
        row: Any = runner.conn.execute(
            "explain (analyze, buffers, format json)"
            " select * from lockgate.finish_and_claim(%s, %s, %s, 0, 'null', %s, 1, %s)",
            (task, lease, runner.name, q.queue_id("default"), runner.number),
        ).fetchone()
        top = row[0][0]["Plan"]
        return int(top["Shared Hit Blocks"] + top["Shared Read Blocks"])

    for _ in range(8):  # plpgsql settles on its plans after five calls
        one()
    return min(one() for _ in range(5))


@pytest.mark.timeout(300)
def test_beside_a_million_scheduled_a_claim_from_ten_thousand_queued_costs_no_more_than_from_ten(q: Contract) -> None:
    insert = (
        "insert into lockgate.task (queue, kind, status, run_at, finish_time, max_attempts, payload)"
        " select 'default', 'mail', %s, now() + %s * interval '1 hour', %s::timestamptz, 3, '{}'"
        " from generate_series(1, %s)"
    )
    q.db.query(insert, "scheduled", 1, None, 1_000_000)
    q.db.query(insert, "queued", 0, None, 24)
    # So that those ten too lie in full pages, and a new version of a row goes elsewhere.
    q.db.query(insert, "cancelled", 0, "now", 10_000)
    q.db.query("analyze lockgate.task")
    runner = q.runner()
    runner.work()
    few = pages(q, runner)
    assert q.db.value("select count(*) from task where status = 'queued'") == 10
    q.db.query(insert, "queued", 0, None, 10_000)
    q.db.query("analyze lockgate.task")
    many = pages(q, runner)
    assert many <= 1.1 * few, f"{many} pages against {few}"

    plan = q.db.query(
        "explain select id from lockgate.task where queue = 'default' and status = 'queued'"
        " order by priority desc, id limit 1 for update skip locked"
    )
    assert any("task_claim" in line for (line,) in plan)
