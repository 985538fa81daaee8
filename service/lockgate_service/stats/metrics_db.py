"""Every SQL text that metrics need beside the numbers, a function each."""

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from lockgate_service.pool import Pool

Histogram = Sequence[int]
"""How many lie in each bucket: see lockgate.histogram."""


class Total(Struct):
    """All that has ever been counted in a queue."""

    queue: str
    succeeded: int
    failed: int
    cancelled: int
    wait_sum: float
    wait_histogram: Histogram | None
    run_sum: float
    run_histogram: Histogram | None


async def totals(pool: Pool) -> list[Total]:
    """By queue."""
    rows = await pool.rows(
        """
        select queue, succeeded, failed, cancelled, wait_sum, wait_histogram, run_sum, run_histogram
        from lockgate.total_detail order by queue
        """
    )
    return [Total(*row) for row in rows]


async def slots(pool: Pool) -> Counter[tuple[str, str]]:
    """How many slots there are, by queue and status."""
    text = "select queue, status, count(*) from lockgate.slot_detail group by queue, status"
    return Counter({(queue, status): number for queue, status, number in await pool.rows(text)})
