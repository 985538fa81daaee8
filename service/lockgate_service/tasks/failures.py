"""Failed tasks, grouped by error."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from lockgate_service.auth.keys import Caller
from lockgate_service.http.params import DURATION, seconds
from lockgate_service.http.problems import invalid
from lockgate_service.pool import Pool
from lockgate_service.rows import utc
from lockgate_service.single_flight import SingleFlightByKey
from lockgate_service.tasks import lists
from lockgate_service.tasks.messages import Failure, Failures, TaskFilter

EXAMINED_MAX = 10_000  # failed tasks
CACHE_SECONDS = 2.0
WINDOW_MAX = 366 * 86400  # seconds
FAILURE = f"id, queue, kind, lockgate.failure(error), {utc('finish_time')}"

Key = tuple[str | None, int | None]
"""A queue or None for all; a window in seconds or None for all time."""


class FailureGroups:
    """Groups failed tasks; caches the groups of each queue and window."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._shared: SingleFlightByKey[Key, Failures] = SingleFlightByKey(self._read, lambda _: CACHE_SECONDS)

    async def groups(self, queue: str | None, window: int | None) -> Failures:
        """`window`: in seconds. Raises: psycopg.Error, Refusal (503)."""
        return await self._shared.get((queue, window))

    async def _read(self, key: Key) -> Failures:
        queue, window = key
        since = None if window is None else datetime.now(UTC) - timedelta(seconds=window)
        only = TaskFilter(status=["failed"], queue=queue, finished_after=since)
        found = await lists.page(self._pool, only, None, EXAMINED_MAX, FAILURE, sparse=True)
        tasks = Counter((queue, kind, failure) for _, queue, kind, failure, _ in found.rows)
        groups: dict[tuple[str, str, str], Failure] = {}
        for task, queue, kind, failure, time in found.rows:
            of = queue, kind, failure
            if of not in groups:
                its_own = TaskFilter(status=["failed"], queue=queue, kind=kind, failure=failure, finished_after=since)
                groups[of] = Failure(queue, kind, failure, tasks[of], time, time, task, its_own)
            one = groups[of]
            one.first, one.last = min(one.first, time), max(one.last, time)
        items = sorted(groups.values(), key=lambda one: (one.tasks, one.last), reverse=True)
        return Failures(items, len(items), len(found.rows), found.rest is None)


@get(
    "/failures",
    operation_id="listFailures",
    response_description="The groups.",
    summary="Failed tasks by error",
)
async def list_failures(
    failures: NamedDependency[FailureGroups],
    caller: NamedDependency[Caller],
    queue: Annotated[str | None, QueryParameter(description="Tasks of this queue.")] = None,
    window: Annotated[
        str | None,
        QueryParameter(description="Tasks that failed in the last 90m, 24h, up to 366d.", schema_extra=DURATION),
    ] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=1000, description="Number of groups.")] = 100,
) -> Failures:
    """Groups failed tasks by queue, kind and error, the largest group first. The answer is at most some seconds old.
    Its time is bounded: `complete` is false if only the newest tasks were examined.

    `filter` selects all tasks of a group: give it to `POST /tasks/bulk` to retry them, or as query parameters to
    `GET /tasks` to list them."""
    window_seconds = None if window is None else seconds("window", window)
    if window_seconds and window_seconds > WINDOW_MAX:
        raise invalid("window", "is more than 366 days")
    found = await failures.groups(caller.queue_of(queue), window_seconds)
    return Failures(found.items[:limit], found.groups, found.looked_at, found.complete)
