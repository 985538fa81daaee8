"""The service, put together: its routes, its life, its errors. Read first."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

from litestar import Litestar
from litestar.di import Provide

from service import db, docs, health, routes, simple
from service.body import StrictRequest
from service.errors import Refusal, answer
from service.gather import Gatherer
from service.pool import Pool
from service.settings import Settings
from service.wake import Waker

BODY_BYTES_MAX = 4 * 1024 * 1024

ROUTES = (
    routes.create_task,  # POST /tasks
    routes.list_tasks,  # GET /tasks
    routes.get_task,  # GET /tasks/{id}
    routes.cancel_task,  # POST /tasks/{id}/cancel
    simple.create_sleep_task,  # POST /task
    simple.get_task_briefly,  # GET /task/{id}
    health.get_liveness,  # GET /health/live
    health.get_readiness,  # GET /health/ready
)


def create_app(settings: Settings) -> Litestar:
    """Connects to nothing until it is started, and starts whether or not the database is there."""
    pool = Pool(settings.database_url, settings.pool_size)
    waker = Waker(partial(db.wake, pool))
    gatherer = Gatherer(pool, waker.wake)
    readiness = health.Health(pool)

    @contextlib.asynccontextmanager
    async def life(_: Litestar) -> AsyncIterator[None]:
        await pool.open()
        background = [asyncio.create_task(waker.run()), asyncio.create_task(first_look(readiness))]
        try:
            yield
        finally:
            await gatherer.close()
            for task in background:
                task.cancel()
            await asyncio.wait(background)
            await pool.close()

    def provide(thing: object) -> Provide:
        return Provide(lambda: thing, use_cache=True, sync_to_thread=False)

    return Litestar(
        [*ROUTES, docs.static()],
        request_class=StrictRequest,
        lifespan=[life],
        dependencies={"pool": provide(pool), "gatherer": provide(gatherer), "health": provide(readiness)},
        exception_handlers={Exception: answer},
        openapi_config=docs.openapi(),
        plugins=[docs.AnyJson()],
        request_max_body_size=BODY_BYTES_MAX,
        # `answer` logs what needs it.
        logging_config=None,
    )


async def first_look(readiness: health.Health) -> None:
    """So that the log says at the start what is missing."""
    with contextlib.suppress(Refusal):
        await readiness.ready()
