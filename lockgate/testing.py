"""For tests of your own handlers: what a runner would do with a payload, without a runner and without Postgres.

::

    from lockgate.testing import execute

    def test_a_thumbnail_is_made():
        assert execute("thumbnail", {"path": "cat.jpg"}).result == "cat-200.jpg"
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from lockgate.handlers import Handler, Task, registry


@dataclass(frozen=True)
class Execution:
    """What came of it: the result and the reported progress, as they would be stored."""

    result: Any
    progress: list[Any] = field(default_factory=list)


def execute(
    kind_or_function: str | Callable[..., Any],
    payload: Any = None,
    *,
    id: int = 1,  # noqa: A002 - the column's name
    lease: int = 1,
    queue: str = "default",
    attempt: int = 1,
    max_attempts: int = 3,
) -> Execution:
    """Executes a handler once in this process, with the payload turned into JSON and checked as a runner would.

    Args:
        kind_or_function: a registered kind, or a function, registered or not.
        payload: what would be submitted; None is an empty object.

    Raises:
        LookupError: there is no handler of that kind; the text names those there are.
        msgspec.ValidationError: the payload does not fit the handler's type hints.
        TypeError, ValueError: the result has no JSON form.
        Exception: whatever the handler raises, `Retry` and `Discard` among it.
    """
    if isinstance(kind_or_function, str):
        if kind_or_function not in registry:
            raise LookupError(f"no handler of kind {kind_or_function!r}; there are: {', '.join(sorted(registry))}")
        handler = registry[kind_or_function]
    else:
        handler = Handler(kind_or_function.__name__, kind_or_function)
    task = Task(id=id, lease=lease, queue=queue, kind=handler.kind, attempt=attempt, max_attempts=max_attempts)
    progress: list[Any] = []
    task.on_progress = lambda value: progress.append(_as_stored(value))
    arguments = handler.arguments(msgspec.json.encode({} if payload is None else payload), task)
    result = handler.function(**arguments)
    return Execution(_as_stored(asyncio.run(result) if handler.is_async else result), progress)


def _as_stored(value: Any) -> Any:
    return json.loads(json.dumps(msgspec.to_builtins(value, str_keys=True), allow_nan=False))
