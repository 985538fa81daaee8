"""RabbitMQ: connections with a limit on every wait, the queues, and a decoder that accepts what RabbitMQ accepts."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelInvalidStateError
from pamqp import common, decode
from pamqp.common import FieldTable
from yarl import URL

from lockgate.backoff import Backoff
from lockgate.log import logger
from lockgate_service.amqp.commands import IntakeSettings

# Seconds.
CONNECT_LIMIT = 10.0
CALL_LIMIT = 10.0
CLOSE_LIMIT = 3.0
HEARTBEAT = 10
PAUSE_MIN = 0.25
PAUSE_MAX = 10.0

# Quorum queues: what was confirmed to a producer survives the loss of a node. Without a limit of deliveries, after
# which RabbitMQ 4 would drop a message: by default 20, and each death of an intake or its connection counts as one.
QUEUE_ARGUMENTS: FieldTable = {"x-queue-type": "quorum", "x-delivery-limit": -1}

# The errors of a call to the broker that our own code did not cause.
TROUBLE = (aiormq.AMQPError, ChannelInvalidStateError, OSError, TimeoutError, EOFError)
UNREADABLE = "unreadable"


class Lost(ConnectionError):
    """The broker has gone, or took something away that we cannot do without."""


async def connect(url: str, name: str) -> AbstractConnection:
    """`name` is for the broker's management page. Raises one of TROUBLE."""
    decode_leniently()
    full = URL(url).update_query({"heartbeat": str(HEARTBEAT), "name": name})
    connection = aiormq.Connection(full)
    async with asyncio.timeout(CONNECT_LIMIT):
        await connection.connect()
    return connection


async def channel(connection: AbstractConnection, *, confirms: bool) -> AbstractChannel:
    """`confirms`: the broker confirms each message once it is safe. Raises one of TROUBLE."""
    try:
        return await connection.channel(publisher_confirms=confirms, timeout=CALL_LIMIT)
    except RuntimeError as error:  # from a connection that is closed
        raise Lost(str(error)) from error


async def close(connection: AbstractConnection) -> None:
    """Never raises, and does not take long."""
    try:
        async with asyncio.timeout(CLOSE_LIMIT):
            await connection.close()
    except Exception as error:  # every one: the connection may be half gone, and we need nothing of it any more
        logger.debug("connection not closed in good order", error=words(error))


async def declare(connection: AbstractConnection, settings: IntakeSettings) -> None:
    """Declares the queues of the intake. Raises aiormq.AMQPError if something is missing (passive) or has other
    properties."""
    # A channel of its own: the broker closes the channel on which it refuses something.
    own = await channel(connection, confirms=False)
    for queue in (settings.queue, settings.invalid_queue):
        if settings.passive:
            await own.queue_declare(queue, passive=True, timeout=CALL_LIMIT)
        else:
            await own.queue_declare(queue, durable=True, arguments=QUEUE_ARGUMENTS, timeout=CALL_LIMIT)
    if settings.exchange and not settings.passive:
        await own.exchange_declare(
            settings.exchange, exchange_type=settings.exchange_type, durable=True, timeout=CALL_LIMIT
        )
        for binding in settings.bindings:
            await own.queue_bind(settings.queue, settings.exchange, binding, timeout=CALL_LIMIT)
    await own.close()


async def ready(channel: AbstractChannel, queue: str) -> int:
    """How many messages wait in the queue."""
    return (await channel.queue_declare(queue, passive=True, timeout=CALL_LIMIT)).message_count or 0


def place(url: str) -> str:
    """The broker, for the log: without user and password."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or (5671 if parts.scheme == 'amqps' else 5672)}{parts.path}"


def backoff() -> Backoff:
    """The pauses between tries to reach the broker or the database."""
    return Backoff(PAUSE_MIN, PAUSE_MAX)


def words(error: BaseException) -> str:
    """The error in one line."""
    if isinstance(error, TimeoutError):
        return f"no answer within {CALL_LIMIT:g} s"
    if isinstance(error, aiormq.AMQPError) and error.args:
        return str(error.args[0] if len(error.args) == 1 else error).split("\n")[0]
    return str(error) or type(error).__name__


def decode_leniently() -> None:
    """Changes the decoder of our client, which raises on text that is not UTF-8 and on times that Python cannot hold.

    That would end the connection; the broker would deliver the same message again, and so on for ever. Decoded
    leniently, such a message can be refused like any other. For the whole process; a second call changes nothing.
    """
    decode.METHODS["shortstr"] = _short_text
    decode.METHODS["timestamp"] = decode.TABLE_MAPPING[b"T"] = _time
    decode.METHODS["table"] = _table


def _short_text(value: bytes) -> tuple[int, str]:
    """Bytes that are not UTF-8 become lone surrogates, which no check takes for text."""
    length = value[0]
    return length + 1, value[1 : length + 1].decode("utf-8", "surrogateescape")


def _time(value: bytes) -> tuple[int, Any]:
    try:
        return decode.timestamp(value)
    except (ValueError, OverflowError, OSError):
        return 8, UNREADABLE


def _table(value: bytes) -> tuple[int, Any]:
    try:
        return decode.field_table(value)
    except (ValueError, OverflowError, RecursionError):
        return int(common.Struct.integer.unpack(value[:4])[0]) + 4, {UNREADABLE: True}
