"""Tasks of any kind: decode, one call, encode."""

from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.params import FromPath, HeaderParameter, JSONBody, QueryParameter

from service import db
from service.docs import LOCATION, NeverInvalid, OptionalBody, described, problems
from service.errors import ended, invalid, no_task, refused
from service.gather import Gatherer
from service.idempotency import HEADER, idempotency_key
from service.messages import CancelRequest, NewTask, Status, Task, TaskNumber, TaskPage
from service.pool import Pool

PAGE_MAX = 500
LIST_PARAMETERS = frozenset({"status", "queue", "kind", "limit", "cursor"})
REPLAYED = ResponseHeader(
    name="Idempotency-Replayed", description="true if the key had been used for this request.", documentation_only=True
)


@post(
    "/tasks",
    operation_id="createTask",
    response_description="Stored. The new task.",
    summary="Create a task",
    tags=["tasks"],
    status_code=202,
    response_headers=[LOCATION, REPLAYED],
    responses={**described(200, Task, "Nothing new: the task that has this key."), **problems(400, 413, 422, 503)},
)
async def create_task(
    data: JSONBody[NewTask],
    gatherer: NamedDependency[Gatherer],
    key: Annotated[
        str | None,
        HeaderParameter(
            name=HEADER,
            description="Makes it safe to send this request again: the same key and request give the same task for as "
            "long as that is kept, and the same key with another request is refused.",
        ),
    ] = None,
) -> Response[Task]:
    """Answers once the task is stored: 202 for a new one, 200 for the one that has this `Idempotency-Key` or, if it is
    unfinished, this `dedupe_key`. After a 503 it may be stored or not; with a key it is safe to try again."""
    if data.run_at is not None and data.delay is not None:
        raise invalid("delay", "cannot be given together with run_at")
    submitted = await gatherer.submit(data, idempotency_key(key))
    if submitted.id is None or submitted.outcome not in ("created", "replayed", "deduplicated"):
        raise refused(submitted.outcome, data, submitted.id)
    headers = {"Location": f"/tasks/{submitted.id}"}
    if submitted.outcome == "replayed":
        headers["Idempotency-Replayed"] = "true"
    content: Any = submitted.task or TaskNumber(submitted.id)
    return Response(
        content,
        status_code=202 if submitted.outcome == "created" else 200,
        headers=headers,
    )


@get(
    "/tasks/{task_id:int}",
    operation_class=NeverInvalid,
    operation_id="getTask",
    response_description="The task.",
    summary="A task",
    tags=["tasks"],
    responses=problems(404, 503),
)
async def get_task(task_id: FromPath[int], pool: NamedDependency[Pool]) -> Task:
    """Everything there is to know about it."""
    if (task := await db.task(pool, task_id)) is None:
        raise no_task(task_id)
    return task


@get(
    "/tasks",
    operation_id="listTasks",
    response_description="A page of tasks.",
    summary="Tasks, newest first",
    tags=["tasks"],
    responses=problems(400, 503),
)
async def list_tasks(
    request: Request[Any, Any, Any],
    pool: NamedDependency[Pool],
    status: Annotated[Status | None, QueryParameter(description="Only those with this status.")] = None,
    queue: Annotated[str | None, QueryParameter(description="Only those of this queue.")] = None,
    kind: Annotated[str | None, QueryParameter(description="Only those of this kind.")] = None,
    limit: Annotated[int, QueryParameter(ge=1, description=f"How many at most; more than {PAGE_MAX} means that.")] = 50,
    cursor: Annotated[
        str | None, QueryParameter(pattern="^[0-9]{1,18}$", description="`next_cursor` of the page before.")
    ] = None,
) -> TaskPage:
    """Without their payloads and results."""
    for name in sorted(request.query_params.keys() - LIST_PARAMETERS):
        raise invalid(name, f"is not a parameter: there are {', '.join(sorted(LIST_PARAMETERS))}")
    for name, text in (("queue", queue), ("kind", kind)):
        if text and "\0" in text:
            raise invalid(name, "holds a NUL character (U+0000)")
    limit = min(limit, PAGE_MAX)
    found = await db.tasks(pool, status, queue, kind, int(cursor) if cursor else None, limit + 1)
    more = len(found) > limit
    return TaskPage(found[:limit], str(found[limit - 1].id) if more else None)


@post(
    "/tasks/{task_id:int}/cancel",
    operation_class=OptionalBody,
    operation_id="cancelTask",
    response_description="It is cancelled.",
    summary="Cancel a task",
    tags=["tasks"],
    status_code=200,
    responses={**described(202, Task, "It is running and has been asked to stop."), **problems(400, 404, 409, 503)},
)
async def cancel_task(
    task_id: FromPath[int], pool: NamedDependency[Pool], data: JSONBody[CancelRequest | None] = None
) -> Response[Task]:
    """200: it is cancelled. 202: it is running and has been asked to stop; asking again does no harm, and asking with
    `force` kills it. 409: it had ended otherwise."""
    status = await db.cancel(pool, task_id, force=data is not None and data.force)
    task = await db.task(pool, task_id)
    if status is None or task is None:
        raise no_task(task_id)
    if status in ("succeeded", "failed"):
        raise ended(task_id, status)
    return Response(task, status_code=202 if status == "running" else 200)
