"""The way to RabbitMQ: connections with a limit on every wait, and pauses before trying again."""

import asyncio

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelInvalidStateError
from yarl import URL

from lockgate.backoff import Backoff
from lockgate.log import logger
from lockgate_service.amqp import lenient

# Seconds.
CONNECT_LIMIT = 10.0
CALL_LIMIT = 10.0
CLOSE_LIMIT = 3.0
HEARTBEAT = 10
PAUSE_MIN = 0.25
PAUSE_MAX = 10.0

# What a call to the broker may raise, but for what a program of ours did wrong.
TROUBLE = (aiormq.AMQPError, ChannelInvalidStateError, OSError, TimeoutError, EOFError)


class Lost(ConnectionError):
    """The broker has gone, or took something away from us that we cannot do without."""


async def connect(url: str, name: str) -> AbstractConnection:
    """`name` is what the broker's page calls it. Raises one of TROUBLE."""
    lenient.install()
    full = URL(url).update_query({"heartbeat": str(HEARTBEAT), "name": name})
    connection = aiormq.Connection(full)
    async with asyncio.timeout(CONNECT_LIMIT):
        await connection.connect()
    return connection


async def channel(connection: AbstractConnection, *, confirms: bool) -> AbstractChannel:
    """`confirms`: the broker says of each message that it has it. Raises one of TROUBLE."""
    try:
        return await connection.channel(publisher_confirms=confirms, timeout=CALL_LIMIT)
    except RuntimeError as error:  # how a connection says that it is closed
        raise Lost(str(error)) from error


async def close(connection: AbstractConnection) -> None:
    """Never raises, and does not take long."""
    try:
        async with asyncio.timeout(CLOSE_LIMIT):
            await connection.close()
    except Exception as error:  # every one: the connection may be half gone, and nothing of it is needed any more
        logger.debug("connection not closed in good order", error=words(error))


def backoff() -> Backoff:
    """The pauses between tries to reach the broker or the database."""
    return Backoff(PAUSE_MIN, PAUSE_MAX)


def words(error: BaseException) -> str:
    """What went wrong, in one line."""
    if isinstance(error, TimeoutError):
        return f"no answer within {CALL_LIMIT:g} s"
    if isinstance(error, aiormq.AMQPError) and error.args:
        return str(error.args[0] if len(error.args) == 1 else error).split("\n")[0]
    return str(error) or type(error).__name__
