"""Parameters of paths and queries: those that operations share, and what no operation takes."""

import re
from datetime import datetime
from typing import Annotated, Any

from litestar import Request
from litestar.params import PathParameter, QueryParameter
from litestar.typing import FieldDefinition

from service.messages import TaskFilter
from service.problem import invalid, no_task

TASK_ID_MAX = 2**63 - 1
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

TaskId = Annotated[int, PathParameter(description="The task's number.")]
QueueName = Annotated[str, PathParameter(description="The queue's name.")]
RunnerName = Annotated[str, PathParameter(description="The runner's name, `runner` in the list of runners.")]


def refuse_strange(request: Request[Any, Any, Any]) -> None:
    """Raises Refusal: 400 for a query parameter that the operation does not have, or has but once, and for NUL; 404 for
    a number that no task can have."""
    task_id = request.path_params.get("task_id", 0)
    if abs(task_id) > TASK_ID_MAX:
        raise no_task(task_id)
    texts = {name: [value] for name, value in request.path_params.items() if isinstance(value, str)}
    if request.scope["query_string"]:
        given = request.query_params.dict()
        known = _query_parameters(request)
        for name, values in given.items():
            if name not in known:
                raise invalid(name, f"is not a parameter: there {_are(sorted(known))}")
            if len(values) > 1 and not _takes_several(known[name]):
                raise invalid(name, "is given more than once")
        texts |= given
    for name, values in texts.items():
        if any("\0" in value for value in values):
            raise invalid(name, "holds a NUL character (U+0000)")


def _query_parameters(request: Request[Any, Any, Any]) -> dict[str, FieldDefinition]:
    return {
        name: parameter
        for name, parameter in request.route_handler.parsed_fn_signature.parameters.items()
        if isinstance(parameter.kwarg_definition, QueryParameter)
    }


def _takes_several(parameter: FieldDefinition) -> bool:
    return any(one.is_non_string_collection for one in (parameter, *parameter.inner_types))


def _are(names: list[str]) -> str:
    return f"are {', '.join(names)}" if names else "are none"


def check_times(only: TaskFilter) -> None:
    """Raises Refusal (400) for a time that may be any of a day."""
    for name in ("created_after", "created_before", "finished_after", "finished_before"):
        time: datetime | None = getattr(only, name)
        if time is not None and time.tzinfo is None:
            raise invalid(name, "needs an offset or Z, as in 2026-05-01T12:00:00Z")


def seconds(name: str, text: str) -> int:
    """Raises Refusal (400)."""
    found = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", text)
    if not found:
        raise invalid(name, "is not of the form 90s, 15m, 1h, 7d")
    return int(found[1]) * UNITS[found[2]]
