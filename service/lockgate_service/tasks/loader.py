"""Reading tasks whole, for one or for many at once."""

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

# A statement. A task may have some MiB.
TASKS_MAX = 20
# Seconds. What was claimed while an old transaction is open is in the way of whoever counts what is ahead of a task.
POSITION_LIMIT = 0.25
POSITION_PAUSE = 5.0


class Reader(Generic[T]):
    """While one statement is under way, the next requests gather for another: a thousand who waited for tasks and want
    to see them take few connections, and no task is asked for twice."""

    def __init__(self, read: Callable[[Sequence[int]], Awaitable[Mapping[int, T]]]) -> None:
        self._read = read
        self._waiting: dict[int, asyncio.Future[T | None]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def task(self, task_id: int) -> T | None:
        """The task as it is after this was called; None if there is none. Raises what `read` raises."""
        future = self._waiting.setdefault(task_id, asyncio.get_running_loop().create_future())
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_waiting())
        return await asyncio.shield(future)  # which others may wait for too

    async def _read_waiting(self) -> None:
        try:
            while self._waiting:
                ids = list(islice(self._waiting, TASKS_MAX))
                futures = [self._waiting.pop(task_id) for task_id in ids]
                try:
                    found = await self._read(ids)
                    for task_id, future in zip(ids, futures, strict=True):
                        future.set_result(found.get(task_id))
                except Exception as error:  # every one: it belongs to those who wait
                    for future in futures:
                        future.set_exception(error)
                        future.exception()  # has been seen, also if nobody waits any more
        finally:
            self._reading = None


class TaskReaders:
    """How a task is shown."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._positions_again = 0.0
        self.detail: Reader[TaskDetail] = Reader(self._details)
        self.summary: Reader[TaskSummary] = Reader(partial(db.summaries, pool))

    async def task(self, task_id: int) -> TaskDetail | None:
        """For one who does not come with many others. None if there is no such task."""
        return (await self._details([task_id])).get(task_id)

    async def _details(self, ids: Sequence[int]) -> dict[int, TaskDetail]:
        """Without positions, for a while, once they took too long."""
        if time.monotonic() >= self._positions_again:
            try:
                return await db.details(self._pool, ids, POSITION_LIMIT)
            except Refusal as why:
                self._positions_again = time.monotonic() + POSITION_PAUSE
                logger.warning("positions are left out for a while", why=why.detail)
        return await db.details(self._pool, ids, with_position=False)
