"""GET /events: the snapshot and its changes as a stream, which the page is built on. The broadcast reads an update some
times a second, once for all viewers; none while there are no viewers."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import QueryParameter
from litestar.response import Stream
from msgspec import Raw, Struct, json

from lockgate.log import logger
from lockgate_service.auth.keys import Caller, Keys
from lockgate_service.http.errors import refusal
from lockgate_service.http.problems import unavailable
from lockgate_service.page.snapshot import (
    NEWEST,
    Json,
    Snapshot,
    TaskRow,
    event,
    merge_patch,
    read_runners,
    read_slots,
    read_tasks,
)
from lockgate_service.pool import Pool
from lockgate_service.single_flight import SingleFlight
from lockgate_service.stats import db
from lockgate_service.stats.routes import StatsCache

MEDIA_TYPE = "text/event-stream"
RETRY_MILLISECONDS = 2000  # of a browser that has lost the stream
PAUSE_SECONDS = 0.4
SHARE = 5  # of the time: where an update takes long to read, there are fewer
RETRY_SECONDS = 1.0
HEARTBEAT_SECONDS = 15.0
VIEWERS_MAX = 5000
FOLLOWED_MAX = 1000  # tasks, for all viewers together
KEPT_MAX = 32  # messages: a viewer that is further behind begins anew
SEEN_MAX = 3000  # tasks: more than one update has

Queue = str | None
"""The queue that a viewer is limited to; None: all."""


class Update(Struct, frozen=True):
    """The snapshot, and the tasks that most probably have changed since the update before."""

    snapshot: Snapshot
    tasks: list[TaskRow]


@dataclass(eq=False, slots=True)
class Channel:
    """The messages to all viewers of one queue, or of all queues: each is encoded once."""

    state: Json
    version: int = 0
    kept: deque[bytes] = field(default_factory=lambda: deque(maxlen=KEPT_MAX))
    news: asyncio.Event = field(default_factory=asyncio.Event)
    snapshot: tuple[int, bytes] = (-1, b"")
    """The event, and the version that it is of."""

    def tell(self, message: bytes) -> None:
        self.kept.append(message)
        self.version += 1
        self.wake()

    def wake(self) -> None:
        self.news.set()
        self.news = asyncio.Event()

    def since(self, version: int) -> bytes | None:
        """The messages after that version; None if they are not kept any more."""
        behind = self.version - version
        return b"".join(list(self.kept)[len(self.kept) - behind :]) if 0 <= behind <= len(self.kept) else None


class Broadcast:
    """All viewers of this process share one read of the database. A slow viewer costs no more memory than the messages
    on their way to it."""

    def __init__(self, pool: Pool, stats_cache: StatsCache, stopping: asyncio.Event) -> None:
        self._pool = pool
        self._stats_cache = stats_cache
        self._stopping = stopping
        self._latest = SingleFlight(self._read, PAUSE_SECONDS / 2, 1)
        self._viewers: Counter[Queue] = Counter()
        self._followed: Counter[int] = Counter()
        self._channels: dict[Queue, Channel] = {}
        self._seen: dict[int, tuple[str, bytes]] = {}
        """Queue and text of each task that was sent, those not seen for the longest time first."""
        self._lively: list[int] = []
        """The tasks of the latest update."""
        self._wanted = asyncio.Event()
        self._is_failing = False

    @property
    def viewers(self) -> int:
        """How many there are."""
        return self._viewers.total()

    async def refuse_if_unable(self, followed: Collection[int]) -> None:
        """Raises Refusal (503) and psycopg.Error if a stream cannot begin now."""
        if self.viewers >= VIEWERS_MAX:
            raise unavailable(f"{VIEWERS_MAX} viewers are watching already")
        if len(self._followed.keys() | set(followed)) > FOLLOWED_MAX:
            raise unavailable(f"{FOLLOWED_MAX} tasks are being followed already")
        await self._latest.get()

    async def snapshot(self) -> Snapshot:
        """As viewers see it. Raises what reading it raises."""
        return (await self._latest.get()).snapshot

    async def stream(self, queue: Queue, followed: Collection[int]) -> AsyncIterator[bytes]:
        """A snapshot, and what changes after that; an empty comment now and then. Ends when the service stops. Raises
        Refusal (503) and psycopg.Error, before the snapshot."""
        with self._viewer(queue, followed):
            if queue not in self._channels:
                update = await self._latest.get()
                self._channels.setdefault(queue, Channel(update.snapshot.of(queue)))
            channel = self._channels[queue]
            version = -1
            while not self._stopping.is_set():
                news = channel.news
                message = channel.since(version)
                if message is None:
                    message = self._snapshot_event(queue, channel)
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
        """Waits until the service stops, and then ends all streams."""
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
            self._followed += Counter()  # drops those that no viewer follows any more

    async def _read(self) -> Update:
        # One after another: on one connection at a time.
        stats = await self._stats_cache.stats()
        series = await self._stats_cache.series(db.HOUR, 60)
        slots = await read_slots(self._pool)
        runners = await read_runners(self._pool)
        tasks = await read_tasks(self._pool, list(self._followed))
        return Update(Snapshot(stats, slots, runners, series), tasks)

    def _publish(self, update: Update) -> None:
        changed, gone = self._compare(update.tasks)
        for queue, channel in self._channels.items():
            snapshot = update.snapshot.of(queue)
            patch = merge_patch(channel.state, snapshot)
            channel.state = snapshot
            message = event("change", patch) if self._is_failing or patch.keys() - {"time"} else b""
            items = [Raw(text) for its_queue, text in changed if queue in (None, its_queue)]
            lost = [number for its_queue, number in gone if queue in (None, its_queue)]
            if items or lost:
                message += event("tasks", {"items": items, "gone": lost})
            if message:
                channel.tell(message)
        self._is_failing = False

    def _compare(self, tasks: Iterable[TaskRow]) -> tuple[list[tuple[str, bytes]], list[tuple[str, int]]]:
        """The tasks that have changed, and the numbers of those that are gone, each with its queue."""
        now = {task.id: (task.queue, json.encode(task)) for task in tasks}
        changed = [one for number, one in now.items() if self._seen.get(number) != one]
        # A task that is missing from the newest, or from those that viewers follow, is deleted.
        oldest = sorted(now, reverse=True)[NEWEST - 1] if len(now) >= NEWEST else 0
        expected = {number for number in self._lively if number > oldest} | self._followed.keys()
        gone = [(self._seen.pop(number)[0], number) for number in expected - now.keys() if number in self._seen]
        for number, one in now.items():
            self._seen.pop(number, None)
            self._seen[number] = one
        for number in list(self._seen)[: max(0, len(self._seen) - SEEN_MAX)]:
            del self._seen[number]
        self._lively = list(now)
        return changed, gone

    def _snapshot_event(self, queue: Queue, channel: Channel) -> bytes:
        version, message = channel.snapshot
        if version != channel.version:
            seen = [self._seen[number] for number in self._lively if number in self._seen]
            items = [Raw(text) for its_queue, text in seen if queue in (None, its_queue)]
            message = event("snapshot", channel.state) + event("tasks", {"items": items, "gone": []})
            channel.snapshot = (channel.version, message)
        return message


@get(
    "/events",
    summary="Everything, live",
    responses={
        200: ResponseSpec(
            str,
            media_type=MEDIA_TYPE,
            description="Events `snapshot`, `change`, `tasks` and `unavailable`.",
            generate_examples=False,
        ),
    },
)
async def stream_events(
    broadcast: NamedDependency[Broadcast],
    keys: NamedDependency[Keys],
    caller: NamedDependency[Caller],
    queue: Annotated[str | None, QueryParameter(description="Only what is about this queue.")] = None,
    tasks: Annotated[
        str | None,
        QueryParameter(
            description="Numbers of tasks to be followed too, up to 100, with commas in between.",
            pattern="^[0-9]{1,18}(,[0-9]{1,18}){0,99}$",
        ),
    ] = None,
) -> Stream:
    """First a `snapshot`: one object with `time`, `all` and `queues` (the numbers of `/stats`), `slots`, `runners`
    (those alive) and `series` (the last hour by the minute; not with `queue`). Then, two or three times a second at
    most, a `change`: what is new in that object, as a JSON Merge Patch (RFC 7396). What is null is left out of both.

    Beside it `tasks`: `items` are tasks that are new or have changed, `gone` the numbers of deleted ones. It tells of
    the newest fifty, of those that execute, of those that ended a moment ago, and of those to be followed.

    `unavailable` says that the database cannot be asked; the next `change` says that it can. A viewer that reads too
    slowly is given another `snapshot` in place of what it has missed. A comment every 15 seconds shows that the
    connection lives. When the service stops the stream ends: connect again. However many watch, the database is asked
    once."""
    followed = [int(number) for number in tasks.split(",")] if tasks else []
    queue = caller.queue_of(queue)
    await broadcast.refuse_if_unable(followed)
    events = _events(broadcast, queue, followed, partial(keys.recheck, caller))
    return Stream(events, media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


async def _events(
    broadcast: Broadcast, queue: Queue, followed: Collection[int], recheck: Callable[[], Awaitable[None]]
) -> AsyncIterator[bytes]:
    yield b"retry: %d\n\n" % RETRY_MILLISECONDS
    try:
        async for message in broadcast.stream(queue, followed):
            await recheck()
            yield message
    except Exception as error:
        why = refusal(error)
        if why is None:
            raise
        logger.warning("stream ended", why=why.detail)
