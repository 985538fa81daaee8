"""The publisher, read first: outcomes are read, published, confirmed, and only then forgotten."""

import asyncio
import contextlib
from dataclasses import asdict, dataclass

import psycopg
from aiormq.abc import AbstractChannel

from lockgate.log import logger
from lockgate_service.amqp import broker
from lockgate_service.amqp.broker import CALL_LIMIT, backoff, words
from lockgate_service.amqp.publish import db
from lockgate_service.amqp.publish.db import Outcome, Session
from lockgate_service.amqp.publish.event import properties, routing_key
from lockgate_service.amqp.publish.settings import Settings
from lockgate_service.amqp.url import place
from lockgate_service.health import SCHEMA_VERSION

# Seconds.
POLL = 0.2
STANDBY_POLL = 1.0
LOOK_EVERY = 5.0
LATE = 60.0


@dataclass
class Counters:
    """`published` since the start of the process; the others as they were at the last look."""

    published: int = 0  # confirmed, again those that were published again
    waiting: int = 0  # outcomes not published yet, counted to 10,001
    oldest_wait: float = 0.0  # seconds

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


class NotYet(Exception):
    """What the database lacks; said in one line."""


class Publisher:
    """Runs until it is told to stop. One at a time publishes, whoever holds the lock; the others stand by."""

    def __init__(self, settings: Settings) -> None:
        self.counters = Counters()
        self.is_well = False
        self.is_leading = False
        self._settings = settings
        self._stopping = asyncio.Event()
        self._backoff = backoff()

    def stop(self) -> None:
        """Finish the batch that is under way, and no more."""
        self._stopping.set()

    async def run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._live()
            except psycopg.Error as error:
                logger.warning("database lost", error=str(error).strip().split("\n")[0])
            except NotYet as error:
                logger.error("not ready", why=str(error))
            except broker.TROUBLE as error:
                logger.warning("broker or database lost", error=words(error))
            finally:
                self.is_well = self.is_leading = False
            await self._pause(self._backoff.next())

    async def _live(self) -> None:
        """Returns when stopped."""
        session = await db.connect(self._settings.database_url)
        try:
            if (version := await db.schema_version(session)) < SCHEMA_VERSION:
                raise NotYet(f"the schema has version {version}, this needs {SCHEMA_VERSION}: run `lockgate migrate`")
            connection = await broker.connect(self._settings.amqp_url, "lockgate-publish")
            try:
                channel = await broker.channel(connection, confirms=True)
                await channel.exchange_declare(
                    self._settings.exchange, exchange_type="topic", durable=True, passive=self._settings.passive,
                    timeout=CALL_LIMIT,
                )  # fmt: skip
                await self._stand_by(session, channel)
                await self._lead(session, channel)
            finally:
                await broker.close(connection)
        finally:
            await session.close()

    async def _stand_by(self, session: Session, channel: AbstractChannel) -> None:
        """Returns when it leads, or is stopped."""
        self.is_well = True
        self._backoff.reset()
        if not await db.lead(session):
            logger.info("standing by")
        while not self._stopping.is_set() and not await db.lead(session):
            if channel.is_closed:
                raise broker.Lost("closed")
            await self._pause(STANDBY_POLL)

    async def _lead(self, session: Session, channel: AbstractChannel) -> None:
        if self._stopping.is_set():
            return
        if await db.record(session):
            logger.info("ends are recorded from now on")
        self.is_leading = True
        where = {"broker": place(self._settings.amqp_url), "exchange": self._settings.exchange}
        logger.info("publishing", **where)
        looked = 0.0
        while not self._stopping.is_set():
            if channel.is_closed:
                raise broker.Lost("closed")
            outcomes = await db.outcomes(session)
            await self._publish(outcomes, session, channel)
            now = asyncio.get_running_loop().time()
            if now - looked > LOOK_EVERY:
                looked = now
                await self._look(session)
            if not outcomes:
                await self._pause(POLL)

    async def _publish(self, outcomes: list[Outcome], session: Session, channel: AbstractChannel) -> None:
        """All at once: no two of them are of one task. Those that the broker confirmed are forgotten, whatever happened
        to the others. Raises what happened."""
        if not outcomes:
            return
        done = await asyncio.gather(*(self._send(one, channel) for one in outcomes), return_exceptions=True)
        errors = [result for result in done if isinstance(result, BaseException)]
        confirmed = [one.id for one, result in zip(outcomes, done, strict=True) if result is None]
        await db.forget(session, confirmed)
        self.counters.published += len(confirmed)
        if errors:
            raise errors[0]

    async def _send(self, outcome: Outcome, channel: AbstractChannel) -> None:
        await channel.basic_publish(
            outcome.body.encode(), exchange=self._settings.exchange, routing_key=routing_key(outcome),
            properties=properties(outcome), timeout=CALL_LIMIT,
        )  # fmt: skip

    async def _look(self, session: Session) -> None:
        self.counters.waiting, self.counters.oldest_wait = await db.waiting(session)
        if self.counters.oldest_wait > LATE:
            logger.warning("late", waiting=self.counters.waiting, oldest_wait=round(self.counters.oldest_wait, 1))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
