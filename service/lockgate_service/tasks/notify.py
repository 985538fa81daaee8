"""Tells idle runners that there is something to look at: after the commit, off the request path, not too often."""

import asyncio
from collections.abc import Awaitable, Callable, Collection

from lockgate.log import logger
from lockgate_service.tasks.messages import Due

# A notification serialises commits on the server, so there is at most one per queue in this time.
PAUSE_SECONDS = 0.005


class Waker:
    """Runs as long as the service. Whatever is lost here, the runners' poll finds."""

    def __init__(self, send: Callable[[Collection[tuple[str, Due]]], Awaitable[None]]) -> None:
        self._send = send
        self._queues: set[tuple[str, Due]] = set()
        self._asked = asyncio.Event()

    def wake(self, queue: str, due: Due) -> None:
        """Something of that queue is due now, or sooner than idle runners may look by themselves."""
        self._queues.add((queue, due))
        self._asked.set()

    async def run(self) -> None:
        """Never returns."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            queues, self._queues = self._queues, set()
            try:
                await self._send(queues)
            except Exception as error:  # every one: this task must outlive them
                logger.warning("nobody was woken", queues=sorted(queues), error=str(error))
            await asyncio.sleep(PAUSE_SECONDS)
