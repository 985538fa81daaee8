"""Whether the service can do its work."""

from service import db
from service.errors import refusal, unavailable
from service.log import logger
from service.messages import Ready
from service.pool import Pool

SCHEMA_VERSION = 1  # the oldest this service can work with


class Health:
    """Asks the database, and logs when the answer is another than the last time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._last: str | None = None

    async def ready(self) -> Ready:
        """Raises Refusal (503) that says what is missing."""
        try:
            version = await db.schema_version(self._pool)
            if version < SCHEMA_VERSION:
                raise unavailable(
                    f"the schema has version {version} and must have {SCHEMA_VERSION}: run `lockgate migrate`"
                )
        except Exception as error:
            why = refusal(error)
            if why is None:
                raise
            self._note(why.detail)
            raise why from None
        self._note("ready")
        return Ready(schema_version=version)

    def _note(self, now: str) -> None:
        if now != self._last:
            self._last = now
            if now == "ready":
                logger.info("ready")
            else:
                logger.error("not ready", why=now)
