"""Lockgate: a task queue on Postgres that never executes more than N tasks at once, whatever dies.

For your handlers module (named in ``LOCKGATE_HANDLERS``)::

    from lockgate import Discard, Retry, Task, handler

    @handler
    def thumbnail(path: str, width: int = 200) -> str: ...

For programs that submit tasks over HTTP: ``Client`` and ``AsyncClient``, with the rest of `lockgate.client`, which
is the distribution `lockgate-client`.
"""

from typing import TYPE_CHECKING, Any

from lockgate.handlers import Cancelled, Discard, Retry, Task, handler, setup

__all__ = ["Cancelled", "Discard", "Retry", "Task", "handler", "setup"]
# Not the clients: `from lockgate import *` has to work where httpx is not.

if TYPE_CHECKING:
    from lockgate.client import AsyncClient as AsyncClient
    from lockgate.client import Client as Client


def __getattr__(name: str) -> Any:
    """Imports the clients when they are asked for: runners have no use for them."""
    if name not in ("AsyncClient", "Client"):
        raise AttributeError(f"module 'lockgate' has no attribute {name!r}")
    from lockgate import client

    return getattr(client, name)
