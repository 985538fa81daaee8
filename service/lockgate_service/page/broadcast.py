"""One look at everything, some times a second, for all who watch; none while nobody does."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from msgspec import Raw, Struct, json

from lockgate.log import logger
from lockgate_service.http.problems import unavailable
from lockgate_service.page import snapshot_db
from lockgate_service.page.snapshot import Json, Scene, TaskGlance, event, merge_patch
from lockgate_service.pool import Pool
from lockgate_service.single_flight import SingleFlight
from lockgate_service.stats import db
from lockgate_service.stats.routes import StatsCache

PAUSE_SECONDS = 0.4
SHARE = 5  # of the time: where a look takes long, there are fewer
RETRY_SECONDS = 1.0
HEARTBEAT_SECONDS = 15.0
VIEWERS_MAX = 5000
FOLLOWED_MAX = 1000  # tasks, for all viewers together
KEPT_MAX = 32  # messages: a viewer that is further behind begins anew
SEEN_MAX = 3000  # tasks: more than one look has

Queue = str | None
"""What a viewer is limited to; None: nothing."""


class Look(Struct, frozen=True):
    """Everything, and the tasks that most probably have changed since the look before."""

    scene: Scene
    tasks: list[TaskGlance]


@dataclass(eq=False, slots=True)
class Channel:
    """What all viewers of one queue, or of everything, are told: each message is made once."""

    scene: Json
    version: int = 0
    kept: deque[bytes] = field(default_factory=lambda: deque(maxlen=KEPT_MAX))
    news: asyncio.Event = field(default_factory=asyncio.Event)
    snapshot: tuple[int, bytes] = (-1, b"")
    """With the version that it is of."""

    def tell(self, message: bytes) -> None:
        self.kept.append(message)
        self.version += 1
        self.wake()

    def wake(self) -> None:
        self.news.set()
        self.news = asyncio.Event()

    def since(self, version: int) -> bytes | None:
        """What was told after that; None if that is not kept any more."""
        behind = self.version - version
        return b"".join(list(self.kept)[len(self.kept) - behind :]) if 0 <= behind <= len(self.kept) else None


class Broadcast:
    """All who watch in this process. However many they are, they cost the database one look; and however slow one is,
    it costs no more memory than what is on its way to it."""

    def __init__(self, pool: Pool, stats_cache: StatsCache, stopping: asyncio.Event) -> None:
        self._pool = pool
        self._stats_cache = stats_cache
        self._stopping = stopping
        self._latest = SingleFlight(self._look, PAUSE_SECONDS / 2, 1)
        self._viewers: Counter[Queue] = Counter()
        self._followed: Counter[int] = Counter()
        self._channels: dict[Queue, Channel] = {}
        self._seen: dict[int, tuple[str, bytes]] = {}
        """Queue and text of each task that was told of, those not seen for the longest time first."""
        self._lively: list[int] = []
        """The tasks of the latest look."""
        self._wanted = asyncio.Event()
        self._is_failing = False

    @property
    def viewers(self) -> int:
        """How many watch."""
        return self._viewers.total()

    async def refuse_if_unable(self, followed: Collection[int]) -> None:
        """Raises Refusal (503) and psycopg.Error if a stream cannot begin now."""
        if self.viewers >= VIEWERS_MAX:
            raise unavailable(f"{VIEWERS_MAX} viewers are watching already")
        if len(self._followed.keys() | set(followed)) > FOLLOWED_MAX:
            raise unavailable(f"{FOLLOWED_MAX} tasks are being followed already")
        await self._latest.get()

    async def scene(self) -> Scene:
        """As those who watch see it, or would. Raises what reading it raises."""
        return (await self._latest.get()).scene

    async def stream(self, queue: Queue, followed: Collection[int]) -> AsyncIterator[bytes]:
        """A snapshot, and what changes after that; an empty comment now and then. Ends when the service stops. Raises
        Refusal (503) and psycopg.Error, before the snapshot."""
        with self._viewer(queue, followed):
            if queue not in self._channels:
                look = await self._latest.get()
                self._channels.setdefault(queue, Channel(look.scene.of(queue)))
            channel = self._channels[queue]
            version = -1
            while not self._stopping.is_set():
                news = channel.news
                message = channel.since(version)
                if message is None:
                    message = self._snapshot(queue, channel)
                version = channel.version
                if message:
                    yield message
                    continue  # there may be more by now
                with suppress(TimeoutError):
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        await news.wait()
                        continue
                yield b":\n\n"

    async def run(self) -> None:
        """Never returns."""
        while True:
            await self._wanted.wait()
            if not self.viewers:
                self._channels.clear()
                self._seen.clear()
                self._lively = []
                self._wanted.clear()
                continue
            begin = time.monotonic()
            try:
                self._publish(await self._latest.get())
            except Exception as error:  # every one: this task must outlive them
                if not self._is_failing:
                    logger.warning("cannot read the snapshot", error=str(error))
                    for channel in self._channels.values():
                        channel.tell(event("unavailable", {}))
                self._is_failing = True
                await asyncio.sleep(RETRY_SECONDS)
            else:
                took = time.monotonic() - begin
                await asyncio.sleep(max(PAUSE_SECONDS - took, (SHARE - 1) * took))

    async def end_all(self) -> None:
        """Waits until the service stops, and then has everybody go."""
        await self._stopping.wait()
        for channel in self._channels.values():
            channel.wake()

    @contextmanager
    def _viewer(self, queue: Queue, followed: Collection[int]) -> Iterator[None]:
        self._viewers[queue] += 1
        self._followed.update(followed)
        self._wanted.set()
        try:
            yield
        finally:
            self._viewers[queue] -= 1
            if not self._viewers[queue]:
                del self._viewers[queue]
                self._channels.pop(queue, None)
            self._followed.subtract(followed)
            self._followed += Counter()  # without those that nobody follows any more

    async def _look(self) -> Look:
        # One after another: on one connection at a time.
        stats = await self._stats_cache.stats()
        series = await self._stats_cache.series(db.HOUR, 60)
        slots = await snapshot_db.slots(self._pool)
        runners = await snapshot_db.runners(self._pool)
        tasks = await snapshot_db.lively_tasks(self._pool, list(self._followed))
        return Look(Scene(stats, slots, runners, series), tasks)

    def _publish(self, look: Look) -> None:
        changed, gone = self._compare(look.tasks)
        for queue, channel in self._channels.items():
            scene = look.scene.of(queue)
            patch = merge_patch(channel.scene, scene)
            channel.scene = scene
            message = event("change", patch) if self._is_failing or patch.keys() - {"time"} else b""
            items = [Raw(text) for its_queue, text in changed if queue in (None, its_queue)]
            lost = [number for its_queue, number in gone if queue in (None, its_queue)]
            if items or lost:
                message += event("tasks", {"items": items, "gone": lost})
            if message:
                channel.tell(message)
        self._is_failing = False

    def _compare(self, tasks: Iterable[TaskGlance]) -> tuple[list[tuple[str, bytes]], list[tuple[str, int]]]:
        """The tasks that are not as they were, and the numbers of those that are gone, each with its queue."""
        now = {task.id: (task.queue, json.encode(task)) for task in tasks}
        changed = [one for number, one in now.items() if self._seen.get(number) != one]
        # Of the newest tasks, and of those that are followed, one that is not there is not anywhere.
        oldest = sorted(now, reverse=True)[snapshot_db.NEWEST - 1] if len(now) >= snapshot_db.NEWEST else 0
        expected = {number for number in self._lively if number > oldest} | self._followed.keys()
        gone = [(self._seen.pop(number)[0], number) for number in expected - now.keys() if number in self._seen]
        for number, one in now.items():
            self._seen.pop(number, None)
            self._seen[number] = one
        for number in list(self._seen)[: max(0, len(self._seen) - SEEN_MAX)]:
            del self._seen[number]
        self._lively = list(now)
        return changed, gone

    def _snapshot(self, queue: Queue, channel: Channel) -> bytes:
        version, snapshot = channel.snapshot
        if version != channel.version:
            seen = [self._seen[number] for number in self._lively if number in self._seen]
            items = [Raw(text) for its_queue, text in seen if queue in (None, its_queue)]
            snapshot = event("snapshot", channel.scene) + event("tasks", {"items": items, "gone": []})
            channel.snapshot = (channel.version, snapshot)
        return snapshot
