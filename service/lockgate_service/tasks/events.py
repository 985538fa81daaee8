"""A task as server-sent events, until it has ended."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Annotated, Any

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import HeaderParameter
from litestar.response import ServerSentEvent, ServerSentEventMessage
from msgspec import json

from lockgate.log import logger
from lockgate_service.auth.keys import Caller, Keys
from lockgate_service.http.errors import refusal
from lockgate_service.http.params import TaskId
from lockgate_service.http.problems import no_task
from lockgate_service.http.responses import NO_TASK, problems
from lockgate_service.tasks.loader import TaskLoader
from lockgate_service.tasks.messages import TaskDetail, TaskSummary
from lockgate_service.tasks.waiting import Waiters

HEARTBEAT_SECONDS = 15.0
END_ID = "end"
"""The id of the last event: an EventSource reconnects when a stream ends, and sends it as Last-Event-ID."""


@get(
    "/tasks/{task_id:int}/events",
    operation_id="watchTask",
    summary="A task as events",
    responses={
        200: ResponseSpec(
            str,
            media_type="text/event-stream",
            description="Events `task`, each with the task as lists show it, and a last event: `end`, with the whole "
            "task, or `deleted`.",
            generate_examples=False,
        ),
        204: ResponseSpec(None, description="The client has seen the last event, by its `Last-Event-ID`."),
        **problems(missing=NO_TASK),
    },
)
async def watch_task(
    task_id: TaskId,
    waiters: NamedDependency[Waiters],
    loader: NamedDependency[TaskLoader],
    keys: NamedDependency[Keys],
    caller: NamedDependency[Caller],
    last_event: Annotated[
        str | None, HeaderParameter(name="Last-Event-ID", description="As an EventSource sends it.")
    ] = None,
) -> Response[Any]:
    """Sends the task at once and after every change, and closes when the task ends. Changes within about 50 ms are one
    event. A comment every 15 seconds keeps the connection alive. When the service stops, the stream closes without a
    last event: reconnect."""
    waiters.refuse_if_full()
    task = await loader.summary.load(task_id)
    if task is None:
        raise no_task(task_id)
    if last_event == END_ID and task.finish_time is not None:
        return Response(None, status_code=204)
    return ServerSentEvent(_events(task_id, waiters, loader, partial(keys.recheck, caller)))


async def _events(
    task_id: int, waiters: Waiters, loader: TaskLoader, recheck: Callable[[], Awaitable[None]]
) -> AsyncIterator[ServerSentEventMessage]:
    with waiters.waiter(task_id) as waiter:
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    version = await waiter.change()
            except TimeoutError:
                version = None
            if waiters.is_stopping:
                return
            task: TaskSummary | None
            try:
                await recheck()
                if version is None:
                    yield ServerSentEventMessage(data=None, comment="still here")
                    continue
                task = await (loader.detail if version.has_ended else loader.summary).load(task_id)
            except Exception as error:
                why = refusal(error)
                if why is None:
                    raise
                logger.warning("stream ended", task=task_id, why=why.detail)
                return
            if task is None:
                yield ServerSentEventMessage(data=json.encode({"id": task_id}), event="deleted", id=END_ID)
                return
            has_ended = isinstance(task, TaskDetail) and task.finish_time is not None
            yield ServerSentEventMessage(
                data=json.encode(task),
                event="end" if has_ended else "task",
                id=END_ID if has_ended else version.version,
            )
            if has_ended:
                return
