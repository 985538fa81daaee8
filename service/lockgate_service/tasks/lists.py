"""Lists of tasks, newest first: pages in bounded time, the cursor where the next begins, and failures by error."""

# ruff: noqa: S608  (put together from constants of this file and of those who call)

from collections import Counter
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from msgspec import json

from lockgate_service.auth.keys import Caller
from lockgate_service.http.body import field_and_message
from lockgate_service.http.params import DURATION, seconds, time_parameter, to_utc
from lockgate_service.http.problems import header, invalid
from lockgate_service.pool import Pool, utc
from lockgate_service.single_flight import SingleFlightByKey
from lockgate_service.tasks import db
from lockgate_service.tasks.messages import Failure, Failures, ListedTask, Status, TaskFilter, TaskPage

PAGE_MAX = 500
FULL_PAGE_MAX = 50  # a task may have some MiB
NEXT = header("Link", '`<...>; rel="next"`, a relative address, unless this is the last page.')
# Of lockgate.list_tasks.
WINDOW = 5_000  # tasks that a step examines
SPARSE_WINDOW = 1_000  # the same where each has a text to be searched, or lies on a page of its own
NAMED_MAX = 2_000  # tasks whose ids a step reads first
SECONDS = 0.02  # no further step begins after this time
# Of failures.
EXAMINED_MAX = 10_000  # failed tasks
FAILURES_SECONDS = 2.0
WINDOW_MAX = 366 * 86400  # seconds
FAILURE = f"id, queue, kind, lockgate.failure(error), {utc('finish_time')}"


@get("/tasks", response_description="A page of tasks.", summary="Tasks, newest first", response_headers=[NEXT])
async def list_tasks(
    request: Request[Any, Any, Any],
    pool: NamedDependency[Pool],
    caller: NamedDependency[Caller],
    status: Annotated[
        list[Status] | None,
        QueryParameter(
            description="Tasks with this status; repeat the parameter for several.",
            schema_extra={"maxItems": 6},
        ),
    ] = None,
    queue: Annotated[str | None, QueryParameter(description="Tasks of this queue.")] = None,
    kind: Annotated[str | None, QueryParameter(description="Tasks of this kind.")] = None,
    tag: Annotated[str | None, QueryParameter(description="Tasks with this tag.")] = None,
    runner: Annotated[str | None, QueryParameter(description="Runner of the latest attempt.")] = None,
    error: Annotated[
        str | None, QueryParameter(description="In the error's type or message; ignores case.", max_length=200)
    ] = None,
    failure: Annotated[str | None, QueryParameter(description="A group of `GET /failures`.", max_length=400)] = None,
    created_after: Annotated[str | None, time_parameter("Created at this time or later.")] = None,
    created_before: Annotated[str | None, time_parameter("Created before this time.")] = None,
    finished_after: Annotated[str | None, time_parameter("Ended at this time or later.")] = None,
    finished_before: Annotated[str | None, time_parameter("Ended before this time.")] = None,
    fields: Annotated[
        Literal["summary", "full"],
        QueryParameter(description=f"full: with payload and result; page size capped at {FULL_PAGE_MAX}."),
    ] = "summary",
    limit: Annotated[int, QueryParameter(ge=1, description=f"Page size, capped at {PAGE_MAX}.")] = 50,
    cursor: Annotated[
        str | None,
        QueryParameter(
            pattern="^[0-9]{1,18}-[0-9a-f]{8}$",
            description="`next_cursor` of the previous page, with the same filters.",
        ),
    ] = None,
) -> Response[TaskPage]:
    """The tasks that match every filter. The time of a page is bounded: it may have fewer tasks than `limit`, or none,
    and a `next_cursor` all the same. The header `Link` leads to the next page too."""
    only = task_filter(
        status=status,
        queue=caller.queue_of(queue),
        kind=kind,
        tag=tag,
        runner=runner,
        error=error,
        failure=failure,
        created_after=created_after,
        created_before=created_before,
        finished_after=finished_after,
        finished_before=finished_before,
    )
    below = None if cursor is None else place_of(cursor, only)
    limit = min(limit, PAGE_MAX if fields == "summary" else FULL_PAGE_MAX)
    found = await page(pool, only, below, limit, db.SUMMARY if fields == "summary" else db.WHOLE)
    items = [ListedTask(*row) for row in found.rows]
    if found.rest is None:
        return Response(TaskPage(items, None))
    following = cursor_at(found.rest, only)
    given = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    # Relative: only the client knows the address of this service.
    link = f'<?{urlencode([*given, ("cursor", following)])}>; rel="next"'
    return Response(TaskPage(items, following), headers={"Link": link})


class Found(NamedTuple):
    """Rows, newest first. Tasks with an id below `rest` have not been examined; None: there are none."""

    rows: list[tuple[Any, ...]]
    rest: int | None


def task_filter(**given: object) -> TaskFilter:
    """Raises: Refusal (400), also for a time without an offset."""
    try:
        only = msgspec.convert(given, TaskFilter)
    except msgspec.ValidationError as error:
        raise invalid(*field_and_message(str(error))) from None
    to_utc(only)
    return only


async def page(
    pool: Pool, only: TaskFilter, below: int | None, limit: int, columns: str, *, sparse: bool = False
) -> Found:
    """At most `limit` of the tasks with an id below `below`; fewer when the time is up. `columns`: a select list that
    begins with the id; `sparse`: it has a text that takes time to make."""
    rows = await pool.rows(
        f"""
        with list as materialized (select * from lockgate.list_tasks(%s::jsonb, %s::bigint, %s, %s, %s, %s, %s))
        select list.rest, t.* from list left join lateral (
          select {columns} from lockgate.task_detail where id = any (list.ids)) t on true
        order by t.id desc
        """,
        (
            *(json.encode(only).decode(), below, limit),
            *(SPARSE_WINDOW if sparse else WINDOW, SPARSE_WINDOW, NAMED_MAX, SECONDS),
        ),
    )
    return Found([row[1:] for row in rows if row[1] is not None], rows[0][0])


def cursor_at(below: int, only: TaskFilter) -> str:
    """For instance `4711-5ca1ab1e`: an id, and a digest of the filter. Opaque to clients."""
    return f"{below}-{_digest(only)}"


def place_of(cursor: str, only: TaskFilter) -> int:
    """The id below which the page begins. Raises: Refusal (400) for a cursor of another filter."""
    below, _, digest = cursor.partition("-")
    if digest != _digest(only):
        raise invalid("cursor", "is of a list with other filters: begin without one")
    return int(below)


def _digest(only: TaskFilter) -> str:
    return blake2b(json.encode(only), digest_size=4).hexdigest()


class FailureGroups:
    """Groups failed tasks; caches the groups of each queue (None: all) and window in seconds (None: all time)."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._shared = SingleFlightByKey(self._read, lambda *_: FAILURES_SECONDS)

    async def groups(self, queue: str | None, window: int | None) -> Failures:
        """Raises: psycopg.Error, Refusal (503)."""
        return await self._shared.get(queue, window)

    async def _read(self, queue: str | None, window: int | None) -> Failures:
        since = None if window is None else datetime.now(UTC) - timedelta(seconds=window)
        only = TaskFilter(status=["failed"], queue=queue, finished_after=since)
        found = await page(self._pool, only, None, EXAMINED_MAX, FAILURE, sparse=True)
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


@get("/failures", response_description="The groups.", summary="Failed tasks by error")
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
