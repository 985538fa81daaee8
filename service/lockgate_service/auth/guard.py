"""The guard before every operation: who asks, whether they may, and whether it is about what they may see."""

from typing import Any, Literal

from litestar import Router
from litestar.connection import ASGIConnection
from litestar.exceptions import ImproperlyConfiguredException
from litestar.handlers import HTTPRouteHandler
from litestar.handlers.base import BaseRouteHandler

from lockgate_service.auth import cookie, db
from lockgate_service.auth.caller import Caller, Scope
from lockgate_service.auth.keys import Keys
from lockgate_service.auth.origin import SAFE_METHODS, refuse_from_elsewhere
from lockgate_service.auth.scopes import NEEDED
from lockgate_service.health import Health
from lockgate_service.http.params import TASK_ID_MAX
from lockgate_service.http.problems import Refusal, forbidden, no_queue, no_task
from lockgate_service.pool import Pool

Connection = ASGIConnection[Any, Any, Any, Any]
# Of the documentation, and of the files that it loads.
PUBLIC_PATHS = {"/docs", "/static"}
# How an operation keeps a caller to its queue: by the task or the queue in its path, by asking the caller, or not at
# all, and then it is not for one who is limited to a queue.
Limit = Literal["task", "queue", "caller", "none"]


class Guard:
    """Refuses before anything of the request is decoded. Puts the Caller into `auth` of the request."""

    def __init__(self, pool: Pool, health: Health, keys: Keys) -> None:
        self._pool = pool
        self._health = health
        self._keys = keys

    async def __call__(self, connection: Connection, handler: BaseRouteHandler) -> None:
        if not isinstance(handler, HTTPRouteHandler):
            raise Refusal(403, "there is no rule for this")
        if (scope := needed(handler)) is None:
            return
        await self._health.schema()
        headers = connection.headers
        authorization = headers.get("authorization")
        caller = await self._keys.caller(authorization, cookie.key_in(headers.get("cookie")))
        if authorization is None and connection.scope.get("method") not in SAFE_METHODS:
            # A browser brings the cookie, and reaches an open service, for whatever page it shows.
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
                queue = await db.queue_of_task(self._pool, task_id) if abs(task_id) <= TASK_ID_MAX else None
                if queue != caller.queue:
                    raise no_task(task_id)
            case "queue":
                if not caller.sees(name := connection.path_params["name"]):
                    raise no_queue(name)
            case "none":
                raise Refusal(403, f'this key is good for queue "{caller.queue}" only, and this is about all of them')


def caller_of(request: Connection) -> Caller:
    """For operations that ask for their `caller`."""
    found: Caller = request.scope["auth"]
    return found


def needed(handler: HTTPRouteHandler) -> Scope | None:
    """Raises ImproperlyConfiguredException for an operation that has no line in the table."""
    operation = handler.operation_id
    if isinstance(operation, str) and operation in NEEDED:
        return NEEDED[operation]
    if handler.http_methods == {"OPTIONS"} or not PUBLIC_PATHS.isdisjoint(layer.path for layer in _routers(handler)):
        return None
    raise ImproperlyConfiguredException(f"service/scopes.py does not say which scope {operation or handler} needs")


def _routers(handler: HTTPRouteHandler) -> list[Router]:
    return [layer for layer in handler.ownership_layers if isinstance(layer, Router)]


def limit(handler: HTTPRouteHandler) -> Limit:
    paths = " ".join(handler.paths)
    if "{task_id:" in paths:
        return "task"
    if "{name:" in paths:
        return "queue"
    return "none" if {"caller", "deps"}.isdisjoint(handler.parsed_fn_signature.parameters) else "caller"
