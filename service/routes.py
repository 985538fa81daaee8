"""Decode, one call, encode."""

from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.params import FromPath, HeaderParameter, JSONBody, QueryParameter
from msgspec import Raw

from service import db
from service.docs import NeverInvalid, OptionalBody, described, problems
from service.errors import ended, invalid, no_task, refused
from service.gather import Gatherer
from service.health import Health
from service.idempotency import HEADER, idempotency_key
from service.messages import (
    Alive,
    CancelRequest,
    NewTask,
    Ready,
    SeedTask,
    Status,
    Task,
    TaskNumber,
    TaskPage,
)
from service.pool import Pool

PAGE_MAX = 500
LIST_PARAMETERS = frozenset({"status", "queue", "kind", "limit", "cursor"})
LOCATION = ResponseHeader(name="Location", description="Where the task is.", documentation_only=True)
REPLAYED = ResponseHeader(
    name="Idempotency-Replayed", description="true if the key had been used for this request.", documentation_only=True
)


@post(
    "/task",
    operation_id="createSleepTask",
    response_description="Stored. The task's number.",
    summary="Create a task that sleeps 0 to 10 seconds",
    tags=["simple"],
    status_code=202,
    response_headers=[LOCATION],
    responses=problems(400, 503),
)
async def create_sleep_task(request: Request[Any, Any, Any], gatherer: NamedDependency[Gatherer]) -> Response[int]:
    """Takes no body. Answers with the task's number once it is stored."""
    if (await request.body()).strip() not in (b"", b"{}", b"null"):
        raise invalid("body", "must be empty: POST /tasks takes a description of a task")
    task = NewTask("sleep", payload=Raw(b'{"min":0,"max":10}'))
    submitted = await gatherer.submit(task)
    if submitted.id is None:
        raise refused(submitted.outcome, task, None)
    return Response(submitted.id, headers={"Location": f"/task/{submitted.id}"})


@get(
    "/task/{task_id:int}",
    operation_class=NeverInvalid,
    operation_id="getTaskBriefly",
    response_description="The task.",
    summary="How a task is doing",
    tags=["simple"],
    responses=problems(404, 503),
)
async def get_task_briefly(task_id: FromPath[int], pool: NamedDependency[Pool]) -> SeedTask:
    """Its status in plain words, and its times."""
    if (task := await db.seed_task(pool, task_id)) is None:
        raise no_task(task_id)
    return task


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
    for name in request.query_params.keys() - LIST_PARAMETERS:
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


@get(
    "/health/live",
    operation_id="getLiveness",
    response_description="It does.",
    summary="Whether the process answers",
    tags=["health"],
)
async def get_liveness() -> Alive:
    """Does not look at the database."""
    return Alive()


@get(
    "/health/ready",
    operation_id="getReadiness",
    response_description="They can.",
    summary="Whether tasks can be taken",
    tags=["health"],
    responses=problems(503),
)
async def get_readiness(health: NamedDependency[Health]) -> Ready:
    """Asks the database, for a second at most."""
    return await health.ready()


ROUTES = [
    create_sleep_task,
    get_task_briefly,
    create_task,
    get_task,
    list_tasks,
    cancel_task,
    get_liveness,
    get_readiness,
]
