"""What a claim touches does not grow with what waits."""

from typing import Any

import pytest

from tests.contract import Contract

# The statement at the heart of lockgate.claim.
CLAIM = """
  explain (analyze, buffers, format json)
  with next as materialized (
    select id from lockgate.task
    where queue = 'default' and status = 'queued'
    order by priority desc, id limit 1 for update skip locked
  )
  update lockgate.task t
  set status = 'running', slot = 1, lease = 1, runner = 'r', session = 1, grace = 5, attempt = t.attempt + 1,
    start_time = now()
  from next where t.id = next.id
"""


def nodes(plan: Any) -> list[Any]:
    return [plan, *(below for child in plan.get("Plans", []) for below in nodes(child))]


def claim(q: Contract) -> tuple[int, set[str]]:
    """Pages that a claim touches, and the indexes it uses. Rolled back, so that it leaves nothing to crawl over."""
    conn = q.db.connect("owner")
    with conn.transaction(force_rollback=True):
        row: Any = conn.execute(CLAIM).fetchone()
    top = row[0][0]["Plan"]
    return top["Shared Hit Blocks"] + top["Shared Read Blocks"], {n.get("Index Name") for n in nodes(top)} - {None}


@pytest.mark.timeout(300)
def test_beside_a_million_scheduled_a_claim_from_ten_thousand_queued_costs_no_more_than_from_ten(q: Contract) -> None:
    insert = (
        "insert into lockgate.task (queue, kind, status, run_at, max_attempts, payload)"
        " select 'default', 'mail', %s, now() + %s * interval '1 hour', 3, '{}' from generate_series(1, %s)"
    )
    # It would come along between the two measurements, and make a map of free space that costs pages of its own.
    q.db.query("alter table lockgate.task set (autovacuum_enabled = false)")
    q.db.query(insert, "scheduled", 1, 1_000_000)
    q.db.query(insert, "queued", 0, 10)
    q.db.query("analyze lockgate.task")
    claim(q)
    few, indexes = claim(q)
    assert indexes == {"task_claim", "task_pkey"}
    q.db.query(insert, "queued", 0, 10_000)
    q.db.query("analyze lockgate.task")
    claim(q)
    many, indexes = claim(q)
    assert indexes == {"task_claim", "task_pkey"}
    assert many <= 1.1 * few, f"{many} pages against {few}"
