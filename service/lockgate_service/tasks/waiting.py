"""Waits for tasks, and sends a task as events. One statement polls all tasks that requests wait for."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import HeaderParameter
from litestar.response import ServerSentEvent, ServerSentEventMessage
from litestar.types import Receive
from msgspec import json

from lockgate.log import logger
from lockgate_service.auth.keys import Caller, Keys
from lockgate_service.http.errors import refusal
from lockgate_service.http.params import TaskId
from lockgate_service.http.problems import no_task, unavailable
from lockgate_service.pool import Pool
from lockgate_service.tasks import db
from lockgate_service.tasks.loader import TaskLoader
from lockgate_service.tasks.messages import TaskDetail, TaskSummary, TaskVersion

# Seconds between two polls. There is no notification of an end: NOTIFY serialises commits and would slow down runners.
# A poll costs Postgres about as much as reading one task, plus some microseconds for each further task.
PAUSE_SECONDS = 0.05
PAUSE_SECONDS_MAX = 0.5
SHARE = 10  # polls take at most a tenth of the time
RETRY_SECONDS = 1.0
WAITERS_MAX = 5000
GONE = TaskVersion(None, True)
HEARTBEAT_SECONDS = 15.0
END_ID = "end"
"""The id of the last event: an EventSource reconnects when a stream ends, and sends it as Last-Event-ID."""


@dataclass(eq=False, slots=True)
class Waiter:
    """A request that waits for one task, since the poll of that number."""

    since: int
    version: TaskVersion | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def change(self) -> TaskVersion | None:
        """Returns when the task has changed since the last call, or the service stops. The first call returns the
        current version."""
        await self.changed.wait()
        self.changed.clear()
        return self.version


class Waiters:
    """All waiting requests of this process. They share one connection to Postgres, and hold none between polls."""

    def __init__(self, pool: Pool, stopping: asyncio.Event) -> None:
        self._pool = pool
        self._stopping = stopping
        self._waiting: dict[int, set[Waiter]] = {}
        self._number = 0
        self._poll = 0
        self._wanted = asyncio.Event()
        self._is_failing = False

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    @property
    def is_full(self) -> bool:
        return self._number >= WAITERS_MAX

    def refuse_if_full(self) -> None:
        """Raises: Refusal (503)."""
        if self.is_full:
            raise unavailable(f"{WAITERS_MAX} requests are waiting already")

    @contextmanager
    def waiter(self, task_id: int) -> Iterator[Waiter]:
        waiter = Waiter(self._poll)
        if self.is_stopping:
            waiter.changed.set()
        self._waiting.setdefault(task_id, set()).add(waiter)
        self._number += 1
        self._wanted.set()
        try:
            yield waiter
        finally:
            self._number -= 1
            self._waiting[task_id].discard(waiter)
            if not self._waiting[task_id]:
                del self._waiting[task_id]

    async def end(self, task_id: int, seconds: float, receive: Receive) -> None:
        """Returns when the task has ended or is gone, after `seconds`, when the service stops, or when the client hangs
        up."""
        with self.waiter(task_id) as waiter, suppress(TimeoutError):
            hanging_up = asyncio.create_task(_hung_up(receive))
            hanging_up.add_done_callback(lambda _: waiter.changed.set())
            try:
                async with asyncio.timeout(seconds):
                    while not (self.is_stopping or hanging_up.done()):
                        if (version := await waiter.change()) and version.has_ended:
                            return
            finally:
                hanging_up.cancel()

    async def run(self) -> None:
        """Never returns."""
        while True:
            await self._wanted.wait()
            if not self._waiting:
                self._wanted.clear()
                continue
            begin = asyncio.get_running_loop().time()
            self._poll += 1
            try:
                self._tell(await db.versions(self._pool, list(self._waiting)))
                self._is_failing = False
            except Exception as error:  # all of them: this task must go on
                if not self._is_failing:
                    logger.warning("cannot poll tasks", error=str(error))
                self._is_failing = True
                await asyncio.sleep(RETRY_SECONDS)
            took = asyncio.get_running_loop().time() - begin
            await asyncio.sleep(min(max(PAUSE_SECONDS, (SHARE - 1) * took), PAUSE_SECONDS_MAX))

    async def end_all(self) -> None:
        """Ends all waits when the service stops."""
        await self._stopping.wait()
        for waiters in self._waiting.values():
            for waiter in waiters:
                waiter.changed.set()

    def _tell(self, versions: Mapping[int, TaskVersion]) -> None:
        """Skips the waiters that came after the poll began: it did not ask for their tasks."""
        for task_id, waiters in self._waiting.items():
            version = versions.get(task_id, GONE)
            for waiter in waiters:
                if waiter.since < self._poll and waiter.version != version:
                    waiter.version = version
                    waiter.changed.set()


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@get(
    "/tasks/{task_id:int}/events",
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
