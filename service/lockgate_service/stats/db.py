"""Every SQL text about numbers that the service sends, a function each."""

# ruff: noqa: S608  (put together from constants of this file)

from lockgate_service.pool import Pool
from lockgate_service.stats.messages import Durations, Ended, Hour, Point, QueueNow
from lockgate_service.tasks.db import utc

HOUR = 3600


async def queues(pool: Pool) -> tuple[str, list[QueueNow]]:
    """The time by the database's clock, and the queues by name."""
    rows = await pool.rows(
        f"""
        select {utc("clock_timestamp()")}, slots, running, held, queued, scheduled, {utc("oldest")},
          greatest(0, extract(epoch from clock_timestamp() - oldest))::float8, queue, paused, grace, runners, standbys
        from (select) one left join lockgate.queue_stats on true order by queue
        """
    )
    return rows[0][0], [QueueNow(*row) for _, *row in rows if row[7] is not None]


async def hour(pool: Pool) -> dict[str | None, Hour]:
    """By queue; of all queues under None. Not there: a queue that is new."""
    text = f"select * from lockgate.ended_since(now() - {HOUR} * interval '1 second')"
    return {
        queue: Hour(
            Ended(succeeded, failed, cancelled), Durations(wait_median, wait_p95), Durations(run_median, run_p95)
        )
        for queue, succeeded, failed, cancelled, wait_median, wait_p95, run_median, run_p95 in await pool.rows(text)
    }


async def series(pool: Pool, window: int, step: int, queue: str | None = None) -> list[Point]:
    """The steps that make up the window, in seconds, the last one not over yet; of one queue or all."""
    rows = await pool.rows(
        f"""
        select {utc("time")}, succeeded, failed, cancelled, queued, scheduled, running, wait_mean, run_mean
        from (select date_bin(%(step)s * interval '1 second', now(), 'epoch') + %(step)s * interval '1 second') e (ends)
        cross join lateral lockgate.series(e.ends - %(window)s * interval '1 second', e.ends, %(step)s, %(queue)s)
        order by time
        """,
        {"step": step, "window": window, "queue": queue},
    )
    return [Point(*row) for row in rows]
