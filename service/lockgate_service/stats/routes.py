"""Statistics, now and over time."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from msgspec import structs

from lockgate_service.auth.keys import Caller
from lockgate_service.http.params import DURATION, seconds
from lockgate_service.http.problems import invalid
from lockgate_service.pool import Pool
from lockgate_service.single_flight import SingleFlight, SingleFlightByKey
from lockgate_service.stats import db
from lockgate_service.stats.messages import AllStats, Durations, Ended, Hour, Point, QueueNow, QueueStats, Series, Stats

# Maximum age of cached statistics in seconds.
NOW_SECONDS = 0.25
HOUR_SECONDS = 2.0
SERIES_SECONDS = 5.0, 60.0  # a sixtieth of the step, within these bounds
WINDOW_MAX = 7 * 86400
POINTS_MAX = 1500
ADDED = ("slots", "running", "held", "queued", "scheduled")  # the fields of all queues that are sums


class StatsCache:
    """Caches the statistics of all queues."""

    def __init__(self, pool: Pool) -> None:
        self._now = SingleFlight(partial(db.queues, pool), NOW_SECONDS)
        self._hour = SingleFlight(partial(db.hour, pool), HOUR_SECONDS)
        self._series = SingleFlightByKey(
            partial(db.series, pool), lambda _, step, __: min(max(SERIES_SECONDS[0], step / 60), SERIES_SECONDS[1])
        )

    async def stats(self) -> Stats:
        """Of all queues. Raises: psycopg.Error, Refusal (503)."""
        (time, queues), hours = await asyncio.gather(self._now.get(), self._hour.get())
        of_queues = [QueueStats(**structs.asdict(one), hour=hours.get(one.name) or no_hour()) for one in queues]
        return Stats(time, together(queues, hours.get(None) or no_hour()), of_queues)

    async def series(self, window: int, step: int, queue: str | None = None) -> list[Point]:
        """As `db.series`. Raises: psycopg.Error, Refusal (503)."""
        return await self._series.get(window, step, queue)


def no_hour() -> Hour:
    return Hour(Ended(), Durations(), Durations())


def together(queues: Sequence[QueueNow], hour: Hour) -> AllStats:
    sums = {name: sum(getattr(one, name) for one in queues) for name in ADDED}
    waits = [(one.due_since, one.oldest_wait) for one in queues if one.due_since]
    due_since, oldest_wait = min(waits, default=(None, None))  # compared as text, since years have four digits
    return AllStats(**sums, due_since=due_since, oldest_wait=oldest_wait, hour=hour)


def of_one(stats: Stats, queue: str) -> Stats:
    """The part about one queue."""
    kept = [one for one in stats.queues if one.name == queue]
    return Stats(stats.time, together(kept, kept[0].hour if kept else no_hour()), kept)


@get("/stats", response_description="The statistics.", summary="Statistics")
async def get_stats(stats_cache: NamedDependency[StatsCache], caller: NamedDependency[Caller]) -> Stats:
    """For each queue and for all: running and waiting tasks, runners and standbys, and the number, wait and duration of
    the tasks that ended in the last hour. At most a second old; the last hour, some seconds. The cost does not depend
    on the number of tasks."""
    stats = await stats_cache.stats()
    return stats if caller.queue is None else of_one(stats, caller.queue)


@get("/stats/series", response_description="The steps of the window.", summary="Statistics over time")
async def get_series(
    stats_cache: NamedDependency[StatsCache],
    caller: NamedDependency[Caller],
    window: Annotated[
        str,
        QueryParameter(description="90m, 12h, up to 7d; a multiple of the step.", schema_extra=DURATION),
    ] = "1h",
    step: Annotated[
        str,
        QueryParameter(
            description="Whole minutes: 1m, 15m, 1h. At most 1500 steps in a window.",
            schema_extra=DURATION,
        ),
    ] = "1m",
    queue: Annotated[str | None, QueryParameter(description="Statistics of this queue.")] = None,
) -> Series:
    """Ended, waiting and running tasks by step. Postgres keeps the figures of each minute for 7 days, also when
    tasks are deleted. At most some seconds old; with long steps, a minute."""
    window_seconds, step_seconds = seconds("window", window), seconds("step", step)
    if step_seconds % 60:
        raise invalid("step", "is not a whole number of minutes")
    if window_seconds > WINDOW_MAX:
        raise invalid("window", "is more than 7 days")
    if window_seconds % step_seconds:
        raise invalid("window", "is not a whole number of steps", "step")
    if window_seconds > POINTS_MAX * step_seconds:
        raise invalid("step", f"is so short that the window has more than {POINTS_MAX} of it", "window")
    return Series(step_seconds, await stats_cache.series(window_seconds, step_seconds, caller.queue_of(queue)))
