"""What a claim touches grows neither with what waits nor with what has been claimed before it."""

import statistics
from typing import Any

import pytest

from tests.contract import Contract, Session

INSERT = (
    "insert into lockgate.task (queue, kind, status, priority, run_at, max_attempts, payload)"
    " select 'default', 'mail', %s, g %% %s, now() + %s * interval '1 hour', 3, '{}' from generate_series(1, %s) g"
)
STEP = "select * from lockgate.finish_and_claim(%s, %s, %s, 0.1, null, %s, 1, %s)"


def pages(runner: Session, steps: int = 30) -> float:
    """Pages that a finish and the next claim touch together: the median over some of them."""
    touched = []
    for _ in range(steps):
        task, lease = runner.q.db.query("select id, lease from lockgate.running()")[0]
        arguments = (task, lease, runner.name, runner.q.queue_id(), runner.number)
        row: Any = runner.conn.execute(f"explain (analyze, buffers, format json) {STEP}", arguments).fetchone()
        plan = row[0][0]["Plan"]
        touched.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
    return float(statistics.median(touched))


def churn(runner: Session, steps: int) -> None:
    claimed = runner.q.db.query("select id, lease from lockgate.running()")[0]
    for _ in range(steps):
        row = runner.conn.execute(
            STEP, (*claimed[:2], runner.name, runner.q.queue_id(), runner.number), prepare=True
        ).fetchone()
        assert row
        claimed = row


@pytest.mark.timeout(300)
def test_beside_a_million_scheduled_a_claim_from_twenty_thousand_queued_costs_no_more_than_from_a_thousand(
    q: Contract,
) -> None:
    # It would come along between the two measurements, and make a map of free space that costs pages of its own.
    q.db.query("alter table lockgate.task set (autovacuum_enabled = false)")
    q.db.query(INSERT, "scheduled", 1, 1, 1_000_000)
    q.db.query(INSERT, "queued", 1, 0, 1_000)
    q.db.query("analyze lockgate.task")
    runner = q.runner()
    runner.work()
    pages(runner, 10)
    few = pages(runner)
    q.db.query(INSERT, "queued", 1, 0, 20_000)
    q.db.query("analyze lockgate.task")
    pages(runner, 10)
    many = pages(runner)
    assert many <= 1.1 * few, f"{many} pages against {few}"


@pytest.mark.parametrize("priorities", [1, 3], ids=["one priority", "three priorities"])
def test_what_was_claimed_before_costs_nothing_while_an_old_transaction_is_open(q: Contract, priorities: int) -> None:
    q.db.query("alter table lockgate.task set (autovacuum_enabled = false)")
    q.db.query(INSERT, "queued", priorities, 0, 3000)
    q.db.query("analyze lockgate.task")
    runner = q.runner()
    runner.work()
    reader = q.db.connect("viewer")
    with reader.transaction():
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select from lockgate.queue")
        pages(runner, 10)
        before = pages(runner)
        churn(runner, 1000)
        # As it is between two looks from the very beginning, however slow this machine is.
        runner.conn.execute(f"set lockgate.short_until_{q.queue_id()} = 'infinity'")
        after = pages(runner)
    assert after <= 1.3 * before, f"{after} pages against {before}"
