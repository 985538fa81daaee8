"""Messages that have been delivered and wait for their turn, oldest first."""

import asyncio
from collections import deque

from aiormq.abc import DeliveredMessage

from lockgate_service.amqp.intake.delivery import Delivery
from lockgate_service.tasks.group_commit import BYTES_MAX, ITEMS_MAX


class Inbox:
    """Bounded by the prefetch of its channel."""

    def __init__(self) -> None:
        self._messages: deque[Delivery] = deque()
        self._changed = asyncio.Event()
        self._is_closed = False

    async def put(self, message: DeliveredMessage) -> None:
        self._messages.append(Delivery(message))
        self._changed.set()

    def close(self) -> None:
        """No batch more: what waits stays at the broker."""
        self._is_closed = True
        self._changed.set()

    async def next(self) -> list[Delivery]:
        """Waits for one, and takes those with it that have come by then: a statement's worth. Empty when closed."""
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
