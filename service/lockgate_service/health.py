"""Health: /health/live and /health/ready, and the version of the schema that the service needs."""

from typing import Literal

from litestar import get
from litestar.di import NamedDependency
from msgspec import Struct

from lockgate.log import logger
from lockgate_service.http.errors import refusal
from lockgate_service.http.problems import unavailable
from lockgate_service.pool import Pool

READY_LIMIT = 1.0  # seconds
SCHEMA_VERSION = 1  # what the service is written for; a newer schema only adds functions, so it serves too


class Alive(Struct):
    """The process is up."""

    status: Literal["alive"] = "alive"


class Ready(Struct):
    """Ready to accept tasks."""

    schema_version: int
    status: Literal["ready"] = "ready"


class Health:
    """Asks the database, and logs when the answer has changed. `serves`: whether the schema was new enough."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._last: str | None = None
        self.serves = False
        self._newer_seen = False

    async def ready(self) -> Ready:
        """Raises Refusal (503) that says what is missing."""
        try:
            rows = await self._pool.rows("select lockgate.schema_version()", limit=READY_LIMIT)
            version = int(rows[0][0])
            self.serves = version >= SCHEMA_VERSION
            if not self.serves:
                raise unavailable(
                    f"the schema has version {version}, this service needs {SCHEMA_VERSION}: run `lockgate migrate`"
                )
        except Exception as error:
            why = refusal(error)
            if why is None:
                raise
            self._note(why.detail)
            why.is_logged = True
            raise why from None
        self._note("ready")
        if version > SCHEMA_VERSION and not self._newer_seen:
            self._newer_seen = True
            logger.warning("the schema is newer than this service", version=version, known=SCHEMA_VERSION)
        return Ready(schema_version=version)

    def _note(self, now: str) -> None:
        if now != self._last:
            self._last = now
            if now == "ready":
                logger.info("ready")
            else:
                logger.error("not ready", why=now)


@get("/health/live", response_description="The process is up.", summary="Liveness", tags=["health"])
async def get_liveness() -> Alive:
    """Does not ask the database."""
    return Alive()


@get("/health/ready", response_description="Ready to accept tasks.", summary="Readiness", tags=["health"])
async def get_readiness(health: NamedDependency[Health]) -> Ready:
    """Asks the database, and takes a second at most."""
    return await health.ready()
