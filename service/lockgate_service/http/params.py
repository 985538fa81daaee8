"""Parameters of paths and queries, times, and headers (Idempotency-Key, Prefer and ETag): the types that operations
share, and the check before every operation."""

import re
from datetime import UTC, datetime
from hashlib import blake2b
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

IDEMPOTENCY_KEY = "Idempotency-Key"
IDEMPOTENCY_KEY_MAX = 200
_FIRST, _BARE = "[!#-~]", "[!-~]"
_QUOTED = r'([ !#-\[\]-~]|\\["\\])'
_KEY = re.compile(f'{_FIRST}{_BARE}*|"{_QUOTED}+"')

PREFER = "Prefer"
WAIT_MAX = 60  # seconds
PREFER_DESCRIPTION = (
    f"`wait=N` (RFC 7240): answer when the task has ended, or after N seconds ({WAIT_MAX} at most) with the task as it "
    "is then. Other preferences are ignored."
)
_WAIT = re.compile(r'wait\s*=\s*"?(\d+)"?', re.IGNORECASE)


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
                raise invalid(name, f"is not a parameter: there are {', '.join(sorted(known)) or 'none'}")
            takes_several = any(one.is_non_string_collection for one in (known[name], *known[name].inner_types))
            if len(values) > 1 and not takes_several:
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


def idempotency_pattern(length: int) -> str:
    """The pattern of `idempotency_key` for the documentation, for a key of at most `length` characters."""
    return f'^({_FIRST}{_BARE}{{0,{length - 1}}}|"{_QUOTED}{{1,{length}}}")$'


def idempotency_key(header: str | None) -> str | None:
    """The key: a string in quotes as in the IETF's draft, or the same key bare. Raises Refusal (400)."""
    if header is None:
        return None
    if not _KEY.fullmatch(header):
        raise invalid(IDEMPOTENCY_KEY, "must be visible ASCII characters, or a string of them in double quotes")
    key = re.sub(r"\\(.)", r"\1", header[1:-1]) if header.startswith('"') else header
    if len(key) > IDEMPOTENCY_KEY_MAX:
        raise invalid(IDEMPOTENCY_KEY, f"must have at most {IDEMPOTENCY_KEY_MAX} characters")
    return key


def wait_seconds(header: str | None) -> int | None:
    """How long a request is ready to wait. None without a wait that we understand, as RFC 7240 demands."""
    for preference in (header or "").split(","):
        if found := _WAIT.fullmatch(preference.partition(";")[0].strip()):
            return min(int(found[1][:9]), WAIT_MAX)
    return None


def preference_applied(seconds: int) -> dict[str, str]:
    return {"Preference-Applied": f"wait={seconds}"}


def etag(body: bytes) -> str:
    """Of the body, so that nobody has to keep a version of it."""
    return f'"{blake2b(body, digest_size=12).hexdigest()}"'


def matches(if_none_match: str | None, tag: str) -> bool:
    given = [one.strip().removeprefix("W/") for one in (if_none_match or "").split(",")]
    return tag in given or given == ["*"]
