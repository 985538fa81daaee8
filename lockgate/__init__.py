"""Lockgate: a task queue on Postgres that never executes more than N tasks at once, whatever dies.

For your handlers module (named in ``LOCKGATE_HANDLERS``)::

    from lockgate import Discard, Retry, Task, handler

    @handler
    def thumbnail(path: str, width: int = 200) -> str: ...
"""

from lockgate.handlers import Cancelled, Discard, Retry, Task, handler, setup

__all__ = ["Cancelled", "Discard", "Retry", "Task", "handler", "setup"]
