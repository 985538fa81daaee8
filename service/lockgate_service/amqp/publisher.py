"""The publisher: it reads outcomes from the outbox, publishes them, and removes those that the broker confirmed."""

import asyncio
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lockgate.log import logger
from lockgate_service.amqp import broker, commands
from lockgate_service.amqp.broker import CALL_LIMIT, backoff, place, words
from lockgate_service.amqp.commands import Program, PublisherSettings
from lockgate_service.health import SCHEMA_VERSION

Session = AsyncConnection[tuple[Any, ...]]

STATEMENT_LIMIT = 15.0  # seconds; waits for synchronous standbys
BATCH_MAX = 500

# DATABASE_URL overrides these. The time-outs are for networks that vanish without a word: the lock of a session that is
# gone has to be free for the next soon.
CONNECTION_DEFAULTS: dict[str, str | int | None] = {
    "application_name": "lockgate-publish",
    "connect_timeout": 3,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10000,
}

# Seconds.
POLL = 0.2
STANDBY_POLL = 1.0
MEASURE_EVERY = 5.0
LATE = 60.0
ROUTING_KEY_BYTES_MAX = 255


class Outcome(NamedTuple):
    """An end of a task, and its event as it is published."""

    id: int
    queue: str
    kind: str
    status: str
    time: Any
    correlation_id: str | None
    body: str


@dataclass
class Counters:
    """`published` since the start of the process; the others when they were last measured."""

    published: int = 0  # confirmed, again those that were published again
    waiting: int = 0  # outcomes not published yet, counted to 10,001
    oldest_wait: float = 0.0  # seconds


class NotYet(Exception):
    """What the database lacks, in one line."""


async def live(settings: PublisherSettings) -> None:
    """Returns after an orderly stop."""
    await commands.live(Publisher(settings), settings.status_file)


class Publisher(Program):
    """Runs until `stop`. Of several publishers the one that holds the lock publishes; the others stand by."""

    def __init__(self, settings: PublisherSettings) -> None:
        super().__init__()
        self.counters = Counters()
        self.is_well = False
        self.is_leading = False
        self._settings = settings
        self._backoff = backoff()

    def status(self) -> dict[str, Any]:
        return {"works": self.is_well, "leads": self.is_leading}

    async def run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._connect_and_publish()
            except psycopg.Error as error:
                logger.warning("database lost", error=str(error).strip().split("\n")[0])
            except NotYet as error:
                logger.error("not ready", why=str(error))
            except broker.TROUBLE as error:
                logger.warning("broker or database lost", error=words(error))
            finally:
                self.is_well = self.is_leading = False
            await self._pause(self._backoff.next())

    async def _connect_and_publish(self) -> None:
        """Returns when stopped."""
        session = await open_session(self._settings.database_url)
        try:
            if (version := await schema_version(session)) < SCHEMA_VERSION:
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
        """Returns when it has the lock, or is stopped."""
        self.is_well = True
        self._backoff.reset()
        if not await outbox_lock(session):
            logger.info("standing by")
        while not self._stopping.is_set() and not await outbox_lock(session):
            if channel.is_closed:
                raise broker.Lost("closed")
            await self._pause(STANDBY_POLL)

    async def _lead(self, session: Session, channel: AbstractChannel) -> None:
        if self._stopping.is_set():
            return
        if await set_outbox(session):
            logger.info("ends are recorded from now on")
        self.is_leading = True
        logger.info("publishing", broker=place(self._settings.amqp_url), exchange=self._settings.exchange)
        measured = 0.0
        while not self._stopping.is_set():
            if channel.is_closed:
                raise broker.Lost("closed")
            outcomes = await outbox_next(session)
            await self._publish(outcomes, session, channel)
            now = asyncio.get_running_loop().time()
            if now - measured > MEASURE_EVERY:
                measured = now
                await self._measure(session)
            if not outcomes:
                await self._pause(POLL)

    async def _publish(self, outcomes: list[Outcome], session: Session, channel: AbstractChannel) -> None:
        """All at once: no two of them are of one task. Removes those that the broker confirmed, whatever happened to
        the others. Raises what happened."""
        if not outcomes:
            return
        done = await asyncio.gather(*(self._send(one, channel) for one in outcomes), return_exceptions=True)
        errors = [result for result in done if isinstance(result, BaseException)]
        confirmed = [one.id for one, result in zip(outcomes, done, strict=True) if result is None]
        await outbox_ack(session, confirmed)
        self.counters.published += len(confirmed)
        if errors:
            raise errors[0]

    async def _send(self, outcome: Outcome, channel: AbstractChannel) -> None:
        await channel.basic_publish(
            outcome.body.encode(), exchange=self._settings.exchange, routing_key=routing_key(outcome),
            properties=properties(outcome), timeout=CALL_LIMIT,
        )  # fmt: skip

    async def _measure(self, session: Session) -> None:
        self.counters.waiting, self.counters.oldest_wait = await outbox_overview(session)
        if self.counters.oldest_wait > LATE:
            logger.warning("late", waiting=self.counters.waiting, oldest_wait=round(self.counters.oldest_wait, 1))


def routing_key(outcome: Outcome) -> str:
    """queue.kind.status, with the kind cut where that would be too long."""
    around = len(f"{outcome.queue}..{outcome.status}".encode())
    kind = outcome.kind.encode()[: ROUTING_KEY_BYTES_MAX - around].decode(errors="ignore")
    return f"{outcome.queue}.{kind}.{outcome.status}"


def properties(outcome: Outcome) -> Basic.Properties:
    correlation_id = outcome.correlation_id
    if correlation_id is not None and len(correlation_id.encode()) > ROUTING_KEY_BYTES_MAX:
        correlation_id = None  # it is in the body
    return Basic.Properties(
        message_id=str(outcome.id),
        message_type="task.ended",
        correlation_id=correlation_id,
        content_type="application/json",
        timestamp=outcome.time,
        delivery_mode=2,
    )


# -- the statements, on the one session that holds the lock ------------------------------------------------------------


async def open_session(database_url: str) -> Session:
    """In autocommit. Raises psycopg.Error."""
    url = make_conninfo("", **CONNECTION_DEFAULTS | conninfo_to_dict(database_url))
    return await AsyncConnection.connect(url, autocommit=True, prepare_threshold=None)


async def _rows(session: Session, text: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Raises psycopg.Error and TimeoutError."""
    async with asyncio.timeout(STATEMENT_LIMIT):
        cursor = await session.execute(text.encode(), parameters)
        return await cursor.fetchall()


async def schema_version(session: Session) -> int:
    return int((await _rows(session, "select lockgate.schema_version()"))[0][0])


async def outbox_lock(session: Session) -> bool:
    """Whether this session is the one that publishes now."""
    return bool((await _rows(session, "select lockgate.outbox_lock()"))[0][0])


async def set_outbox(session: Session) -> bool:
    """Makes Postgres record ends from now on; whether it did not before."""
    return bool((await _rows(session, "select lockgate.set_outbox(true)"))[0][0])


async def outbox_next(session: Session) -> list[Outcome]:
    """The oldest, one of each task. Committed for good. Raises psycopg.Error LG004 if this session has not the lock."""
    text = "select id, queue, kind, status, time, correlation_id, body from lockgate.outbox_next(%s)"
    return [Outcome(*row) for row in await _rows(session, text, BATCH_MAX)]


async def outbox_ack(session: Session, ids: list[int]) -> None:
    await _rows(session, "select lockgate.outbox_ack(%s::bigint[])", ids)


async def outbox_overview(session: Session) -> tuple[int, float]:
    """How many outcomes wait, counted to 10,001, and for how many seconds the oldest has."""
    (row,) = await _rows(session, "select waiting, coalesce(oldest_wait, 0) from lockgate.outbox_overview")
    return int(row[0]), float(row[1])
