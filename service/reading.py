"""Reading tasks one by one for many at once: while one statement is under way, the next requests gather for another."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")

# A statement. A task may have some MiB.
TASKS_MAX = 20


class Reader(Generic[T]):
    """When a thousand who waited for tasks want to see them, this asks for few connections, and twice for no task."""

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
