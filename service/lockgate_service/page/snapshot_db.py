"""Every SQL text that those who watch need beside the numbers, a function each."""

# ruff: noqa: S608  (put together from constants of this file)

from collections.abc import Collection

from lockgate_service.page.snapshot import RunnerGlance, SlotGlance, TaskGlance
from lockgate_service.pool import Pool
from lockgate_service.rows import utc
from lockgate_service.tasks.db import GLANCE, small

SLOTS_MAX = 2000
RUNNERS_MAX = 1000
# Tasks that are looked at each time: the newest, those that execute, those that ended in the last seconds.
NEWEST = 50
RUNNING_MAX = 200
ENDED_MAX = 200
ENDED_SECONDS = 10


async def slots(pool: Pool) -> list[SlotGlance]:
    """By queue and number."""
    rows = await pool.rows(
        f"""
        select queue, slot, status, runner, backend_pid, task, kind, attempt, {utc("start_time")}, cancel_requested,
          {small("progress")}
        from lockgate.slot_detail order by queue, slot limit {SLOTS_MAX}
        """
    )
    return [SlotGlance(*row) for row in rows]


async def runners(pool: Pool) -> list[RunnerGlance]:
    """Those alive, newest first."""
    rows = await pool.rows(
        f"""
        select session, runner, host, pid, version, concurrency, queues, {utc("since")}, running, draining
        from lockgate.runner_overview where alive order by session desc limit {RUNNERS_MAX}
        """
    )
    return [RunnerGlance(*row) for row in rows]


async def lively_tasks(pool: Pool, others: Collection[int]) -> list[TaskGlance]:
    """The tasks that most probably have just changed, and those others that there are; newest first."""
    rows = await pool.rows(
        f"""
        with lively (id) as (
          (select id from lockgate.task_detail order by id desc limit {NEWEST})
          union (select id from lockgate.running() limit {RUNNING_MAX})
          union (
            select e.id from lockgate.queue_detail q cross join lateral (
              select t.id, t.finish_time from lockgate.task_detail t
              where t.queue = q.queue and t.status in ('succeeded', 'failed', 'cancelled')
                and t.finish_time > now() - {ENDED_SECONDS} * interval '1 second'
              order by t.finish_time desc limit {ENDED_MAX}) e
            order by e.finish_time desc limit {ENDED_MAX})
          union select unnest(%s::bigint[])
        )
        select {GLANCE}
        from lively join lockgate.task_detail using (id) order by id desc
        """,
        (list(others),),
    )
    return [TaskGlance(*row) for row in rows]
