"""Waits for tasks to change or end: one statement polls all tasks that any request waits for."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from litestar.types import Receive

from lockgate.log import logger
from lockgate_service.http.problems import unavailable
from lockgate_service.pool import Pool
from lockgate_service.tasks import db
from lockgate_service.tasks.messages import TaskVersion

# Seconds between two polls. There is no notification of an end: NOTIFY serialises commits and would slow down runners.
# A poll costs Postgres about as much as reading one task, plus some microseconds for each further task.
PAUSE_SECONDS = 0.05
PAUSE_SECONDS_MAX = 0.5
SHARE = 10  # polls take at most a tenth of the time
RETRY_SECONDS = 1.0
WAITERS_MAX = 5000
GONE = TaskVersion(None, True)


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
