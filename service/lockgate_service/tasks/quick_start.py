"""The quick start: a task without settings, and its status."""

from typing import Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from msgspec import Raw

from lockgate_service.http.params import TaskId
from lockgate_service.http.problems import invalid, no_task
from lockgate_service.http.responses import LOCATION, NO_TASK, problems
from lockgate_service.pool import Pool
from lockgate_service.tasks import db
from lockgate_service.tasks.group_commit import refused
from lockgate_service.tasks.messages import BriefTask, NewTask
from lockgate_service.tasks.routes import Deps


@post(
    "/task",
    operation_id="createSleepTask",
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


@get(
    "/task/{task_id:int}",
    operation_id="getTaskBriefly",
    response_description="The task.",
    summary="Status of a task",
    responses=problems(missing=NO_TASK),
)
async def get_task_briefly(task_id: TaskId, pool: NamedDependency[Pool]) -> BriefTask:
    """Status and times."""
    if (task := await db.brief_task(pool, task_id)) is None:
        raise no_task(task_id)
    return task
