"""Handlers: the functions that execute tasks, and what they may say beside their result."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints, overload

import msgspec

Function = TypeVar("Function", bound=Callable[..., Any])


class Retry(Exception):
    """Raised by a handler: end this attempt and try again, after ``after`` seconds (None: the queue's back-off)."""

    def __init__(self, reason: str = "the handler asked for another attempt", after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Discard(Exception):
    """Raised by a handler: the task has failed for good, whatever attempts are left."""


class Cancelled(BaseException):
    """Raised inside a handler that is asked to stop: its task was cancelled, took too long, or the runner stops.

    Not an Exception, so that a broad ``except Exception`` does not swallow it. Clean up and let it pass; a handler
    that keeps going is killed a few seconds later.
    """


class Task:
    """The task being executed, for a handler that has a parameter named ``task``.

    ``lease`` is new and greater at each claim, over all tasks: hand it to whatever you write to elsewhere, and let that
    refuse anything lower than the greatest it has seen.
    """

    def __init__(self, *, id: int, lease: int, queue: str, kind: str, attempt: int, max_attempts: int) -> None:  # noqa: A002 - the column's name
        self.id = id
        self.lease = lease
        self.queue = queue
        self.kind = kind
        self.attempt = attempt
        self.max_attempts = max_attempts
        self.cancelled = False
        """True once the handler was asked to stop; for code that would rather look than be interrupted."""
        self.on_progress: Callable[[Any], None] = lambda _: None

    def progress(self, value: Any) -> None:
        """Reports how far the handler is: any JSON value, such as ``{"done": 3, "total": 10}``.

        Costs little, call it as often as you like: of values reported faster than they can be stored, the latest is.
        It shows in ``task.progress`` and in the API while the task runs, and stays there.
        """
        self.on_progress(value)


class Handler:
    """A handler function and how its payload becomes its arguments.

    A parameter ``task`` receives the `Task`. A parameter ``payload`` receives the whole payload, converted to its
    annotation; without one, the payload's keys are the function's keyword arguments. Either way the payload is checked
    against the type hints before the function is called.
    """

    def __init__(self, kind: str, function: Callable[..., Any]) -> None:
        self.kind = kind
        self.function = function
        self.is_async = asyncio.iscoroutinefunction(function)
        hints = get_type_hints(function, include_extras=True)
        parameters = dict(inspect.signature(function).parameters)
        self.takes_task = parameters.pop("task", None) is not None
        self.takes_payload = "payload" in parameters
        if self.takes_payload:
            if len(parameters) > 1:
                others = ", ".join(name for name in parameters if name != "payload")
                raise TypeError(f"handler {kind!r} takes the whole payload, so it cannot take {others} too")
            self.payload_type: Any = hints.get("payload", Any)
            return
        fields: list[Any] = []
        for name, parameter in parameters.items():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise TypeError(f"handler {kind!r}: parameter {name!r} must be an ordinary or keyword-only one")
            hint = hints.get(name, Any)
            fields.append((name, hint) if parameter.default is parameter.empty else (name, hint, parameter.default))
        self.payload_type = msgspec.defstruct(f"{kind} payload", fields, kw_only=True, forbid_unknown_fields=True)

    def schema(self) -> dict[str, Any] | None:
        """The JSON Schema of the payload, with the first line of the docstring; None where the handler takes anything.

        Raises:
            TypeError: a type hint has no JSON Schema.
        """
        if self.payload_type is Any:
            return None
        found = msgspec.json.schema(self.payload_type)
        if said := inspect.cleandoc(self.function.__doc__ or "").partition("\n")[0]:
            found = {"description": said, **found}
        return found

    def arguments(self, payload: bytes, task: Task) -> dict[str, Any]:
        """The keyword arguments for this payload (JSON).

        Raises:
            msgspec.ValidationError: the payload does not fit the type hints; the text names the field.
        """
        decoded = msgspec.json.decode(payload, type=self.payload_type)
        if self.takes_payload:
            arguments = {"payload": decoded}
        else:
            arguments = {name: getattr(decoded, name) for name in decoded.__struct_fields__}
        if self.takes_task:
            arguments["task"] = task
        return arguments


registry: dict[str, Handler] = {}
"""Kind -> handler, filled by `handler` as modules are imported."""

setups: list[Callable[[], Any]] = []
"""What `setup` has registered, in that order."""


def setup(function: Function) -> Function:
    """Registers a function that runs once in each executor, after all handlers are imported and before its first task.

    For what is dear to make and may be kept: a model, a client. It must be sync; if it raises, the executor does not
    start.
    """
    setups.append(function)
    return function


@overload
def handler(kind_or_function: Function, /) -> Function: ...
@overload
def handler(kind_or_function: str, /) -> Callable[[Function], Function]: ...
def handler(kind_or_function: Any, /) -> Any:
    """Registers a function, sync or async, as the handler of a kind: ``@handler`` (its name) or ``@handler("kind")``.

    Raises:
        ValueError: another handler has this kind already.
        TypeError: its parameters cannot be filled from a payload.
    """
    if isinstance(kind_or_function, str):
        return lambda function: _register(kind_or_function, function)
    return _register(kind_or_function.__name__, kind_or_function)


def _register(kind: str, function: Function) -> Function:
    if kind in registry:
        raise ValueError(f"there are two handlers of kind {kind!r}")
    registry[kind] = Handler(kind, function)
    return function
