"""The SQL about statistics that the service sends, one function each."""

# ruff: noqa: S608  (put together from constants of this file)

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from lockgate_service.pool import Pool, columns, utc
from lockgate_service.stats.messages import Durations, Ended, Hour, Point, QueueNow

HOUR = 3600  # seconds

Histogram = Sequence[int]
"""Counts by bucket, as lockgate.histogram has them."""


class Total(Struct):
    """All tasks ever counted in a queue."""

    queue: str
    succeeded: int
    failed: int
    cancelled: int
    wait_sum: float
    wait_histogram: Histogram | None
    run_sum: float
    run_histogram: Histogram | None


QUEUE_NOW = columns(
    QueueNow,
    name="queue",
    due_since="oldest",
    oldest_wait="greatest(0, extract(epoch from clock_timestamp() - oldest))::float8",
)


async def queues(pool: Pool) -> tuple[str, list[QueueNow]]:
    """The time by the clock of Postgres, and the queues by name."""
    rows = await pool.rows(
        f"""
        select {utc("clock_timestamp()")}, queue is not null, {QUEUE_NOW}
        from (select) one left join lockgate.queue_stats on true order by queue
        """
    )
    return rows[0][0], [QueueNow(*row) for _, is_queue, *row in rows if is_queue]


async def hour(pool: Pool) -> dict[str | None, Hour]:
    """By queue, and None for all queues; without new queues."""
    text = f"select * from lockgate.ended_since(now() - {HOUR} * interval '1 second')"
    return {
        queue: Hour(
            Ended(succeeded, failed, cancelled), Durations(wait_median, wait_p95), Durations(run_median, run_p95)
        )
        for queue, succeeded, failed, cancelled, wait_median, wait_p95, run_median, run_p95 in await pool.rows(text)
    }


async def series(pool: Pool, window: int, step: int, queue: str | None = None) -> list[Point]:
    """The steps of a window, both in seconds, the last one still going on; of one queue or all."""
    rows = await pool.rows(
        f"""
        select {columns(Point)}
        from (select date_bin(%(step)s * interval '1 second', now(), 'epoch') + %(step)s * interval '1 second') e (ends)
        cross join lateral lockgate.series(e.ends - %(window)s * interval '1 second', e.ends, %(step)s, %(queue)s)
        order by time
        """,
        {"step": step, "window": window, "queue": queue},
    )
    return [Point(*row) for row in rows]


async def totals(pool: Pool) -> list[Total]:
    """By queue."""
    return [
        Total(*row)
        for row in await pool.rows(f"select {columns(Total)} from lockgate.stats_total_detail order by queue")
    ]


async def slots(pool: Pool) -> Counter[tuple[str, str]]:
    """Number of slots by queue and status."""
    text = "select queue, status, count(*) from lockgate.slot_detail group by queue, status"
    return Counter({(queue, status): number for queue, status, number in await pool.rows(text)})
