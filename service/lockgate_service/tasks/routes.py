"""Tasks of any kind: decode, one call, encode."""

from typing import Annotated, Any, Literal

from litestar import MediaType, Request, Response, get, post
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import HeaderParameter, JSONBody, QueryParameter
from msgspec import json, structs

from lockgate.log import logger
from lockgate_service.auth.caller import Caller
from lockgate_service.http import prefer
from lockgate_service.http.body import TASKS_MAX
from lockgate_service.http.errors import refused
from lockgate_service.http.etag import etag, is_known
from lockgate_service.http.idempotency import HEADER, LENGTH_MAX, idempotency_key, pattern
from lockgate_service.http.params import TIME, TaskId, task_filter
from lockgate_service.http.problems import invalid, no_task
from lockgate_service.http.times import to_utc
from lockgate_service.openapi.docs import LOCATION, NO_TASK, described, problems
from lockgate_service.pool import Pool
from lockgate_service.tasks import db, lists
from lockgate_service.tasks.cursor import cursor_at, next_link, place_of
from lockgate_service.tasks.deps import Desk
from lockgate_service.tasks.loader import TaskReaders
from lockgate_service.tasks.messages import (
    ListedTask,
    NewTask,
    OutputList,
    Status,
    Task,
    TaskDetail,
    TaskNumber,
    TaskPage,
)

PAGE_MAX = 500
FULL_PAGE_MAX = 50  # a task may have some MiB
REPLAYED = ResponseHeader(
    name="Idempotency-Replayed", description="true if the key had been used for this request.", documentation_only=True
)

APPLIED = ResponseHeader(
    name="Preference-Applied", description="`wait=N`, if the answer was ready to wait.", documentation_only=True
)
NEXT = ResponseHeader(
    name="Link",
    description='`<...>; rel="next"`, relative to this address, if there are more.',
    documentation_only=True,
)
ETAG = ResponseHeader(name="ETag", description="Of this very answer.", documentation_only=True)


@post(
    "/tasks",
    operation_id="createTask",
    request_max_body_size=TASKS_MAX,
    response_description="Stored. The new task.",
    summary="Create a task",
    tags=["tasks"],
    status_code=202,
    response_headers=[LOCATION, REPLAYED, APPLIED],
    responses={
        **described(200, Task, "Nothing new: the task that has this key. Or, with `Prefer: wait=N`: it has ended."),
        **problems(400, 413, 422, 429, 503),
    },
)
async def create_task(
    request: Request[Any, Any, Any],
    data: JSONBody[NewTask],
    desk: NamedDependency[Desk],
    key: Annotated[
        str | None,
        HeaderParameter(
            name=HEADER,
            description="Makes it safe to send this request again: the same key and request give the same task for as "
            "long as that is kept, and the same key with another request is refused.",
            schema_extra={"pattern": pattern(LENGTH_MAX)},
        ),
    ] = None,
    preference: Annotated[str | None, HeaderParameter(name=prefer.HEADER, description=prefer.DESCRIPTION)] = None,
) -> Response[Task]:
    """Answers once the task is stored: 202 for a new one, 200 for the one that has this `Idempotency-Key` or, if it is
    unfinished, this `dedupe_key`. With `Prefer: wait=N` it answers with the ended task and 200 if it ends in time, else
    as without. After a 503 it may be stored or not; with a key it is safe to try again."""
    if data.run_at is not None and data.delay is not None:
        raise invalid("delay", "cannot be given together with run_at")
    to_utc(data)
    data.queue = desk.caller.queue_of(data.queue)
    submitted = await desk.gatherer.submit(data, idempotency_key(key), desk.caller.owner)
    if submitted.id is None or submitted.outcome not in ("created", "replayed", "deduplicated"):
        raise refused(submitted.outcome, data, submitted.id)
    headers = {"Location": f"/tasks/{submitted.id}"}
    if submitted.outcome == "replayed":
        headers["Idempotency-Replayed"] = "true"
    content: Any = submitted.task or TaskNumber(submitted.id)
    status = 202 if submitted.outcome == "created" else 200
    seconds = prefer.wait_seconds(preference)
    if seconds is not None and not desk.waiters.is_full:  # it is stored: too many who wait are no reason to refuse
        headers |= prefer.applied(seconds)
        await desk.waiters.end(submitted.id, seconds, request.receive)
        if (task := await _read_if_possible(desk.readers, submitted.id)) is not None:
            content = Task(*structs.astuple(task)[: len(Task.__struct_fields__)])
            status = 200 if task.finish_time is not None else status
    return Response(content, status_code=status, headers=headers)


async def _read_if_possible(readers: TaskReaders, task_id: int) -> TaskDetail | None:
    """For an answer that has to say that the task is stored, whatever else is wrong."""
    try:
        return await readers.detail.task(task_id)
    except Exception as error:
        logger.warning("a stored task could not be read back", task=task_id, error=str(error))
        return None


@get(
    "/tasks/{task_id:int}",
    operation_id="getTask",
    response_description="The task.",
    summary="A task",
    tags=["tasks"],
    response_headers=[ETAG, APPLIED],
    responses={
        304: ResponseSpec(None, description="It is as `If-None-Match` knows it."),
        **problems(400, 503, missing=NO_TASK),
    },
)
async def get_task(
    request: Request[Any, Any, Any],
    task_id: TaskId,
    desk: NamedDependency[Desk],
    preference: Annotated[str | None, HeaderParameter(name=prefer.HEADER, description=prefer.DESCRIPTION)] = None,
    known: Annotated[
        str | None, HeaderParameter(name="If-None-Match", description="The `ETag` of an earlier answer.")
    ] = None,
) -> Response[TaskDetail]:
    """Everything there is to know about it, but for what its handler printed."""
    seconds = prefer.wait_seconds(preference)
    if seconds is None:
        task = await desk.readers.task(task_id)
    else:
        desk.waiters.refuse_if_full()
        await desk.waiters.end(task_id, seconds, request.receive)
        task = await desk.readers.detail.task(task_id)
    if task is None:
        raise no_task(task_id)
    body: Any = json.encode(task)
    headers = {"ETag": etag(body)} | ({} if seconds is None else prefer.applied(seconds))
    if is_known(known, headers["ETag"]):
        body = None
    return Response(body, status_code=304 if body is None else 200, headers=headers, media_type=MediaType.JSON)


@get(
    "/tasks",
    operation_id="listTasks",
    response_description="A page of tasks.",
    summary="Tasks, newest first",
    tags=["tasks"],
    response_headers=[NEXT],
    responses=problems(400, 503),
)
async def list_tasks(
    request: Request[Any, Any, Any],
    pool: NamedDependency[Pool],
    caller: NamedDependency[Caller],
    status: Annotated[
        list[Status] | None,
        QueryParameter(
            description="Only those with this status; given several times, with any of them.",
            schema_extra={"maxItems": 6},
        ),
    ] = None,
    queue: Annotated[str | None, QueryParameter(description="Only those of this queue.")] = None,
    kind: Annotated[str | None, QueryParameter(description="Only those of this kind.")] = None,
    tag: Annotated[str | None, QueryParameter(description="Only those that have this tag.")] = None,
    runner: Annotated[
        str | None, QueryParameter(description="Only those whose latest attempt this runner executes, or did.")
    ] = None,
    error: Annotated[
        str | None,
        QueryParameter(
            description="Only failed ones whose error has this in its type or message, in any case.", max_length=200
        ),
    ] = None,
    failure: Annotated[
        str | None, QueryParameter(description="Only those that failed so: see `GET /failures`.", max_length=400)
    ] = None,
    created_after: Annotated[
        str | None, QueryParameter(description="Created then or later.", schema_extra=TIME)
    ] = None,
    created_before: Annotated[str | None, QueryParameter(description="Created before that.", schema_extra=TIME)] = None,
    finished_after: Annotated[str | None, QueryParameter(description="Ended then or later.", schema_extra=TIME)] = None,
    finished_before: Annotated[str | None, QueryParameter(description="Ended before that.", schema_extra=TIME)] = None,
    fields: Annotated[
        Literal["summary", "full"],
        QueryParameter(description=f"full: with payload and result, {FULL_PAGE_MAX} tasks at most."),
    ] = "summary",
    limit: Annotated[int, QueryParameter(ge=1, description=f"How many at most; more than {PAGE_MAX} means that.")] = 50,
    cursor: Annotated[
        str | None,
        QueryParameter(
            pattern="^[0-9]{1,18}-[0-9a-f]{8}$",
            description="`next_cursor` of the page before, which has to have been asked for with the same filters.",
        ),
    ] = None,
) -> Response[TaskPage]:
    """Those to which all of it applies. A page takes a bounded time, however many tasks there are and however few are
    found: it may have fewer than asked for, or none, and a `next_cursor` all the same. The header `Link` leads to the
    next page too."""
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
    found = await lists.page(pool, only, below, limit, fields)
    items = [ListedTask(*row) for row in found.rows]
    if found.rest is None:
        return Response(TaskPage(items, None))
    following = cursor_at(found.rest, only)
    given = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    return Response(TaskPage(items, following), headers={"Link": next_link([*given, ("cursor", following)])})


@get(
    "/tasks/{task_id:int}/output",
    operation_id="getTaskOutput",
    response_description="Its output.",
    summary="What a task printed",
    tags=["tasks"],
    responses=problems(400, 503, missing=NO_TASK),
)
async def get_task_output(task_id: TaskId, pool: NamedDependency[Pool]) -> OutputList:
    """What its handler printed, attempt by attempt; also while it is running."""
    if (items := await db.outputs(pool, task_id)) is None:
        raise no_task(task_id)
    return OutputList(items)
