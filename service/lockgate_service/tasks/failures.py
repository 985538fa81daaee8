"""What has failed, by what went wrong."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from lockgate_service.auth.caller import Caller
from lockgate_service.http.params import DURATION, seconds
from lockgate_service.http.problems import invalid
from lockgate_service.openapi.docs import problems
from lockgate_service.pool import Pool
from lockgate_service.single_flight import SharedByKey
from lockgate_service.tasks import lists
from lockgate_service.tasks.messages import Failure, Failures, TaskFilter

LOOKED_AT_MAX = 10_000  # failed tasks
KEPT_SECONDS = 2.0
WINDOW_MAX = 366 * 86400

Asked = tuple[str | None, int | None]
"""A queue or all, and how many seconds back or everything."""


class Failed:
    """The failed tasks in groups; read once for all who ask for the same at about the same time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._shared: SharedByKey[Asked, Failures] = SharedByKey(self._read, lambda _: KEPT_SECONDS)

    async def groups(self, queue: str | None, window: int | None) -> Failures:
        """`window`: how many seconds back. Raises psycopg.Error and Refusal (503)."""
        return await self._shared.get((queue, window))

    async def _read(self, asked: Asked) -> Failures:
        queue, window = asked
        since = None if window is None else datetime.now(UTC) - timedelta(seconds=window)
        only = TaskFilter(status=["failed"], queue=queue, finished_after=since)
        found = await lists.page(self._pool, only, None, LOOKED_AT_MAX, "failure")
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
    summary="What has failed, by what went wrong",
    tags=["tasks"],
    responses=problems(400, 503),
)
async def list_failures(
    failed: NamedDependency[Failed],
    caller: NamedDependency[Caller],
    queue: Annotated[str | None, QueryParameter(description="Only of this queue.")] = None,
    window: Annotated[
        str | None,
        QueryParameter(description="Only what failed so lately: 90m, 24h, up to 366d.", schema_extra=DURATION),
    ] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=1000, description="How many groups at most.")] = 100,
) -> Failures:
    """Failed tasks of one queue and kind that failed in the same way, those of which there are most first. Some seconds
    old at most. It takes a bounded time, however many there are: `complete` says whether all were looked at, or only
    the newest.

    `filter` applies to all tasks of its group: give it to `POST /tasks/bulk` to retry them, or as query parameters to
    `GET /tasks` to see them."""
    window_seconds = None if window is None else seconds("window", window)
    if window_seconds and window_seconds > WINDOW_MAX:
        raise invalid("window", "is more than 366 days")
    found = await failed.groups(caller.queue_of(queue), window_seconds)
    return Failures(found.items[:limit], found.groups, found.looked_at, found.complete)
