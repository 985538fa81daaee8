"""Every SQL text the service sends, a function each."""

# ruff: noqa: S608  (put together from constants of this file)

from collections.abc import Iterable, Sequence

from service.messages import SeedTask, Status, Task, TaskSummary
from service.pool import Pool

READY_LIMIT = 1.0  # seconds
TASK_ID_MAX = 2**63 - 1


def _utc(column: str) -> str:
    return f"""to_char({column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


# In the order of the fields of TaskSummary and Task.
SUMMARY = f"""id, queue, kind, status, priority, {_utc("create_time")}, {_utc("run_at")}, {_utc("start_time")},
  {_utc("finish_time")}, exec_time, attempt, max_attempts, timeout, slot, lease, runner, cancel_requested, error,
  progress, tags, metadata, idempotency_key, dedupe_key"""
WHOLE = f"{SUMMARY}, payload, result"


async def submit(pool: Pool, tasks: Sequence[bytes], scope: str = "") -> list[tuple[int, int | None, str]]:
    """Stores tasks, each a JSON object; (item from 1, task, submit_outcome) for each. Committed when it returns."""
    text = "select item, task, outcome from lockgate.submit_batch(%s::jsonb, %s)"
    rows = await pool.rows(text, (f"[{b','.join(tasks).decode()}]", scope), repeatable=False)
    return [(item, task, outcome) for item, task, outcome in rows]


async def tasks_by_id(pool: Pool, ids: Iterable[int]) -> dict[int, Task]:
    rows = await pool.rows(f"select {WHOLE} from lockgate.task_detail where id = any (%s)", (list(ids),))
    return {row[0]: Task(*row) for row in rows}


async def task(pool: Pool, task_id: int) -> Task | None:
    """None if there is no such task."""
    if abs(task_id) > TASK_ID_MAX:
        return None
    return (await tasks_by_id(pool, [task_id])).get(task_id)


async def seed_task(pool: Pool, task_id: int) -> SeedTask | None:
    """None if there is no such task."""
    if abs(task_id) > TASK_ID_MAX:
        return None
    rows = await pool.rows(
        f"""
        select case status when 'running' then 'Run' when 'succeeded' then 'Completed' when 'failed' then 'Error'
                           when 'cancelled' then 'Cancelled' else 'In Queue' end,
          {_utc("create_time")}, {_utc("start_time")}, case when finish_time is not null then exec_time end
        from lockgate.task_detail where id = %s
        """,
        (task_id,),
    )
    return SeedTask(*rows[0]) if rows else None


async def tasks(
    pool: Pool, status: Status | None, queue: str | None, kind: str | None, below: int | None, limit: int
) -> list[TaskSummary]:
    """Newest first; those with an id below that one."""
    rows = await pool.rows(
        f"""
        select {SUMMARY} from lockgate.task_detail
        where (%(status)s::lockgate.status is null or status = %(status)s::lockgate.status)
          and (%(queue)s::text is null or queue = %(queue)s)
          and (%(kind)s::text is null or kind = %(kind)s)
          and (%(below)s::bigint is null or id < %(below)s)
        order by id desc
        limit %(limit)s
        """,
        {"status": status, "queue": queue, "kind": kind, "below": below, "limit": limit},
    )
    return [TaskSummary(*row) for row in rows]


async def cancel(pool: Pool, task_id: int, *, force: bool) -> Status | None:
    """The status now; running means it was asked. None or psycopg.Error LG006 if there is no such task."""
    if abs(task_id) > TASK_ID_MAX:
        return None
    status: Status = (await pool.rows("select lockgate.cancel(%s::bigint, %s)", (task_id, force)))[0][0]
    return status


async def wake(pool: Pool, queues: Iterable[str]) -> None:
    await pool.rows("select lockgate.wake(queue) from unnest(%s::text[]) queue", (list(queues),))


async def schema_version(pool: Pool) -> int:
    version: int = (await pool.rows("select lockgate.schema_version()", limit=READY_LIMIT))[0][0]
    return version
