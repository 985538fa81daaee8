"""Actions on stored tasks: cancel, retry, change, delete, one task or many."""

import asyncio
from collections.abc import Mapping, Sequence

from litestar import Response, delete, patch, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import structs

from lockgate_service.auth.keys import Caller
from lockgate_service.http.params import TaskId, to_utc
from lockgate_service.http.problems import described, ended, invalid, no_task, problems
from lockgate_service.pool import Pool
from lockgate_service.tasks import db, lists
from lockgate_service.tasks.lists import cursor_at, place_of
from lockgate_service.tasks.loader import TaskLoader
from lockgate_service.tasks.messages import (
    Action,
    BulkRequest,
    BulkResult,
    CancelRequest,
    Status,
    TaskChange,
    TaskDetail,
    TaskFilter,
)

SECONDS = 3.0  # no further batch begins after this time
# The statuses that the functions of the schema act on.
STATUSES: Mapping[Action, Sequence[Status]] = {
    "cancel": ("scheduled", "queued", "running"),
    "retry": ("failed", "cancelled"),
    "delete": ("scheduled", "queued", "succeeded", "failed", "cancelled"),
}
# Tasks per transaction. Each retry is a subtransaction, and Postgres is fast with up to 64.
BATCH: Mapping[Action, int] = {"cancel": 500, "retry": 60, "delete": 500}
COUNT_BATCH = 5000


@post(
    "/tasks/{task_id:int}/cancel",
    response_description="The task is cancelled.",
    summary="Cancel a task",
    status_code=200,
    responses={
        **described(202, TaskDetail, "The task runs and was told to stop."),
        **problems(conflict="The task has succeeded or failed."),
    },
)
async def cancel_task(
    task_id: TaskId,
    pool: NamedDependency[Pool],
    loader: NamedDependency[TaskLoader],
    data: JSONBody[CancelRequest | None] = None,
) -> Response[TaskDetail]:
    """200: the task is cancelled. 202: it runs and was told to stop; a second request is safe, and one with `force`
    kills it. 409: it had already succeeded or failed."""
    status = await db.cancel(pool, task_id, force=data is not None and data.force)
    if status in ("succeeded", "failed"):
        raise ended(task_id, status)
    return Response(await _still_there(loader, task_id), status_code=202 if status == "running" else 200)


@post(
    "/tasks/{task_id:int}/retry",
    response_description="The task is in the queue again.",
    summary="Retry a task",
    status_code=202,
    responses=problems(
        conflict="The task is neither failed nor cancelled, or another unfinished task has its dedupe key.",
    ),
)
async def retry_task(task_id: TaskId, pool: NamedDependency[Pool], loader: NamedDependency[TaskLoader]) -> TaskDetail:
    """Puts a failed or cancelled task back into its queue, due now, with at least one more attempt. It keeps its
    number, its position among the tasks of its priority, and its earlier attempts."""
    await db.retry(pool, task_id)
    return await _still_there(loader, task_id)


@patch(
    "/tasks/{task_id:int}",
    response_description="The changed task.",
    summary="Change a task",
    responses=problems(conflict="The task does not wait any more."),
)
async def change_task(
    task_id: TaskId, data: JSONBody[TaskChange], pool: NamedDependency[Pool], loader: NamedDependency[TaskLoader]
) -> TaskDetail:
    """Changes the given fields of a waiting task. A future `run_at` schedules it; a past one makes it due."""
    to_utc(data)
    await db.change(pool, task_id, data)
    return await _still_there(loader, task_id)


@delete(
    "/tasks/{task_id:int}",
    response_description="The task is deleted.",
    summary="Delete a task",
    responses=problems(conflict="The task runs: cancel it first."),
)
async def delete_task(task_id: TaskId, pool: NamedDependency[Pool]) -> None:
    """Deletes a task that does not run, with its attempts and their output."""
    await db.delete(pool, task_id)


async def _still_there(loader: TaskLoader, task_id: int) -> TaskDetail:
    """The task after the action. Raises: Refusal (404) if it was deleted meanwhile."""
    if (task := await loader.task(task_id)) is None:
        raise no_task(task_id)
    return task


@post(
    "/tasks/bulk",
    response_description="Number of tasks, and the cursor if there may be more.",
    summary="Cancel, retry or delete many tasks",
    status_code=200,
)
async def change_tasks(
    data: JSONBody[BulkRequest], pool: NamedDependency[Pool], caller: NamedDependency[Caller]
) -> BulkResult:
    """Acts on tasks by number, or on all that match a filter, newest first; `dry_run` counts them. Works in batches and
    stops after some seconds: if the answer has a `next_cursor`, send the same request again with it as `cursor`. A
    running task is told to stop (`force`: killed), and never deleted."""
    only = _filter(data, caller)
    statuses = [status for status in STATUSES[data.action] if not only.status or status in only.status]
    if data.ids is not None:
        matched = await db.count(pool, data.ids, statuses, only.queue)
        affected = 0 if data.dry_run else await _act(pool, data, data.ids, statuses, only.queue)
        return BulkResult(matched, affected, data.dry_run, None)
    below = None if data.cursor is None else place_of(data.cursor, only)
    result = BulkResult(0, 0, data.dry_run, None)
    if not statuses:
        return result
    walked = structs.replace(only, status=statuses)
    end = asyncio.get_running_loop().time() + SECONDS
    while True:
        found = await lists.page(pool, walked, below, COUNT_BATCH if data.dry_run else BATCH[data.action], "id")
        ids = [row[0] for row in found.rows]
        result.matched += len(ids)
        if ids and not data.dry_run:
            result.affected += await _act(pool, data, ids, statuses, only.queue)
        below = found.rest
        if below is None:
            return result
        if asyncio.get_running_loop().time() >= end:
            result.next_cursor = cursor_at(below, only)
            return result


def _filter(data: BulkRequest, caller: Caller) -> TaskFilter:
    """Raises: Refusal 400 if the request is unclear about its tasks, 403 for another queue than the caller's."""
    if data.force and data.action != "cancel":
        raise invalid("force", "is for cancel")
    if data.ids is not None:
        for name in ("filter", "all", "cursor"):
            if getattr(data, name):
                raise invalid(name, "cannot be given together with ids")
        return TaskFilter(queue=caller.queue)
    only = data.filter or TaskFilter()
    to_utc(only, "filter.")
    if only == TaskFilter() and not data.all:
        raise invalid("filter", "has no condition: give one, or ids, or say `all: true` for every task")
    return structs.replace(only, queue=caller.queue_of(only.queue))


async def _act(pool: Pool, data: BulkRequest, ids: Sequence[int], statuses: Sequence[Status], queue: str | None) -> int:
    size = BATCH[data.action]
    return sum(
        [
            await db.bulk(pool, data.action, ids[begin : begin + size], statuses, queue, force=data.force)
            for begin in range(0, len(ids), size)
        ]
    )
