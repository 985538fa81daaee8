"""Problems: the types of errors, the refusal that code raises, the document that the client gets (RFC 9457), and
/problems, where its `type` leads. Also answers as the OpenAPI document describes them."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, NamedTuple

from litestar import get
from litestar.datastructures import ResponseHeader
from litestar.openapi import ResponseSpec
from litestar.params import PathParameter
from msgspec import Meta, Struct

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = "1"


class Kind(NamedTuple):
    """A type of problem: its name, its title, and what it means for the client."""

    name: str
    title: str
    explanation: str


# The type of each status, unless a refusal names one of those below. Names stay within a major version.
PROBLEMS: Mapping[int, Kind] = {
    400: Kind(
        "invalid-input",
        "The request is not valid",
        "Nothing was done. `errors` names each field at fault, or `body`, and says what is wrong with it. The same "
        "request will be refused again.",
    ),
    401: Kind(
        "unauthenticated",
        "The request needs a key that is good",
        "Send `Authorization: Bearer lockgate_...` with a key that `lockgate keys add` has made. One that was "
        "revoked is good for nothing.",
    ),
    403: Kind(
        "forbidden",
        "The key is not good for this",
        "Its scope is too small (`WWW-Authenticate` names the one it takes), or it is for one queue and this is "
        "about another, or about all. Or a browser asks this, without one or with the cookie of who is signed in, for "
        "a page of another origin.",
    ),
    404: Kind(
        "not-found",
        "There is nothing here",
        "No task has this number, no queue this name, or no operation this path. Ended tasks are removed when the "
        "retention of their queue is over. For a key of one queue, what is in others is not there.",
    ),
    405: Kind("method-not-allowed", "This method is not allowed here", "`Allow` names those that are."),
    408: Kind(
        "too-slow",
        "The request did not come in time",
        "Nothing more of its body came for a minute. `taken` says how much of it is stored.",
    ),
    413: Kind(
        "too-large",
        "The request is too large",
        "The body has more bytes than this operation takes. What is larger belongs elsewhere, and its address into "
        "the payload.",
    ),
    422: Kind(
        "idempotency-key-reused",
        "The idempotency key was used for another request",
        "A task was made with this `Idempotency-Key`, by a request with another body. Nothing was done. Use a new "
        "key for each new request, and the same one to send a request again.",
    ),
    429: Kind(
        "queue-full",
        "The queue is full",
        "As many tasks wait in it as its setting `depth_max` allows. Nothing was stored; try again after "
        "`Retry-After` seconds.",
    ),
    500: Kind(
        "internal-error",
        "Something is wrong with the service",
        "That should not be. The log of the service has what happened.",
    ),
    503: Kind(
        "unavailable",
        "The service cannot do this now",
        "The database is away, too busy or not ready, or the service is stopping. What was asked may have been done "
        "or not. Try again after `Retry-After` seconds, with the same `Idempotency-Key` where a task is made.",
    ),
}
# The types of 409, by name.
CONFLICTS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "already-ended",
            "The task has already ended",
            "It succeeded or failed before it could be cancelled.",
        ),
        Kind(
            "wrong-status",
            "The task's status does not allow this",
            "A retry is for tasks that failed or were cancelled, and a running task cannot be deleted.",
        ),
        Kind(
            "dedupe-key-taken",
            "Another unfinished task has this dedupe key",
            "Only one unfinished task of a queue may have a `dedupe_key`. Wait for the other one, or cancel it.",
        ),
        Kind("queue-exists", "There is a queue of this name already", "Change it with PATCH instead."),
        Kind(
            "queue-in-use",
            "The queue is not empty, or runners hold its slots",
            "Cancel what waits in it, purge what has ended, and try again.",
        ),
    )
}
# For all other statuses.
OTHER = Kind("http-error", "Another error of HTTP", "The status says which, and `detail` says more.")
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (*PROBLEMS.values(), *CONFLICTS.values(), OTHER)}


class FieldError(Struct, omit_defaults=True):
    """What is wrong with one field of the request."""

    field: Annotated[str, Meta(examples=["priority"])]
    message: Annotated[str, Meta(examples=["Expected `int` <= 100"])]
    pointer: (
        Annotated[str, Meta(description="Where it is in the body, as a JSON pointer.", examples=["/items/3/priority"])]
        | None
    ) = None


class Taken(Struct):
    """What was stored of a stream. Everything up to and including line `lines` is; nothing after it, unless the answer
    is 503: then the next 1,000 lines may be."""

    lines: Annotated[int, Meta(description="Also those that were empty or skipped.")] = 0
    created: int = 0
    replayed: Annotated[int, Meta(description="Had been stored before with the same idempotency key.")] = 0
    deduplicated: Annotated[int, Meta(description="Met an unfinished task with the same dedupe key.")] = 0


class Problem(Struct, omit_defaults=True):
    """Why a request was refused, after RFC 9457."""

    type: Annotated[str, Meta(description="Where it is explained.", examples=["/problems/invalid-input"])]
    title: Annotated[str, Meta(examples=["The request is not valid"])]
    status: Annotated[int, Meta(examples=[400])]
    detail: Annotated[str, Meta(examples=["priority: Expected `int` <= 100"])]
    errors: list[FieldError] = []
    taken: Annotated[Taken, Meta(description="Of a stream: what was stored before it stopped.")] | None = None


class Refusal(Exception):
    """An error that is answered with this status. `fields` are the fields at fault; `conflict` is the type of a 409."""

    def __init__(
        self, status: int, detail: str, fields: list[FieldError] | None = None, conflict: str | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.fields = fields or []
        self.conflict = conflict
        self.headers: dict[str, str] = {}
        self.taken: Taken | None = None
        self.is_logged = False


def problem(found: Refusal, root: str = "") -> Problem:
    """`root`: the path below which a proxy serves us."""
    kind = CONFLICTS[found.conflict] if found.conflict else PROBLEMS.get(found.status, OTHER)
    title = HTTPStatus(found.status).phrase if kind is OTHER else kind.title
    return Problem(f"{root}/problems/{kind.name}", title, found.status, found.detail, found.fields, found.taken)


def invalid(field: str, message: str, *others: str) -> Refusal:
    """A 400 about one field, or about it and others."""
    return Refusal(400, f"{field}: {message}", [FieldError(name, message) for name in (field, *others)])


def invalid_body(field: str, message: str) -> Refusal:
    """A 400 about a field of the body, whose path is written as in `items[3].kind`."""
    return Refusal(400, f"{field}: {message}", [FieldError(field, message, _pointer(field))])


def of_item(refusal: Refusal, path: str, field: str) -> Refusal:
    """The same about an item of the body; `field` is its field if the refusal names none."""
    fields = refusal.fields or [FieldError(field, refusal.detail)]
    within = [FieldError(f"{path}.{one.field}", one.message) for one in fields]
    for one in within:
        one.pointer = _pointer(one.field)
    return Refusal(refusal.status, f"{path}: {refusal.detail}", within, refusal.conflict)


def _pointer(path: str) -> str | None:
    """After RFC 6901."""
    if path == "body":
        return None
    return "/" + path.replace("~", "~0").replace("/", "~1").replace("[", ".").replace("]", "").replace(".", "/")


def no_task(task_id: int) -> Refusal:
    return Refusal(404, f"there is no task {task_id}")


def no_queue(name: str) -> Refusal:
    return Refusal(404, f'there is no queue "{name}"')


def no_runner(name: str) -> Refusal:
    return Refusal(404, f'there is no runner "{name}"')


def ended(task_id: int, status: str) -> Refusal:
    return Refusal(409, f"task {task_id} has already {status}", conflict="already-ended")


def unauthenticated(detail: str) -> Refusal:
    """A 401: the caller is not known."""
    refusal = Refusal(401, detail)
    refusal.headers["WWW-Authenticate"] = 'Bearer realm="lockgate"'
    return refusal


def forbidden(scope: str) -> Refusal:
    """A 403: the operation needs a key of that scope."""
    refusal = Refusal(403, f"this takes a key of scope {scope}")
    refusal.headers["WWW-Authenticate"] = f'Bearer realm="lockgate", error="insufficient_scope", scope="{scope}"'
    return refusal


def unavailable(detail: str) -> Refusal:
    """A 503: a retry may work."""
    return Refusal(503, detail)


# Of those statuses whose meaning is the same everywhere. openapi/document.py adds 400, 401, 403, 404, 413 and 503.
_MEANINGS = {
    408: "Nothing came for a minute.",
    422: "The idempotency key was used for another request.",
    429: "The queue is full: try again after `Retry-After` seconds.",
}


def header(name: str, description: str) -> ResponseHeader:
    """A header that an operation sets by itself."""
    return ResponseHeader(name=name, description=description, documentation_only=True)


LOCATION = header("Location", "Where it is.")


def described(status: int, shape: type, description: str) -> dict[int, ResponseSpec]:
    return {status: ResponseSpec(shape, description=description, generate_examples=False)}


def problems(*statuses: int, missing: str = "", conflict: str = "") -> dict[int, ResponseSpec]:
    """The refusals of one operation beside those that every operation has; `missing` describes its 404, and `conflict`
    its 409."""
    meanings = {status: _MEANINGS[status] for status in statuses} | {404: missing, 409: conflict}
    return {
        status: ResponseSpec(Problem, description=meaning, media_type=MEDIA_TYPE, generate_examples=False)
        for status, meaning in meanings.items()
        if meaning
    }


class ProblemKind(Struct):
    """A type of problem."""

    name: Annotated[str, Meta(examples=["invalid-input"])]
    status: Annotated[int, Meta(description="Of the answers that have it.", examples=[400])] | None
    title: Annotated[str, Meta(examples=["The request is not valid"])]
    explanation: Annotated[str, Meta(examples=["Nothing was done."])]


class ProblemKindList(Struct):
    """All types of problems."""

    items: list[ProblemKind]


@get(
    "/problems",
    response_description="All types.",
    summary="Types of problems",
)
async def list_problems() -> ProblemKindList:
    """Each type that an error's `type` can end with, and what to do then. Names stay within a major version."""
    return ProblemKindList([_shown(kind) for kind in KINDS.values()])


@get(
    "/problems/{name:str}",
    response_description="The type.",
    summary="A type of problem",
    responses=problems(missing="There is no such type."),
)
async def get_problem(name: Annotated[str, PathParameter(description="The end of `type`.")]) -> ProblemKind:
    """What it means, and what to do then."""
    if (kind := KINDS.get(name)) is None:
        raise Refusal(404, f'there is no type "{name}"')
    return _shown(kind)


def _shown(kind: Kind) -> ProblemKind:
    status = 409 if kind.name in CONFLICTS else next((each for each, its in PROBLEMS.items() if its is kind), None)
    return ProblemKind(kind.name, status, kind.title, kind.explanation)
