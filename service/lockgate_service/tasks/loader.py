"""Loads tasks for many concurrent requests in few statements."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Generic, TypeVar

from lockgate.log import logger
from lockgate_service.http.problems import Refusal
from lockgate_service.pool import Pool
from lockgate_service.tasks import db
from lockgate_service.tasks.messages import TaskDetail, TaskSummary

T = TypeVar("T")

TASKS_MAX = 20  # per statement; a task may have some MiB
# Seconds. Counting positions is slow while an old transaction keeps the dead index entries of claimed tasks.
POSITION_LIMIT = 0.25
POSITION_PAUSE = 5.0


class Loader(Generic[T]):
    """A DataLoader: while one statement is under way, further requests collect for the next. A thousand requests that
    waited for tasks then take one connection, and Postgres reads no task twice."""

    def __init__(self, read: Callable[[Sequence[int]], Awaitable[Mapping[int, T]]]) -> None:
        self._read = read
        self._waiting: dict[int, asyncio.Future[T | None]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def load(self, task_id: int) -> T | None:
        """The task as it is after this call; None: there is no such task. Raises: what `read` raises."""
        future = self._waiting.setdefault(task_id, asyncio.get_running_loop().create_future())
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_waiting())
        return await asyncio.shield(future)  # other requests may await it too

    async def _read_waiting(self) -> None:
        try:
            while self._waiting:
                ids = list(islice(self._waiting, TASKS_MAX))
                futures = [self._waiting.pop(task_id) for task_id in ids]
                try:
                    found = await self._read(ids)
                    for task_id, future in zip(ids, futures, strict=True):
                        future.set_result(found.get(task_id))
                except Exception as error:  # all of them: the requests handle it
                    for future in futures:
                        future.set_exception(error)
                        future.exception()  # marks it as retrieved, for when every request has gone
        finally:
            self._reading = None


class TaskLoader:
    """Loads tasks as the API shows them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._positions_again = 0.0
        self.detail: Loader[TaskDetail] = Loader(self._details)
        self.summary: Loader[TaskSummary] = Loader(partial(db.summaries, pool))

    async def task(self, task_id: int) -> TaskDetail | None:
        """For a request that does not come together with many others. None: there is no such task."""
        return (await self._details([task_id])).get(task_id)

    async def _details(self, ids: Sequence[int]) -> dict[int, TaskDetail]:
        """After positions took too long, leaves them out for POSITION_PAUSE."""
        if time.monotonic() >= self._positions_again:
            try:
                return await db.details(self._pool, ids, POSITION_LIMIT)
            except Refusal as why:
                self._positions_again = time.monotonic() + POSITION_PAUSE
                logger.warning("positions left out", seconds=POSITION_PAUSE, why=why.detail)
        return await db.details(self._pool, ids, with_position=False)
