"""Refusals: what is said when a request is not done, and the one shape in which it leaves."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated

from msgspec import Meta, Struct

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = "1"

# Fixed per status: type, title.
PROBLEMS: Mapping[int, tuple[str, str]] = {
    400: ("invalid-input", "The request is not valid"),
    401: ("unauthenticated", "The request needs a key that is good"),
    403: ("forbidden", "The key is not good for this"),
    404: ("not-found", "There is nothing here"),
    405: ("method-not-allowed", "This method is not allowed here"),
    408: ("too-slow", "The request did not come in time"),
    413: ("too-large", "The request is too large"),
    422: ("idempotency-key-reused", "The idempotency key was used for another request"),
    500: ("internal-error", "Something is wrong with the service"),
    503: ("unavailable", "The service cannot do this now"),
}
# 409, by type.
CONFLICTS: Mapping[str, str] = {
    "already-ended": "The task has already ended",
    "wrong-status": "The task's status does not allow this",
    "dedupe-key-taken": "Another unfinished task has this dedupe key",
    "queue-exists": "There is a queue of this name already",
    "queue-in-use": "The queue is not empty, or runners hold its slots",
}


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

    type: Annotated[str, Meta(examples=["urn:lockgate:problem:invalid-input"])]
    title: Annotated[str, Meta(examples=["The request is not valid"])]
    status: Annotated[int, Meta(examples=[400])]
    detail: Annotated[str, Meta(examples=["priority: Expected `int` <= 100"])]
    errors: list[FieldError] = []
    taken: Annotated[Taken, Meta(description="Of a stream: what was stored before it stopped.")] | None = None


class Refusal(Exception):
    """Answered as it says. `fields` are those of the request that are at fault; `conflict` is the type of a 409."""

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


def problem(found: Refusal) -> Problem:
    if found.conflict:
        name, title = found.conflict, CONFLICTS[found.conflict]
    else:
        name, title = PROBLEMS.get(found.status) or ("http-error", HTTPStatus(found.status).phrase)
    return Problem(f"urn:lockgate:problem:{name}", title, found.status, found.detail, found.fields, found.taken)


def invalid(field: str, message: str, *others: str) -> Refusal:
    """A 400 about one field, or that or others."""
    return Refusal(400, f"{field}: {message}", [FieldError(name, message) for name in (field, *others)])


def invalid_body(field: str, message: str) -> Refusal:
    """A 400 about a field of the body, whose path is written as in `items[3].kind`."""
    return Refusal(400, f"{field}: {message}", [FieldError(field, message, _pointer(field))])


def of_item(refusal: Refusal, path: str, field: str) -> Refusal:
    """The same about an item of the body; `field` is what it is about if it does not say so itself."""
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
    """A 401: who asks is not known."""
    refusal = Refusal(401, detail)
    refusal.headers["WWW-Authenticate"] = 'Bearer realm="lockgate"'
    return refusal


def forbidden(scope: str) -> Refusal:
    """A 403: it takes a key of that scope."""
    refusal = Refusal(403, f"this takes a key of scope {scope}")
    refusal.headers["WWW-Authenticate"] = f'Bearer realm="lockgate", error="insufficient_scope", scope="{scope}"'
    return refusal


def unavailable(detail: str) -> Refusal:
    """A 503: may work if it is tried again."""
    return Refusal(503, detail)
