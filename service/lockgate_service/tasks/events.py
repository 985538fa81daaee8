"""A task as a stream of events, until it has ended."""

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
from lockgate_service.auth.caller import Caller
from lockgate_service.auth.keys import Keys
from lockgate_service.http.errors import refusal
from lockgate_service.http.params import TaskId
from lockgate_service.http.problems import no_task
from lockgate_service.openapi.docs import NO_TASK, problems
from lockgate_service.tasks.loader import TaskReaders
from lockgate_service.tasks.messages import TaskDetail, TaskSummary
from lockgate_service.tasks.waiting import Waiters

HEARTBEAT_SECONDS = 15.0
END_ID = "end"
"""An EventSource connects again when a stream ends, and says this number of the last event then."""


@get(
    "/tasks/{task_id:int}/events",
    operation_id="watchTask",
    summary="A task as events",
    tags=["tasks"],
    responses={
        200: ResponseSpec(
            str,
            media_type="text/event-stream",
            description="Events `task`, each with the task as lists show it, and a last one: `end`, with the task "
            "whole, or `deleted`.",
            generate_examples=False,
        ),
        204: ResponseSpec(None, description="`Last-Event-ID` says that the end has been seen."),
        **problems(400, 503, missing=NO_TASK),
    },
)
async def watch_task(
    task_id: TaskId,
    waiters: NamedDependency[Waiters],
    readers: NamedDependency[TaskReaders],
    keys: NamedDependency[Keys],
    caller: NamedDependency[Caller],
    last_event: Annotated[
        str | None, HeaderParameter(name="Last-Event-ID", description="As an EventSource sends it.")
    ] = None,
) -> Response[Any]:
    """How the task is now, and every time it has changed; the stream closes with its end. Changes that follow each
    other within some 50 ms come as one. A comment every 15 seconds shows that the connection lives. When the service
    stops, the stream closes without an end: connect again."""
    waiters.refuse_if_full()
    task = await readers.summary.task(task_id)
    if task is None:
        raise no_task(task_id)
    if last_event == END_ID and task.finish_time is not None:
        return Response(None, status_code=204)
    return ServerSentEvent(_events(task_id, waiters, readers, partial(keys.recheck, caller)))


async def _events(
    task_id: int, waiters: Waiters, readers: TaskReaders, recheck: Callable[[], Awaitable[None]]
) -> AsyncIterator[ServerSentEventMessage]:
    with waiters.waiter(task_id) as waiter:
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    sight = await waiter.change()
            except TimeoutError:
                sight = None
            if waiters.is_stopping:
                return
            task: TaskSummary | None
            try:
                await recheck()
                if sight is None:
                    yield ServerSentEventMessage(data=None, comment="still here")
                    continue
                task = await (readers.detail if sight.has_ended else readers.summary).task(task_id)
            except Exception as error:
                why = refusal(error)
                if why is None:
                    raise
                logger.warning("a stream ends", task=task_id, why=why.detail)
                return
            if task is None:
                yield ServerSentEventMessage(data=json.encode({"id": task_id}), event="deleted", id=END_ID)
                return
            has_ended = isinstance(task, TaskDetail) and task.finish_time is not None
            yield ServerSentEventMessage(
                data=json.encode(task), event="end" if has_ended else "task", id=END_ID if has_ended else sight.version
            )
            if has_ended:
                return
