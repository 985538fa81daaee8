"""Creates and reads tasks, also in the quick start: a task without settings, and its status."""

from typing import Annotated, Any

from litestar import MediaType, Request, Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.openapi import ResponseSpec
from litestar.params import HeaderParameter, JSONBody
from msgspec import Raw, Struct, json

from lockgate.log import logger
from lockgate_service.auth.guard import Connection, caller_of
from lockgate_service.auth.keys import Caller
from lockgate_service.http.body import TASKS_MAX
from lockgate_service.http.params import (
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_KEY_MAX,
    PREFER,
    PREFER_DESCRIPTION,
    TaskId,
    etag,
    idempotency_key,
    idempotency_pattern,
    matches,
    preference_applied,
    to_utc,
    wait_seconds,
)
from lockgate_service.http.problems import LOCATION, described, header, invalid, no_task, problems
from lockgate_service.pool import Pool
from lockgate_service.tasks import db
from lockgate_service.tasks.group_commit import GroupCommit, refused
from lockgate_service.tasks.loader import TaskLoader
from lockgate_service.tasks.messages import BriefTask, NewTask, OutputList, Task, TaskDetail, TaskNumber
from lockgate_service.tasks.waiting import Waiters

REPLAYED = header("Idempotency-Replayed", "true if the key was used before for this request.")
APPLIED = header("Preference-Applied", "`wait=N`, if the service waited.")
ETAG = header("ETag", "Tag of this answer.")
Preference = Annotated[str | None, HeaderParameter(name=PREFER, description=PREFER_DESCRIPTION)]


class Deps(Struct, frozen=True):
    """What the busiest operations need, as one dependency: Litestar resolves several of them in a task group, which
    takes a sixth of the time of a request."""

    caller: Caller
    group_commit: GroupCommit
    waiters: Waiters
    loader: TaskLoader


def provide_deps(group_commit: GroupCommit, waiters: Waiters, loader: TaskLoader) -> Provide:
    def deps(request: Connection) -> Deps:
        return Deps(caller_of(request), group_commit, waiters, loader)

    return Provide(deps, sync_to_thread=False)


@post(
    "/tasks",
    request_max_body_size=TASKS_MAX,
    response_description="Stored. The new task.",
    summary="Create a task",
    status_code=202,
    response_headers=[LOCATION, REPLAYED, APPLIED],
    responses={
        **described(200, Task, "The task stored before with this key. Or, with `Prefer: wait=N`: the ended task."),
        **problems(422, 429),
    },
)
async def create_task(
    request: Request[Any, Any, Any],
    data: JSONBody[NewTask],
    deps: NamedDependency[Deps],
    key: Annotated[
        str | None,
        HeaderParameter(
            name=IDEMPOTENCY_KEY,
            description="Makes a retry of this request safe: while the task is kept, the same key and request return "
            "it; the same key with another request is refused.",
            schema_extra={"pattern": idempotency_pattern(IDEMPOTENCY_KEY_MAX)},
        ),
    ] = None,
    preference: Preference = None,
) -> Response[Task]:
    """Answers after the commit: 202 with a new task; 200 with the task that has this `Idempotency-Key`, or with the
    unfinished task that has this `dedupe_key`. With `Prefer: wait=N` and a task that ends in time: 200 with the ended
    task. After a 503 the task may be stored or not; with a key a retry is safe."""
    if data.run_at is not None and data.delay is not None:
        raise invalid("delay", "cannot be given together with run_at")
    to_utc(data)
    data.queue = deps.caller.queue_of(data.queue)
    submitted = await deps.group_commit.submit(data, idempotency_key(key), deps.caller.owner)
    if submitted.id is None or submitted.outcome not in ("created", "replayed", "deduplicated"):
        raise refused(submitted.outcome, data, submitted.id)
    headers = {"Location": f"/tasks/{submitted.id}"}
    if submitted.outcome == "replayed":
        headers["Idempotency-Replayed"] = "true"
    content: Any = submitted.task or TaskNumber(submitted.id)
    status = 202 if submitted.outcome == "created" else 200
    seconds = wait_seconds(preference)
    if seconds is not None and not deps.waiters.is_full:  # the task is stored: no refusal when full
        headers |= preference_applied(seconds)
        await deps.waiters.end(submitted.id, seconds, request.receive)
        if (task := await _load_if_possible(deps.loader, submitted.id)) is not None:
            content = Task(**{name: getattr(task, name) for name in Task.__struct_fields__})
            status = 200 if task.finish_time is not None else status
    return Response(content, status_code=status, headers=headers)


async def _load_if_possible(loader: TaskLoader, task_id: int) -> TaskDetail | None:
    """None on any error: the answer has to say that the task is stored."""
    try:
        return await loader.detail.load(task_id)
    except Exception as error:
        logger.warning("a stored task could not be read back", task=task_id, error=str(error))
        return None


@get(
    "/tasks/{task_id:int}",
    response_description="The task.",
    summary="A task",
    response_headers=[ETAG, APPLIED],
    responses={
        304: ResponseSpec(None, description="Unchanged since the answer that `If-None-Match` names."),
    },
)
async def get_task(
    request: Request[Any, Any, Any],
    task_id: TaskId,
    deps: NamedDependency[Deps],
    preference: Preference = None,
    known: Annotated[
        str | None, HeaderParameter(name="If-None-Match", description="`ETag` of an earlier answer.")
    ] = None,
) -> Response[TaskDetail]:
    """The task with payload, result, earlier attempts and position, without its output."""
    seconds = wait_seconds(preference)
    if seconds is None:
        task = await deps.loader.task(task_id)
    else:
        deps.waiters.refuse_if_full()
        await deps.waiters.end(task_id, seconds, request.receive)
        task = await deps.loader.detail.load(task_id)
    if task is None:
        raise no_task(task_id)
    body: Any = json.encode(task)
    headers = {"ETag": etag(body)} | ({} if seconds is None else preference_applied(seconds))
    if matches(known, headers["ETag"]):
        body = None
    return Response(body, status_code=304 if body is None else 200, headers=headers, media_type=MediaType.JSON)


@get("/tasks/{task_id:int}/output", response_description="The output.", summary="Output of a task")
async def get_task_output(task_id: TaskId, pool: NamedDependency[Pool]) -> OutputList:
    """What the handler printed, by attempt; also while it runs."""
    if (items := await db.outputs(pool, task_id)) is None:
        raise no_task(task_id)
    return OutputList(items)


@post(
    "/task",
    response_description="Stored. The task's number.",
    summary="Create a task that sleeps 0 to 10 seconds",
    status_code=202,
    response_headers=[LOCATION],
    responses=problems(429),
)
async def create_sleep_task(request: Request[Any, Any, Any], deps: NamedDependency[Deps]) -> Response[int]:
    """Takes no body. Answers with the task's number after the commit."""
    if (await request.body()).strip() not in (b"", b"{}", b"null"):
        raise invalid("body", "must be empty: POST /tasks takes a description of a task")
    task = NewTask("sleep", queue=deps.caller.queue, payload=Raw(b'{"min":0,"max":10}'))
    submitted = await deps.group_commit.submit(task, owner=deps.caller.owner)
    if submitted.id is None:
        raise refused(submitted.outcome, task, None)
    return Response(submitted.id, headers={"Location": f"/task/{submitted.id}"})


@get("/task/{task_id:int}", response_description="The task.", summary="Status of a task")
async def get_task_briefly(task_id: TaskId, pool: NamedDependency[Pool]) -> BriefTask:
    """Status and times."""
    if (task := await db.brief_task(pool, task_id)) is None:
        raise no_task(task_id)
    return task
