"""The intake, read first: deliveries come in, batches are stored, and only then acknowledged."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from aiormq.abc import AbstractChannel, AbstractConnection

from lockgate.log import logger
from lockgate_service.amqp import broker
from lockgate_service.amqp.broker import CALL_LIMIT, Lost, backoff, words
from lockgate_service.amqp.intake import topology
from lockgate_service.amqp.intake.counters import Counters
from lockgate_service.amqp.intake.dead_letters import InvalidQueue
from lockgate_service.amqp.intake.delivery import Delivery
from lockgate_service.amqp.intake.inbox import Inbox
from lockgate_service.amqp.intake.mapping import Asked, asked
from lockgate_service.amqp.intake.settings import Settings
from lockgate_service.amqp.url import place
from lockgate_service.health import Health
from lockgate_service.http.errors import refusal
from lockgate_service.http.problems import Refusal
from lockgate_service.pool import Pool
from lockgate_service.tasks import db
from lockgate_service.tasks.group_commit import bisect, refused
from lockgate_service.tasks.notify import Notifier

# Seconds.
STOP_LIMIT = 10.0
LOOK_EVERY = 5.0
REFUSED_FOR_GOOD = frozenset({400, 413, 422})

Pair = tuple[Delivery, Asked]
Refused = tuple[Delivery, Refusal]


class Intake:
    """Runs until it is told to stop. Whatever goes away meanwhile, it waits for it and goes on."""

    def __init__(self, settings: Settings, pool: Pool, notifier: Notifier) -> None:
        self.counters = Counters()
        self.is_consuming = False
        self._settings = settings
        self._pool = pool
        self._notifier = notifier
        self._health = Health(pool)
        self._stopping = asyncio.Event()
        self._inbox = Inbox()
        self._backoff = backoff()  # between tries to reach the broker

    def stop(self) -> None:
        """Finish the batch that is under way, and no more."""
        self._stopping.set()
        self._inbox.close()

    async def run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._database()
                async with self._connected() as (consuming, publishing):
                    await self._consume(consuming, publishing)
            except* broker.TROUBLE as group:
                error = _first(group)
                logger.warning("broker lost", broker=place(self._settings.amqp_url), error=words(error))
            finally:
                self.is_consuming = False
            await self._pause(self._backoff.next())

    # -- the broker ---------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[AbstractConnection, AbstractConnection]]:
        """Two connections: when the broker is short of memory or disk it stops to read from those that publish, and
        acknowledgements have to get through."""
        name = f"lockgate-intake {socket.gethostname()}"
        consuming = await broker.connect(self._settings.amqp_url, name)
        try:
            publishing = await broker.connect(self._settings.amqp_url, f"{name} invalid")
            try:
                yield consuming, publishing
            finally:
                await broker.close(publishing)
        finally:
            await broker.close(consuming)

    async def _consume(self, consuming: AbstractConnection, publishing: AbstractConnection) -> None:
        """Returns when stopped. Raises what says that the broker has gone, in an exception group or alone."""
        settings = self._settings
        await topology.declare(consuming, settings)
        channel = await broker.channel(consuming, confirms=False)
        looking = await broker.channel(consuming, confirms=False)
        confirming = await broker.channel(publishing, confirms=True)
        acknowledgements = Acknowledgements(channel)
        invalid = InvalidQueue(settings.invalid_queue, confirming, self.counters, acknowledgements.single)
        self._inbox = inbox = Inbox()
        cancelled = asyncio.Event()
        channel.on_consumer_cancel_callbacks.add(lambda _: cancelled.set())
        await channel.basic_qos(prefetch_count=settings.prefetch, timeout=CALL_LIMIT)
        consumer = await channel.basic_consume(settings.queue, inbox.put, timeout=CALL_LIMIT)
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(_until_closed(each)) for each in (consuming, publishing, channel, looking, confirming)
            ]
            beside += [
                group.create_task(_until_cancelled(cancelled, settings.queue)),
                group.create_task(invalid.run()),
                group.create_task(self._look(looking)),
            ]
            self.is_consuming = True
            self._backoff.reset()
            logger.info("consuming", broker=place(settings.amqp_url), queue=settings.queue)
            if self._stopping.is_set():
                inbox.close()
            while batch := await inbox.next():
                await self._take(batch, acknowledgements, invalid)
            self.is_consuming = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_LIMIT):
                    await channel.basic_cancel(str(consumer.consumer_tag))
                    await invalid.empty()
                    # Answered after the acknowledgements that were sent before; a close would overtake them.
                    await channel.basic_qos(prefetch_count=settings.prefetch)
            for task in beside:
                task.cancel()

    async def _look(self, channel: AbstractChannel) -> None:
        while True:
            self.counters.waiting = await topology.ready(channel, self._settings.queue)
            await asyncio.sleep(LOOK_EVERY)

    # -- a batch ------------------------------------------------------------------------------------------------------

    async def _take(self, batch: list[Delivery], acknowledgements: "Acknowledgements", invalid: InvalidQueue) -> None:
        self.counters.received += len(batch)
        bad: list[Refused] = []
        good: list[Pair] = []
        for message in batch:
            try:
                good.append((message, asked(message.body, message.meant())))
            except Refusal as refused_as:
                bad.append((message, refused_as))
        if not await self._store(good, bad):
            return
        acknowledgements.except_for({message.tag for message, _ in bad})
        for message, why in bad:
            invalid.put(message, why)
        await acknowledgements.batch([message.tag for message in batch])

    async def _store(self, good: list[Pair], bad: list[Refused]) -> bool:
        """Returns when all are stored or found bad. False if it was told to stop before."""
        pauses = backoff()
        # Statements of several intakes meet the same keys in the same order, or they would lock each other out.
        left = sorted(good, key=lambda pair: pair[1].keys)
        at_once = len(left)
        while left:
            again = await self._try(left[:at_once], bad)
            left = left[at_once:] + again
            if again:
                # Fewer, in case it was too much for the time a statement has.
                at_once = max(1, at_once // 2)
                await self._pause(pauses.next())
                await self._database()
                if self._stopping.is_set():
                    return False
                self.is_consuming = True
        return True

    async def _try(self, pairs: list[Pair], bad: list[Refused]) -> list[Pair]:
        """Those that could not be stored now."""
        left: list[Pair] = []

        async def submit(those: list[Pair]) -> None:
            outcomes = await db.submit(self._pool, [one.item for _, one in those], self._settings.scope)
            for number, task, outcome in outcomes:
                if outcome == "queue_full":
                    left.append(those[number - 1])
                else:
                    self._note(outcome, task, those[number - 1], bad)

        def refuse(those: list[Pair], error: Exception) -> None:
            why = refusal(error)
            if why is not None and why.status in REFUSED_FOR_GOOD:
                bad.extend((message, why) for message, _ in those)
                return
            left.extend(those)
            self.is_consuming = False
            logger.warning("not stored", messages=len(those), error=str(error))

        await bisect(pairs, submit, refuse)
        return left

    def _note(self, outcome: str, task: int | None, of: Pair, bad: list[Refused]) -> None:
        message, one = of
        if outcome == "created":
            self.counters.created += 1
            if one.due is not None:
                self._notifier.notify(one.task.queue or "default", one.due)
        elif outcome in ("replayed", "deduplicated"):
            self.counters.duplicate += 1
        else:
            bad.append((message, refused(outcome, one.task, task)))

    async def _database(self) -> None:
        """Waits until it can take tasks; returns too when stopped."""
        pauses = backoff()
        while not self._stopping.is_set():
            try:
                await self._health.ready()
                return
            except Refusal:
                await self._pause(pauses.next())

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


class Acknowledgements:
    """What the broker is told to forget, of one channel. One word for a whole batch and all before it, unless bad
    messages before it are still on their way to the invalid queue."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel
        self._held: set[int] = set()

    def except_for(self, tags: set[int]) -> None:
        """These will be acknowledged one by one."""
        self._held |= tags

    async def batch(self, tags: list[int]) -> None:
        if not self._held:
            await self._channel.basic_ack(tags[-1], multiple=True, wait=False)
            return
        for one in tags:
            if one not in self._held:
                await self._channel.basic_ack(one, wait=False)

    async def single(self, one: int) -> None:
        await self._channel.basic_ack(one, wait=False)
        self._held.discard(one)


async def _until_closed(it: AbstractConnection | AbstractChannel) -> None:
    """Raises Lost."""
    closing = it.closing
    await asyncio.wait({closing})  # not `await closing`, which may be cancelled, and we with it
    error = None if closing.cancelled() else closing.exception()
    raise Lost(words(error) if error else "closed")


async def _until_cancelled(cancelled: asyncio.Event, queue: str) -> None:
    await cancelled.wait()
    raise Lost(f"the broker took the queue {queue} away")


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first cause, however deep."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
