"""The intake: it takes deliveries, stores them in batches, and acknowledges them after the commit."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from aiormq.abc import AbstractChannel, AbstractConnection
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from lockgate import metrics
from lockgate.log import logger
from lockgate_service.amqp import broker, commands
from lockgate_service.amqp.broker import CALL_LIMIT, Lost, backoff, place, words
from lockgate_service.amqp.commands import IntakeSettings, Program
from lockgate_service.amqp.dead_letters import DeadLetters
from lockgate_service.amqp.deliveries import Acknowledgements, Delivery, Inbox
from lockgate_service.amqp.mapping import Asked, asked
from lockgate_service.health import Health
from lockgate_service.http.errors import refusal
from lockgate_service.http.problems import Refusal
from lockgate_service.pool import Pool
from lockgate_service.tasks import db
from lockgate_service.tasks.group_commit import bisect, refused
from lockgate_service.tasks.notify import Notifier

# Seconds.
STOP_LIMIT = 10.0
MEASURE_EVERY = 5.0
POOL_SIZE = 3
REFUSED_FOR_GOOD = frozenset({400, 413, 422})

Pair = tuple[Delivery, Asked]
Refused = tuple[Delivery, Refusal]


@dataclass
class Counters:
    """Since the start of the process; `waiting` is of the moment."""

    received: int = 0  # deliveries, again those that came again
    created: int = 0
    duplicate: int = 0  # found by message_id or dedupe_key
    invalid: int = 0  # in the invalid queue
    waiting: int = 0  # ready in the queue, as the broker said last


class Families(Collector):
    """The metrics of an intake."""

    def __init__(self, counters: Counters, is_consuming: Callable[[], bool]) -> None:
        self._counters = counters
        self._is_consuming = is_consuming

    def collect(self) -> Iterator[Metric]:
        counters = self._counters
        yield CounterMetricFamily(
            "lockgate_intake_received", "Deliveries, again those that came again.", counters.received
        )
        messages = CounterMetricFamily("lockgate_intake_messages", "Messages by their outcome.", labels=["outcome"])
        for outcome in ("created", "duplicate", "invalid"):
            messages.add_metric([outcome], getattr(counters, outcome))
        yield messages
        yield GaugeMetricFamily(
            "lockgate_intake_waiting", "Messages ready in the queue, as the broker said last.", counters.waiting
        )
        yield GaugeMetricFamily(
            "lockgate_intake_consuming", "1 while it consumes and can store.", int(self._is_consuming())
        )


async def live(settings: IntakeSettings) -> None:
    """Returns after an orderly stop."""
    pool = Pool(settings.database_url, POOL_SIZE, "lockgate-intake")
    notifier = Notifier(pool)
    intake = Intake(settings, pool, notifier)
    await pool.open()
    if settings.metrics:
        metrics.serve(settings.metrics, Families(intake.counters, lambda: intake.is_consuming))
    try:
        await commands.live(intake, settings.status_file, notifier.run())
    finally:
        await pool.close()


class Intake(Program):
    """Runs until `stop`. When the database or the broker goes away, it waits for it and goes on."""

    def __init__(self, settings: IntakeSettings, pool: Pool, notifier: Notifier) -> None:
        super().__init__()
        self.counters = Counters()
        self.is_consuming = False
        self._settings = settings
        self._pool = pool
        self._notifier = notifier
        self._health = Health(pool)
        self._inbox = Inbox()
        self._backoff = backoff()  # between tries to reach the broker

    def stop(self) -> None:
        super().stop()
        self._inbox.close()

    def status(self) -> dict[str, Any]:
        return {"works": self.is_consuming}

    async def run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._until_ready()
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
        """Two connections: when the broker is short of memory or disk it stops reading from those that publish, and
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
        """Returns when stopped. Raises one of TROUBLE, alone or in an exception group, when the broker is lost."""
        settings = self._settings
        await broker.declare(consuming, settings)
        channel = await broker.channel(consuming, confirms=False)
        measuring = await broker.channel(consuming, confirms=False)
        confirming = await broker.channel(publishing, confirms=True)
        acknowledgements = Acknowledgements(channel)

        async def moved(tag: int) -> None:
            await acknowledgements.single(tag)
            self.counters.invalid += 1

        dead_letters = DeadLetters(settings.invalid_queue, confirming, moved)
        self._inbox = inbox = Inbox()
        cancelled = asyncio.Event()
        channel.on_consumer_cancel_callbacks.add(lambda _: cancelled.set())
        await channel.basic_qos(prefetch_count=settings.prefetch, timeout=CALL_LIMIT)
        consumer = await channel.basic_consume(settings.queue, inbox.put, timeout=CALL_LIMIT)
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(_until_closed(each))
                for each in (consuming, publishing, channel, measuring, confirming)
            ]
            beside += [
                group.create_task(_until_cancelled(cancelled, settings.queue)),
                group.create_task(dead_letters.run()),
                group.create_task(self._measure(measuring)),
            ]
            self.is_consuming = True
            self._backoff.reset()
            logger.info("consuming", broker=place(settings.amqp_url), queue=settings.queue)
            if self._stopping.is_set():
                inbox.close()
            while batch := await inbox.next():
                await self._take(batch, acknowledgements, dead_letters)
            self.is_consuming = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_LIMIT):
                    await channel.basic_cancel(str(consumer.consumer_tag))
                    await dead_letters.empty()
                    # Answered after the acknowledgements that were sent before; a close would overtake them.
                    await channel.basic_qos(prefetch_count=settings.prefetch)
            for task in beside:
                task.cancel()

    async def _measure(self, channel: AbstractChannel) -> None:
        while True:
            self.counters.waiting = await broker.ready(channel, self._settings.queue)
            await asyncio.sleep(MEASURE_EVERY)

    # -- a batch ------------------------------------------------------------------------------------------------------

    async def _take(self, batch: list[Delivery], acknowledgements: Acknowledgements, dead_letters: DeadLetters) -> None:
        self.counters.received += len(batch)
        bad: list[Refused] = []
        good: list[Pair] = []
        for message in batch:
            try:
                good.append((message, asked(message.body, message.properties)))
            except Refusal as refused_as:
                bad.append((message, refused_as))
        if not await self._store(good, bad):
            return
        acknowledgements.except_for({message.tag for message, _ in bad})
        for message, why in bad:
            dead_letters.put(message, why)
        await acknowledgements.batch([message.tag for message in batch])

    async def _store(self, good: list[Pair], bad: list[Refused]) -> bool:
        """Returns when all are stored or found bad; False if stopped before."""
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
                await self._until_ready()
                if self._stopping.is_set():
                    return False
                self.is_consuming = True
        return True

    async def _try(self, pairs: list[Pair], bad: list[Refused]) -> list[Pair]:
        """Returns those that could not be stored now."""
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

    async def _until_ready(self) -> None:
        """Returns when the database can take tasks, or when stopped."""
        pauses = backoff()
        while not self._stopping.is_set():
            try:
                await self._health.ready()
                return
            except Refusal:
                await self._pause(pauses.next())


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
