"""Parameters of paths and queries: those that operations share, and what no operation takes."""

import re
from typing import Annotated, Any
from urllib.parse import parse_qsl

import msgspec
from litestar import Request
from litestar.params import PathParameter, QueryParameter
from litestar.typing import FieldDefinition

from lockgate_service.http.body import field_and_message, no_text
from lockgate_service.http.problems import invalid, no_task
from lockgate_service.http.times import to_utc
from lockgate_service.tasks.messages import TaskFilter

TASK_ID_MAX = 2**63 - 1
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = "([1-9][0-9]{0,6})([smhd])"

# How parameters are documented that `seconds` reads, and those that `task_filter` does: Litestar would take a bare
# number for a time too.
DURATION = {"pattern": f"^{_DURATION}$"}
TIME = {"format": "date-time"}

TaskId = Annotated[int, PathParameter(description="The task's number.")]
QueueName = Annotated[str, PathParameter(description="The queue's name.")]
RunnerName = Annotated[str, PathParameter(description="The runner's name, `runner` in the list of runners.")]


def refuse_strange(request: Request[Any, Any, Any]) -> None:
    """Raises Refusal: 400 for a query parameter that the operation does not have, or has but once, and for what is no
    text to Postgres; 404 for what is no number of a task."""
    task_id = request.path_params.get("task_id", 0)
    # Python takes 1_0, +10 and digits of other scripts for numbers too.
    if abs(task_id) > TASK_ID_MAX or (task_id and str(task_id) not in request.scope["path"].split("/")):
        raise no_task(task_id)
    texts = {name: [value] for name, value in request.path_params.items() if isinstance(value, str)}
    if query := request.scope["query_string"]:
        given: dict[str, list[str]] = {}
        # Not `query_params`, where bytes that are no UTF-8 are replaced.
        for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True, errors="surrogateescape"):
            given.setdefault(name, []).append(value)
        known = _query_parameters(request)
        for name, values in given.items():
            if (message := no_text(name) if name else "is empty") is not None:
                raise invalid("query", f"has a parameter whose name {message}")
            if name not in known:
                raise invalid(name, f"is not a parameter: there {_are(sorted(known))}")
            if len(values) > 1 and not _takes_several(known[name]):
                raise invalid(name, "is given more than once")
        texts |= given
    for name, values in texts.items():
        if (message := no_text("".join(values))) is not None:
            raise invalid(name, message)


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


def task_filter(**given: object) -> TaskFilter:
    """The filter of a list. Raises Refusal (400), also for a time that may be any of a day."""
    try:
        only = msgspec.convert(given, TaskFilter)
    except msgspec.ValidationError as error:
        raise invalid(*field_and_message(str(error))) from None
    to_utc(only)
    return only


def seconds(name: str, text: str) -> int:
    """Raises Refusal (400)."""
    found = re.fullmatch(_DURATION, text)
    if not found:
        raise invalid(name, "is not of the form 90s, 15m, 1h, 7d")
    return int(found[1]) * UNITS[found[2]]
