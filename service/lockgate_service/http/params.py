"""Parameters of paths and queries, and times: the types that operations share, and the check before every operation."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import parse_qsl

from litestar import Request, Response
from litestar.params import PathParameter, QueryParameter
from litestar.routes import HTTPRoute
from litestar.typing import FieldDefinition
from msgspec import Struct

from lockgate_service.http.body import no_text
from lockgate_service.http.problems import invalid, no_task

TASK_ID_MAX = 2**63 - 1
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = "([1-9][0-9]{0,6})([smhd])"

TIMES = ("run_at", "created_after", "created_before", "finished_after", "finished_before")

# For the documentation of parameters that `seconds` reads.
DURATION = {"pattern": f"^{_DURATION}$"}

TaskId = Annotated[int, PathParameter(description="The task's number.")]
QueueName = Annotated[str, PathParameter(description="The queue's name.")]
RunnerName = Annotated[str, PathParameter(description="The runner's name, `runner` in the list of runners.")]


def time_parameter(description: str) -> QueryParameter:
    """For a text that `to_utc` follows: Litestar would take a bare number for a time too."""
    return QueryParameter(description=description, schema_extra={"format": "date-time"})


async def check(request: Request[Any, Any, Any]) -> Response[None] | None:
    """Answers OPTIONS. Raises Refusal: 400 for a query parameter that the operation does not have, or that is given
    more often than it may be, and for text that Postgres cannot store; 404 for what is no number of a task."""
    if request.method == "OPTIONS":
        # Litestar's own answer has the methods of one of several handlers of a path.
        return Response(None, status_code=204, headers={"Allow": ", ".join(sorted(_methods(request)))})
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
    return None


def _methods(request: Request[Any, Any, Any]) -> set[str]:
    path = request.scope["path_template"]
    routes = [route for route in request.app.routes if isinstance(route, HTTPRoute) and route.path_format == path]
    return {str(method) for route in routes for method in route.methods}


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


def seconds(name: str, text: str) -> int:
    """Raises Refusal (400)."""
    found = re.fullmatch(_DURATION, text)
    if not found:
        raise invalid(name, "is not of the form 90s, 15m, 1h, 7d")
    return int(found[1]) * UNITS[found[2]]


def to_utc(given: Struct, within: str = "") -> None:
    """Puts its times into UTC, since Postgres takes no offset beyond 16 hours. Raises Refusal (400) that names the
    field, below `within`, for a time whose year then has not four digits."""
    for name in TIMES:
        if isinstance(time := getattr(given, name, None), datetime):
            try:
                setattr(given, name, time.astimezone(UTC))
            except OverflowError:
                raise invalid(f"{within}{name}", "is not within the years 1 to 9999 in UTC") from None
