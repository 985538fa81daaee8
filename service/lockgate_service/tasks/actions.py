"""What can be done to a task that is there: cancel it, retry it, change it, delete it."""

from litestar import Response, delete, patch, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from lockgate_service.http.params import TaskId
from lockgate_service.http.problems import ended, no_task
from lockgate_service.http.times import to_utc
from lockgate_service.openapi.docs import NO_TASK, OptionalBody, described, problems
from lockgate_service.pool import Pool
from lockgate_service.tasks import db
from lockgate_service.tasks.loader import TaskReaders
from lockgate_service.tasks.messages import CancelRequest, TaskChange, TaskDetail


@post(
    "/tasks/{task_id:int}/cancel",
    operation_class=OptionalBody,
    operation_id="cancelTask",
    response_description="It is cancelled.",
    summary="Cancel a task",
    tags=["tasks"],
    status_code=200,
    responses={
        **described(202, TaskDetail, "It is running and has been asked to stop."),
        **problems(400, 413, 503, missing=NO_TASK, conflict="It has ended otherwise."),
    },
)
async def cancel_task(
    task_id: TaskId,
    pool: NamedDependency[Pool],
    readers: NamedDependency[TaskReaders],
    data: JSONBody[CancelRequest | None] = None,
) -> Response[TaskDetail]:
    """200: it is cancelled. 202: it is running and has been asked to stop; asking again does no harm, and asking with
    `force` kills it. 409: it had ended otherwise."""
    status = await db.cancel(pool, task_id, force=data is not None and data.force)
    if status in ("succeeded", "failed"):
        raise ended(task_id, status)
    return Response(await still_there(readers, task_id), status_code=202 if status == "running" else 200)


@post(
    "/tasks/{task_id:int}/retry",
    operation_id="retryTask",
    response_description="It is in the queue again.",
    summary="Retry a task",
    tags=["tasks"],
    status_code=202,
    responses=problems(
        400,
        503,
        missing=NO_TASK,
        conflict="Its status is neither failed nor cancelled, or another unfinished task has its dedupe key.",
    ),
)
async def retry_task(task_id: TaskId, pool: NamedDependency[Pool], readers: NamedDependency[TaskReaders]) -> TaskDetail:
    """Puts a failed or cancelled task back in line, due now, with one more attempt at least. It keeps its number, its
    place among those of its priority, and a record of its attempts so far."""
    await db.retry(pool, task_id)
    return await still_there(readers, task_id)


@patch(
    "/tasks/{task_id:int}",
    operation_id="changeTask",
    response_description="The task as it is now.",
    summary="Change a task",
    tags=["tasks"],
    responses=problems(400, 413, 503, missing=NO_TASK, conflict="It does not wait any more."),
)
async def change_task(
    task_id: TaskId, data: JSONBody[TaskChange], pool: NamedDependency[Pool], readers: NamedDependency[TaskReaders]
) -> TaskDetail:
    """Changes what is given, while it waits. With a later `run_at` it is scheduled, with one that is past it is due."""
    to_utc(data)
    await db.change(pool, task_id, data)
    return await still_there(readers, task_id)


@delete(
    "/tasks/{task_id:int}",
    operation_id="deleteTask",
    response_description="It is gone.",
    summary="Delete a task",
    tags=["tasks"],
    responses=problems(400, 503, missing=NO_TASK, conflict="It is running: cancel it first."),
)
async def delete_task(task_id: TaskId, pool: NamedDependency[Pool]) -> None:
    """Deletes a task that is not running, with its attempts and what they printed."""
    await db.delete(pool, task_id)


async def still_there(readers: TaskReaders, task_id: int) -> TaskDetail:
    """The task after what was done to it. Raises Refusal (404) if somebody deleted it in between."""
    if (task := await readers.task(task_id)) is None:
        raise no_task(task_id)
    return task
