"""What is counted and measured, at this moment and over time."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from msgspec import structs

from lockgate_service.auth.caller import Caller
from lockgate_service.http.params import DURATION, seconds
from lockgate_service.http.problems import invalid
from lockgate_service.openapi.docs import problems
from lockgate_service.pool import Pool
from lockgate_service.single_flight import Shared, SharedByKey
from lockgate_service.stats import db
from lockgate_service.stats.messages import AllStats, Durations, Ended, Hour, Point, QueueNow, QueueStats, Series, Stats

NOW_SECONDS = 0.25  # old, at most
HOUR_SECONDS = 2.0
SERIES_SECONDS = 5.0, 60.0  # and in between, a sixtieth of a step
WINDOW_MAX = 7 * 86400
POINTS_MAX = 1500

Asked = tuple[int, int, str | None]
"""Window and step in seconds, and a queue or all."""


class Numbers:
    """The numbers that everybody sees, read once for all of them."""

    def __init__(self, pool: Pool) -> None:
        self._now = Shared(partial(db.queues, pool), NOW_SECONDS)
        self._hour = Shared(partial(db.hour, pool), HOUR_SECONDS)
        self._series: SharedByKey[Asked, list[Point]] = SharedByKey(
            lambda asked: db.series(pool, *asked),
            lambda asked: min(max(SERIES_SECONDS[0], asked[1] / 60), SERIES_SECONDS[1]),
        )

    async def stats(self) -> Stats:
        """Of all queues. Raises psycopg.Error and Refusal (503)."""
        (time, queues), hours = await asyncio.gather(self._now.get(), self._hour.get())
        of_queues = [QueueStats(**structs.asdict(one), hour=hours.get(one.name) or no_hour()) for one in queues]
        return Stats(time, together(queues, hours.get(None) or no_hour()), of_queues)

    async def series(self, window: int, step: int, queue: str | None = None) -> list[Point]:
        """Those of `db.series`."""
        return await self._series.get((window, step, queue))


def no_hour() -> Hour:
    return Hour(Ended(), Durations(), Durations())


def together(queues: Sequence[QueueNow], hour: Hour) -> AllStats:
    waits = [(one.due_since, one.oldest_wait) for one in queues if one.due_since]
    due_since, oldest_wait = min(waits, default=(None, None))  # as text, times of four digits of year are in order
    return AllStats(
        slots=sum(one.slots for one in queues),
        running=sum(one.running for one in queues),
        held=sum(one.held for one in queues),
        queued=sum(one.queued for one in queues),
        scheduled=sum(one.scheduled for one in queues),
        due_since=due_since,
        oldest_wait=oldest_wait,
        hour=hour,
    )


def of_one(stats: Stats, queue: str) -> Stats:
    """What of these is about one queue."""
    kept = [one for one in stats.queues if one.name == queue]
    return Stats(stats.time, together(kept, kept[0].hour if kept else no_hour()), kept)


@get(
    "/stats",
    operation_id="getStats",
    response_description="The numbers.",
    summary="Numbers",
    tags=["stats"],
    responses=problems(400, 503),
)
async def get_stats(numbers: NamedDependency[Numbers], caller: NamedDependency[Caller]) -> Stats:
    """Of each queue and of all: what executes and waits, who stands by, what ended in the last hour, and how long that
    took. A second old at most; the last hour, some seconds. Costs the same however many tasks there are."""
    stats = await numbers.stats()
    return stats if caller.queue is None else of_one(stats, caller.queue)


@get(
    "/stats/series",
    operation_id="getSeries",
    response_description="The steps of the window.",
    summary="Numbers over time",
    tags=["stats"],
    responses=problems(400, 503),
)
async def get_series(
    numbers: NamedDependency[Numbers],
    caller: NamedDependency[Caller],
    window: Annotated[
        str,
        QueryParameter(
            description="How far back: 90m, 12h, up to 7d. A whole number of steps.",
            schema_extra=DURATION,
        ),
    ] = "1h",
    step: Annotated[
        str,
        QueryParameter(
            description="Whole minutes: 1m, 15m, 1h. At most 1500 in a window.",
            schema_extra=DURATION,
        ),
    ] = "1m",
    queue: Annotated[str | None, QueryParameter(description="Only of this queue.")] = None,
) -> Series:
    """What ended in each step, and how much waited and executed. Minutes are kept for 7 days, whatever becomes of the
    tasks. Some seconds old at most; with long steps, up to a minute."""
    window_seconds, step_seconds = seconds("window", window), seconds("step", step)
    if step_seconds % 60:
        raise invalid("step", "is not a whole number of minutes")
    if window_seconds > WINDOW_MAX:
        raise invalid("window", "is more than 7 days")
    if window_seconds % step_seconds:
        raise invalid("window", "is not a whole number of steps", "step")
    if window_seconds > POINTS_MAX * step_seconds:
        raise invalid("step", f"is so short that the window has more than {POINTS_MAX} of it", "window")
    return Series(step_seconds, await numbers.series(window_seconds, step_seconds, caller.queue_of(queue)))
