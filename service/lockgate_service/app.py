"""The service as a whole: its routes, its life, its errors. Read this first."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.routes import HTTPRoute

from lockgate_service import health
from lockgate_service.auth import browser
from lockgate_service.auth.guard import Guard, caller_of, needed
from lockgate_service.auth.keys import Keys
from lockgate_service.http import params, problems
from lockgate_service.http.body import OTHERS_MAX, StrictRequest
from lockgate_service.http.errors import answer
from lockgate_service.http.middleware import counted
from lockgate_service.http.problems import Refusal
from lockgate_service.openapi import document
from lockgate_service.options import Settings
from lockgate_service.page import page
from lockgate_service.page.broadcast import Broadcast, stream_events
from lockgate_service.pool import Pool
from lockgate_service.queues import routes as queues
from lockgate_service.stats import metrics
from lockgate_service.stats import routes as stats
from lockgate_service.tasks import actions, batch, lists, waiting
from lockgate_service.tasks import routes as tasks
from lockgate_service.tasks.group_commit import GroupCommit
from lockgate_service.tasks.loader import TaskLoader
from lockgate_service.tasks.notify import Notifier

# By the tag in the OpenAPI document.
ROUTES = {
    "tasks": (
        tasks.create_task,  # POST /tasks
        batch.create_tasks,  # POST /tasks/batch
        batch.stream_tasks,  # POST /tasks/stream
        lists.list_tasks,  # GET /tasks
        tasks.get_task,  # GET /tasks/{id}
        tasks.get_task_output,  # GET /tasks/{id}/output
        waiting.watch_task,  # GET /tasks/{id}/events
        actions.cancel_task,  # POST /tasks/{id}/cancel
        actions.retry_task,  # POST /tasks/{id}/retry
        actions.change_task,  # PATCH /tasks/{id}
        actions.delete_task,  # DELETE /tasks/{id}
        actions.change_tasks,  # POST /tasks/bulk
        lists.list_failures,  # GET /failures
    ),
    "queues": (
        queues.list_queues,  # GET /queues
        queues.create_queue,  # POST /queues
        queues.get_queue,  # GET /queues/{name}
        queues.change_queue,  # PATCH /queues/{name}
        queues.pause_queue,  # POST /queues/{name}/pause
        queues.resume_queue,  # POST /queues/{name}/resume
        queues.purge_queue,  # POST /queues/{name}/purge
        queues.delete_queue,  # DELETE /queues/{name}
    ),
    "runners": (
        queues.list_slots,  # GET /slots
        queues.list_runners,  # GET /runners
        queues.list_kinds,  # GET /kinds
        queues.drain_runner,  # POST /runners/{runner}/drain
        queues.resume_runner,  # POST /runners/{runner}/resume
    ),
    "stats": (
        stats.get_stats,  # GET /stats
        stats.get_series,  # GET /stats/series
        stream_events,  # GET /events
        metrics.get_metrics,  # GET /metrics
    ),
    "simple": (
        tasks.create_sleep_task,  # POST /task
        tasks.get_task_briefly,  # GET /task/{id}
    ),
    "problems": (
        problems.list_problems,  # GET /problems
        problems.get_problem,  # GET /problems/{name}
    ),
}
PAGE = (page.get_page,)  # GET /
PROBES = (
    health.get_liveness,  # GET /health/live
    health.get_readiness,  # GET /health/ready
)


def create_app(settings: Settings, stopping: asyncio.Event | None = None) -> Litestar:
    """Connects to nothing until it is started, and starts whether or not the database is there. Requests that wait or
    stream end when `stopping` is set."""
    pool = Pool(settings.database_url, settings.pool_size)
    notifier = Notifier(pool)
    group_commit = GroupCommit(pool, notifier.notify)
    readiness = health.Health(pool)
    keys = Keys(pool, required=settings.key_required)
    stopping = stopping or asyncio.Event()
    waiters = waiting.Waiters(pool, stopping)
    loader = TaskLoader(pool)
    stats_cache = stats.StatsCache(pool)
    broadcast = Broadcast(pool, stats_cache, stopping)

    @contextlib.asynccontextmanager
    async def life(_: Litestar) -> AsyncIterator[None]:
        await pool.open()
        lasting = (
            notifier.run(),
            keys.run(),
            log_what_is_missing(readiness),
            waiters.run(),
            waiters.end_all(),
            broadcast.run(),
            broadcast.end_all(),
            asyncio.to_thread(page.prepare),
        )
        background = [asyncio.create_task(one) for one in lasting]
        try:
            yield
        finally:
            await group_commit.close()
            for task in background:
                task.cancel()
            await asyncio.wait(background)
            await keys.close()
            await pool.close()

    def provide(thing: object) -> Provide:
        return Provide(lambda: thing, use_cache=True, sync_to_thread=False)

    # Without `params.check`: people type the address of the page, and pass it around.
    people = Router("/", route_handlers=PAGE, exception_handlers={Exception: partial(page.refused, settings.root_path)})
    app = Litestar(
        [
            *(
                Router("/", before_request=params.check, route_handlers=handlers, tags=[tag])
                for tag, handlers in ROUTES.items()
            ),
            people,
            browser.ROUTES,
            *PROBES,
            Router("/static", route_handlers=[document.swagger_ui(), page.get_file]),
        ],
        request_class=StrictRequest,
        lifespan=[life],
        middleware=[counted],
        guards=[Guard(pool, readiness, keys)],
        dependencies={
            "pool": provide(pool),
            "health": provide(readiness),
            "waiters": provide(waiters),
            "loader": provide(loader),
            "stats_cache": provide(stats_cache),
            "failures": provide(lists.FailureGroups(pool)),
            "broadcast": provide(broadcast),
            "gauges": provide(metrics.Gauges(pool, stats_cache, lambda: broadcast.viewers)),
            "keys": provide(keys),
            "root": provide(settings.root_path),
            "caller": Provide(caller_of, sync_to_thread=False),
            "deps": tasks.provide_deps(group_commit, waiters, loader),
            "notifier": provide(notifier),
            "streams": provide(batch.Streams(stopping)),
        },
        exception_handlers={Exception: partial(answer, settings.root_path)},
        openapi_config=document.openapi(settings.root_path),
        plugins=[document.AnyJson()],
        request_max_body_size=OTHERS_MAX,
        # `answer` logs what needs it.
        logging_config=None,
    )
    for route in app.routes:
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
            handler.operation_id = operation_id(handler.handler_name)
            needed(handler)  # or say so before the first request for it
    return app


def operation_id(name: str) -> str:
    """That of the function `get_task` is getTask."""
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


async def log_what_is_missing(readiness: health.Health) -> None:
    """At the start, so that the log has it before the first request."""
    with contextlib.suppress(Refusal):
        await readiness.ready()
