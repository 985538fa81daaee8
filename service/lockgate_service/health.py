"""Whether the service can do its work."""

from typing import Literal

from litestar import get
from litestar.di import NamedDependency
from msgspec import Struct

from lockgate.log import logger
from lockgate_service.http.errors import refusal
from lockgate_service.http.problems import unavailable
from lockgate_service.openapi.docs import problems
from lockgate_service.pool import Pool
from lockgate_service.tasks import db

SCHEMA_VERSION = 3  # what this service is written for; functions are only ever added, so newer ones serve too


class Alive(Struct):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(Struct):
    """Tasks can be taken."""

    schema_version: int
    status: Literal["ready"] = "ready"


class Health:
    """Asks the database, and logs when the answer is another than the last time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._last: str | None = None
        self._serves = False
        self._newer_seen = False

    async def schema(self) -> None:
        """Asks the database until its schema serves, and then no more. Raises Refusal (503) like `ready`."""
        if not self._serves:
            await self.ready()

    async def ready(self) -> Ready:
        """Raises Refusal (503) that says what is missing."""
        try:
            version = await db.schema_version(self._pool)
            self._serves = version >= SCHEMA_VERSION
            if not self._serves:
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


@get(
    "/health/live",
    operation_id="getLiveness",
    response_description="It does.",
    summary="Whether the process answers",
    tags=["health"],
)
async def get_liveness() -> Alive:
    """Does not look at the database."""
    return Alive()


@get(
    "/health/ready",
    operation_id="getReadiness",
    response_description="They can.",
    summary="Whether tasks can be taken",
    tags=["health"],
    responses=problems(503),
)
async def get_readiness(health: NamedDependency[Health]) -> Ready:
    """Asks the database, for a second at most."""
    return await health.ready()
