"""Chores, done beside the work: schemas are announced, ends counted, and expired tasks deleted."""

import random
from collections.abc import Mapping

import msgspec
import psycopg
import structlog

from lockgate_runner import db
from lockgate_runner.executor import watchdog
from lockgate_runner.session import Session

EVERY = 10.0
"""Seconds between two batches when the last one found nothing to do."""

SCHEMAS_LIMIT = 128 * 1024
"""Bytes of JSON Schemas a runner announces; the database takes twice that, written in its way."""

ROLL_UP_BATCH = 1000
"""Ends counted in one statement: some milliseconds, for which the tasks of this session wait."""

log = structlog.get_logger()


class Chores:
    """Announces schemas once a session. Unless another session has the chores, counts ends and deletes the expired."""

    def __init__(self) -> None:
        self.schemas: Mapping[str, msgspec.Raw] = {}
        """JSON Schemas of payloads, by kind."""
        self.at = 0.0
        """When they are due, on the clock of deadlines."""
        self._announced = 0
        """The session that has announced the schemas."""

    async def do(self, session: Session, pace: float) -> None:
        """Does one batch. ``pace``: how many times as long as others this runner waits for the next."""
        self.at = watchdog.now() + EVERY * pace * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        if self._announced != session.number:
            await self._announce(session)
        counted = await db.roll_up(session, ROLL_UP_BATCH)
        if counted is None:
            return
        deleted = await db.delete_expired(session)
        if deleted:
            log.debug("deleted", tasks=deleted)
        if deleted or counted >= ROLL_UP_BATCH:
            self.at = watchdog.now() + 0.05

    async def _announce(self, session: Session) -> None:
        self._announced = session.number
        announced: dict[str, msgspec.Raw] = {}
        size = 0
        for kind, schema in self.schemas.items():
            if size + len(bytes(schema)) <= SCHEMAS_LIMIT:
                size += len(bytes(schema))
                announced[kind] = schema
        try:
            await db.announce_schemas(session, announced)
        except psycopg.Error as error:
            log.warning("schemas not announced", error=str(error).strip())
