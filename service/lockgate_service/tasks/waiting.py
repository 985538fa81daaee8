"""Waiting for tasks to change or end: one statement, now and then, asks about all that anybody waits for."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from litestar.types import Receive

from lockgate.log import logger
from lockgate_service.http.problems import unavailable
from lockgate_service.pool import Pool
from lockgate_service.tasks import db
from lockgate_service.tasks.messages import Sight

# Seconds between two looks. Nobody is notified of an end: notifications serialise commits, and it is runners that would
# pay. A look costs the database about as much as one read of one task, and some microseconds for each task more.
PAUSE_SECONDS = 0.05
PAUSE_SECONDS_MAX = 0.5
SHARE = 10  # of the time: where a look takes long, there are fewer
RETRY_SECONDS = 1.0
WAITERS_MAX = 5000
GONE = Sight(None, True)


@dataclass(eq=False, slots=True)
class Waiter:
    """Somebody who waits for one task, since the look of that number."""

    since: int
    sight: Sight | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def change(self) -> Sight | None:
        """Returns when the task is not as it was when this was last called, or as soon as the service stops."""
        await self.news.wait()
        self.news.clear()
        return self.sight


class Waiters:
    """All who wait in this process. However many they are, they hold no connection to the database."""

    def __init__(self, pool: Pool, stopping: asyncio.Event) -> None:
        self._pool = pool
        self._stopping = stopping
        self._waiting: dict[int, set[Waiter]] = {}
        self._number = 0
        self._look = 0
        self._wanted = asyncio.Event()
        self._is_failing = False

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    @property
    def is_full(self) -> bool:
        return self._number >= WAITERS_MAX

    def refuse_if_full(self) -> None:
        """Raises Refusal (503)."""
        if self.is_full:
            raise unavailable(f"{WAITERS_MAX} requests are waiting already")

    @contextmanager
    def waiter(self, task_id: int) -> Iterator[Waiter]:
        """Its first news is how the task is now."""
        waiter = Waiter(self._look)
        if self.is_stopping:
            waiter.news.set()
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
        """Returns when the task has ended or is gone, after that time, as soon as the service stops, or when whoever
        asked has hung up."""
        with self.waiter(task_id) as waiter, suppress(TimeoutError):
            hanging_up = asyncio.create_task(_hung_up(receive))
            hanging_up.add_done_callback(lambda _: waiter.news.set())
            try:
                async with asyncio.timeout(seconds):
                    while not (self.is_stopping or hanging_up.done()):
                        if (sight := await waiter.change()) and sight.has_ended:
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
            self._look += 1
            try:
                self._tell(await db.sights(self._pool, list(self._waiting)))
                self._is_failing = False
            except Exception as error:  # every one: this task must outlive them
                if not self._is_failing:
                    logger.warning("those who wait for tasks learn nothing", error=str(error))
                self._is_failing = True
                await asyncio.sleep(RETRY_SECONDS)
            took = asyncio.get_running_loop().time() - begin
            await asyncio.sleep(min(max(PAUSE_SECONDS, (SHARE - 1) * took), PAUSE_SECONDS_MAX))

    async def end_all(self) -> None:
        """Waits until the service stops, and then has everybody go."""
        await self._stopping.wait()
        for waiters in self._waiting.values():
            for waiter in waiters:
                waiter.news.set()

    def _tell(self, sights: Mapping[int, Sight]) -> None:
        """Those who were waiting when the look began: it has not asked for the tasks of others."""
        for task_id, waiters in self._waiting.items():
            sight = sights.get(task_id, GONE)
            for waiter in waiters:
                if waiter.since < self._look and waiter.sight != sight:
                    waiter.sight = sight
                    waiter.news.set()


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
