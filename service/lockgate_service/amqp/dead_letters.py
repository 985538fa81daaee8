"""Dead letters: messages that cannot become tasks go to the invalid queue as they came, with the reason in headers."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from aiormq.abc import AbstractChannel
from pamqp import encode
from pamqp.commands import Basic

from lockgate.log import logger
from lockgate_service.amqp.broker import CALL_LIMIT, TROUBLE, backoff, words
from lockgate_service.amqp.deliveries import Delivery
from lockgate_service.http.problems import Refusal, problem

REASON_LENGTH_MAX = 1000
HEADERS_BYTES_MAX = 64 * 1024  # they travel in one frame, which has 128 KiB
TOGETHER_MAX = 50  # under way
# Left out. The broker would refuse the `user_id` of another user, act on `expiration`, and deliver to the names in CC.
HEADERS_DROPPED = frozenset({"CC", "BCC", "x-delivery-count", "x-acquired-count"})


class DeadLetters:
    """Moves bad messages beside the intake, so that they do not hold up the good. Acknowledges each once it is safe."""

    def __init__(self, queue: str, publishing: AbstractChannel, moved: Callable[[int], Awaitable[None]]) -> None:
        """`moved` acknowledges a delivery tag."""
        self._queue = queue
        self._publishing = publishing
        self._moved = moved
        self._messages: deque[tuple[Delivery, Refusal]] = deque()
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, message: Delivery, why: Refusal) -> None:
        self._messages.append((message, why))
        self._idle.clear()
        self._changed.set()

    async def empty(self) -> None:
        """Returns when nothing is left to do."""
        await self._idle.wait()

    async def run(self) -> None:
        """Never returns. Raises one of TROUBLE when the connection is lost."""
        while True:
            await self._changed.wait()
            while self._messages:
                async with asyncio.TaskGroup() as group:
                    for message, why in self._next():
                        group.create_task(self._move(message, why))
            self._changed.clear()
            self._idle.set()

    def _next(self) -> list[tuple[Delivery, Refusal]]:
        """Some, of which no two have the same message_id: by that the client tells which one the broker gave back."""
        found: list[tuple[Delivery, Refusal]] = []
        seen: set[str] = set()
        while self._messages and len(found) < TOGETHER_MAX:
            message_id = self._messages[0][0].properties.message_id
            if message_id in seen:
                break
            if message_id:
                seen.add(message_id)
            found.append(self._messages.popleft())
        return found

    async def _move(self, message: Delivery, why: Refusal) -> None:
        pauses = backoff()
        properties = readdressed(message, why)
        while True:
            try:
                await self._publishing.basic_publish(
                    message.body, routing_key=self._queue, properties=properties, mandatory=True, timeout=CALL_LIMIT
                )
                break
            except TROUBLE as error:
                if self._publishing.is_closed:
                    raise
                logger.warning("invalid queue does not take a message", queue=self._queue, error=words(error))
                await asyncio.sleep(pauses.next())
        await self._moved(message.tag)
        logger.warning(
            "message refused", message_id=message.properties.message_id, status=why.status, reason=why.detail
        )


def readdressed(message: Delivery, why: Refusal) -> Basic.Properties:
    """The message's own properties, as far as the broker accepts them from us, and the reason."""
    old = message.properties
    reason: dict[str, Any] = {
        "lockgate-reason": why.detail[:REASON_LENGTH_MAX],
        "lockgate-problem": problem(why).type,
        "lockgate-fields": [field.field for field in why.fields],
        "lockgate-time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "lockgate-exchange": message.exchange,
        "lockgate-routing-key": message.routing_key,
    }
    kept: dict[str, Any] = {}
    for name in ("message_id", "correlation_id", "content_type", "content_encoding", "reply_to", "app_id"):
        text = getattr(old, name)
        if text and is_sendable(encode.short_string, text):
            kept[name] = text
    headers = {name: value for name, value in message.headers.items() if name not in HEADERS_DROPPED}
    if headers and not is_sendable(encode.field_table, headers):
        headers = {"lockgate-headers-dropped": True}
    return Basic.Properties(
        **kept,
        message_type=old.message_type if is_sendable(encode.short_string, old.message_type or "") else None,
        priority=old.priority,
        timestamp=old.timestamp if isinstance(old.timestamp, datetime) else None,
        delivery_mode=2,
        headers=headers | reason,
    )


def is_sendable(encoder: Callable[[Any], bytes], value: Any) -> bool:
    """Whether our client can encode it into one frame."""
    try:
        return len(encoder(value)) <= HEADERS_BYTES_MAX
    except (ValueError, TypeError, OverflowError, RecursionError):
        return False
