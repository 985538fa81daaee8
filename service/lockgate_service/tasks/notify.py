"""Notifies idle runners of new tasks, after their commit and off the request path."""

import asyncio

from lockgate.log import logger
from lockgate_service.pool import Pool
from lockgate_service.tasks import db
from lockgate_service.tasks.messages import Due

# NOTIFY serialises commits on the server, so the service sends at most one per queue in this time.
PAUSE_SECONDS = 0.005


class Notifier:
    """Runs as long as the service. A notification that is lost costs time only: runners poll."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._queues: set[tuple[str, Due]] = set()
        self._asked = asyncio.Event()

    def notify(self, queue: str, due: Due) -> None:
        """A task of that queue is due now, or sooner than idle runners may poll."""
        self._queues.add((queue, due))
        self._asked.set()

    async def run(self) -> None:
        """Never returns."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            queues, self._queues = self._queues, set()
            try:
                await db.notify(self._pool, queues)
            except Exception as error:  # all of them: this task must go on
                logger.warning("runners not notified", queues=sorted(queues), error=str(error))
            await asyncio.sleep(PAUSE_SECONDS)
