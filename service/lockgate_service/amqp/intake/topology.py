"""The queues at the broker, and what leads into them."""

from aiormq.abc import AbstractChannel, AbstractConnection
from pamqp.common import FieldTable

from lockgate_service.amqp import broker
from lockgate_service.amqp.broker import CALL_LIMIT
from lockgate_service.amqp.intake.settings import Settings

# Quorum queues: what was confirmed to a producer survives the loss of a node. Without a limit of deliveries, after
# which RabbitMQ 4 would drop a message: by default 20, and each death of an intake or its connection counts as one.
ARGUMENTS: FieldTable = {"x-queue-type": "quorum", "x-delivery-limit": -1}


async def declare(connection: AbstractConnection, settings: Settings) -> None:
    """Raises aiormq.AMQPError if something is missing (passive) or is there with other properties."""
    # Of its own: the broker closes the channel on which it refuses something.
    channel = await broker.channel(connection, confirms=False)
    for queue in (settings.queue, settings.invalid_queue):
        if settings.passive:
            await channel.queue_declare(queue, passive=True, timeout=CALL_LIMIT)
        else:
            await channel.queue_declare(queue, durable=True, arguments=ARGUMENTS, timeout=CALL_LIMIT)
    if settings.exchange and not settings.passive:
        await channel.exchange_declare(
            settings.exchange, exchange_type=settings.exchange_type, durable=True, timeout=CALL_LIMIT
        )
        for binding in settings.bindings:
            await channel.queue_bind(settings.queue, settings.exchange, binding, timeout=CALL_LIMIT)
    await channel.close()


async def ready(channel: AbstractChannel, queue: str) -> int:
    """How many messages wait there."""
    return (await channel.queue_declare(queue, passive=True, timeout=CALL_LIMIT)).message_count or 0
