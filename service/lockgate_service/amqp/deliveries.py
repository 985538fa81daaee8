"""Deliveries: messages that the broker has delivered, those that wait for their turn, and what acknowledges them."""

import asyncio
from collections import deque

from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.commands import Basic
from pamqp.common import FieldTable

from lockgate_service.tasks.group_commit import BYTES_MAX, ITEMS_MAX


class Delivery:
    """A message with its delivery tag, which is greater than those of all before it on its channel."""

    __slots__ = ("body", "exchange", "properties", "routing_key", "tag")

    def __init__(self, message: DeliveredMessage) -> None:
        delivered = message.delivery
        assert isinstance(delivered, Basic.Deliver)  # noqa: S101  (nothing else comes to a consumer)
        self.body: bytes = message.body
        self.properties: Basic.Properties = message.header.properties
        self.tag = int(delivered.delivery_tag or 0)
        self.exchange = delivered.exchange or ""
        self.routing_key = delivered.routing_key or ""

    @property
    def headers(self) -> FieldTable:
        return self.properties.headers or {}


class Inbox:
    """Deliveries that wait, oldest first. The prefetch of the channel bounds them."""

    def __init__(self) -> None:
        self._messages: deque[Delivery] = deque()
        self._changed = asyncio.Event()
        self._is_closed = False

    async def put(self, message: DeliveredMessage) -> None:
        self._messages.append(Delivery(message))
        self._changed.set()

    def close(self) -> None:
        """Gives no further batch: what waits stays at the broker."""
        self._is_closed = True
        self._changed.set()

    async def next(self) -> list[Delivery]:
        """Waits for a delivery, and takes with it those that have come by then: a statement's worth. Empty when
        closed."""
        await self._changed.wait()
        batch: list[Delivery] = []
        size = 0
        while self._messages and not self._is_closed and len(batch) < ITEMS_MAX:
            size += len(self._messages[0].body)
            if batch and size > BYTES_MAX:
                break
            batch.append(self._messages.popleft())
        if not self._messages and not self._is_closed:
            self._changed.clear()
        return batch


class Acknowledgements:
    """Acknowledges deliveries of one channel: a whole batch and all before it at once, unless bad messages before it
    are still on their way to the dead letters."""

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
