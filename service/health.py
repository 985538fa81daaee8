"""Whether the service can do its work."""

from litestar import get
from litestar.di import NamedDependency

from service import db
from service.docs import problems
from service.errors import refusal, unavailable
from service.log import logger
from service.messages import Alive, Ready
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
