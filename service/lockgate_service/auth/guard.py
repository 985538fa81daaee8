"""The guard before every operation: tells the caller, and refuses a caller that may not do it."""

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from litestar import Router
from litestar.connection import ASGIConnection
from litestar.datastructures import Headers
from litestar.exceptions import ImproperlyConfiguredException
from litestar.handlers import HTTPRouteHandler
from litestar.handlers.base import BaseRouteHandler

from lockgate_service.auth.keys import Caller, Keys, Scope, in_cookie
from lockgate_service.health import Health
from lockgate_service.http.params import TASK_ID_MAX
from lockgate_service.http.problems import Refusal, forbidden, no_queue, no_task
from lockgate_service.pool import Pool

Connection = ASGIConnection[Any, Any, Any, Any]
# How an operation keeps a caller to its queue: by the task or the queue in its path, by asking the caller, or not at
# all: then a caller that is limited to a queue may not use it.
Limit = Literal["task", "queue", "caller", "none"]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})  # change nothing
# Of the documentation, and of the files that it loads.
PUBLIC_PATHS = {"/docs", "/static"}
# The operations that need each scope, by operation id. None: public, with or without a key.
OPERATIONS: Mapping[Scope | None, tuple[str, ...]] = {
    "read": (
        "listTasks", "getTask", "getTaskOutput", "watchTask", "getTaskBriefly", "listQueues", "getQueue", "listSlots",
        "listRunners", "listKinds", "getStats", "getSeries", "listFailures", "streamEvents", "getPage", "getMetrics",
    ),
    "submit": (
        "createTask", "createTasks", "streamTasks", "createSleepTask", "cancelTask", "retryTask", "changeTask",
    ),
    "admin": (
        "changeTasks", "deleteTask", "createQueue", "changeQueue", "pauseQueue", "resumeQueue", "purgeQueue",
        "deleteQueue", "drainRunner", "resumeRunner",
    ),
    None: ("listProblems", "getProblem", "getLiveness", "getReadiness", "askForKey", "signIn", "signOut"),
}  # fmt: skip
NEEDED = {name: scope for scope, names in OPERATIONS.items() for name in names}


class Guard:
    """Refuses before the request is decoded. Puts the Caller into `auth` of the request."""

    def __init__(self, pool: Pool, health: Health, keys: Keys) -> None:
        self._pool = pool
        self._health = health
        self._keys = keys

    async def __call__(self, connection: Connection, handler: BaseRouteHandler) -> None:
        if not isinstance(handler, HTTPRouteHandler):
            raise Refusal(403, "there is no rule for this")
        if (scope := needed(handler)) is None:
            return
        if not self._health.serves:
            await self._health.ready()
        headers = connection.headers
        authorization = headers.get("authorization")
        caller = await self._keys.caller(authorization, in_cookie(headers.get("cookie")))
        if authorization is None and connection.scope.get("method") not in SAFE_METHODS:
            # A browser sends the cookie, and reaches an open service, on behalf of any page it shows.
            refuse_from_elsewhere(headers, sure=caller.key is not None)
        if not caller.may(scope):
            raise forbidden(scope)
        if caller.queue is not None:
            await self._keep_to_its_queue(caller, connection, handler)
        connection.scope["auth"] = caller

    async def _keep_to_its_queue(self, caller: Caller, connection: Connection, handler: HTTPRouteHandler) -> None:
        match limit(handler):
            case "task":
                task_id = connection.path_params["task_id"]
                queue = await self._queue_of_task(task_id) if abs(task_id) <= TASK_ID_MAX else None
                if queue != caller.queue:
                    raise no_task(task_id)
            case "queue":
                if not caller.sees(name := connection.path_params["name"]):
                    raise no_queue(name)
            case "none":
                raise Refusal(403, f'this key is good for queue "{caller.queue}" only, and this is about all of them')

    async def _queue_of_task(self, task_id: int) -> str | None:
        """None if there is no such task. A task never changes its queue."""
        rows = await self._pool.rows("select queue from lockgate.task_detail where id = %s", (task_id,))
        return rows[0][0] if rows else None


def caller_of(request: Connection) -> Caller:
    """The dependency `caller` of operations."""
    found: Caller = request.scope["auth"]
    return found


def needed(handler: HTTPRouteHandler) -> Scope | None:
    """Raises ImproperlyConfiguredException for an operation that has no line in the table."""
    operation = handler.operation_id
    if isinstance(operation, str) and operation in NEEDED:
        return NEEDED[operation]
    paths = {layer.path for layer in handler.ownership_layers if isinstance(layer, Router)}
    if handler.http_methods == {"OPTIONS"} or paths & PUBLIC_PATHS:
        return None
    raise ImproperlyConfiguredException(f"auth/guard.py does not say which scope {operation or handler} needs")


def limit(handler: HTTPRouteHandler) -> Limit:
    paths = " ".join(handler.paths)
    if "{task_id:" in paths:
        return "task"
    if "{name:" in paths:
        return "queue"
    return "none" if {"caller", "deps"}.isdisjoint(handler.parsed_fn_signature.parameters) else "caller"


def refuse_from_elsewhere(headers: Headers, sure: bool = True) -> None:
    """Raises Refusal (403) for a request of a page of another origin. Where the origin is unknown, the request is not
    from a browser, or from a very old one: it is refused only if `sure`."""
    is_ours = not sure
    if site := headers.get("sec-fetch-site"):
        is_ours = site in ("same-origin", "none")  # none: a person's own doing, such as a typed address
    elif (origin := headers.get("origin")) is not None:
        # Without https, browsers send no Sec-Fetch-Site to other machines, but do send Origin.
        is_ours = urlsplit(origin).netloc == headers.get("host") != ""
    if not is_ours:
        raise Refusal(403, "a browser may ask this for a page of this service only, and not for one from elsewhere")
