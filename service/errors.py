"""What goes wrong, as an HTTP status and the field at fault: one table, one handler."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import psycopg
from litestar import Request, Response
from litestar.exceptions import HTTPException
from msgspec import Struct
from psycopg import errors

from service.log import logger
from service.messages import FieldError, NewTask, Problem, Status

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = "1"

# Fixed per status: type, title.
PROBLEMS: Mapping[int, tuple[str, str]] = {
    400: ("invalid-input", "The request is not valid"),
    404: ("not-found", "There is nothing here"),
    405: ("method-not-allowed", "This method is not allowed here"),
    409: ("already-ended", "The task has already ended"),
    413: ("too-large", "The request is too large"),
    422: ("idempotency-key-reused", "The idempotency key was used for another request"),
    500: ("internal-error", "Something is wrong with the service"),
    503: ("unavailable", "The service cannot do this now"),
}


class Refusal(Exception):
    """Answered as it says. `fields` are those of the request that are at fault."""

    def __init__(self, status: int, detail: str, fields: list[FieldError] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.fields = fields or []


def invalid(field: str, message: str, *others: str) -> Refusal:
    """A 400 about one field, or that or others."""
    return Refusal(400, f"{field}: {message}", [FieldError(name, message) for name in (field, *others)])


def no_task(task_id: int) -> Refusal:
    return Refusal(404, f"there is no task {task_id}")


def ended(task_id: int, status: Status) -> Refusal:
    return Refusal(409, f"task {task_id} has already {status}")


def refused(outcome: str, task: NewTask, task_id: int | None) -> Refusal:
    """For what `submit_batch` refused without an error."""
    match outcome:
        case "unknown_queue":
            return invalid("queue", f'there is no queue "{task.queue or "default"}"')
        case "kind_refused":
            return invalid("kind", f'queue "{task.queue or "default"}" does not take tasks of kind "{task.kind}"')
        case "key_reused":
            return Refusal(422, f"task {task_id} was created with this idempotency key by another request")
    raise AssertionError(f"submit_batch said {outcome}")


def unavailable(detail: str) -> Refusal:
    """A 503: may work if it is tried again."""
    return Refusal(503, detail)


# Which fields a constraint is about. Its name is a sentence, and says what is wrong.
CONSTRAINT_FIELDS: Mapping[str, tuple[str, ...]] = {
    "kind_is_1_to_200_characters": ("kind",),
    "priority_is_between_minus_100_and_100": ("priority",),
    "run_at_is_finite": ("run_at",),
    "max_attempts_are_1_to_1000": ("max_attempts",),
    "timeout_is_positive_and_at_most_30_days": ("timeout",),
    "payload_is_at_most_1_mib": ("payload",),
    "metadata_and_tags_are_small": ("metadata", "tags"),
}

NO_DATABASE = "the database cannot be reached"
NO_SCHEMA = "the schema is missing or too old: run `lockgate migrate`"
NO_RIGHTS = "the database login may not do this: make it a member of lockgate_service"


class Row(Struct, frozen=True):
    """A line of the table below: the status, and the field (400) or what to say."""

    status: int
    says: str


# By SQLSTATE, else by its class (the first two characters).
SQLSTATES: Mapping[str, Row] = {
    "LG006": Row(404, "there is no such task"),
    "22": Row(400, "payload"),
    "54": Row(400, "payload"),
    "08": Row(503, NO_DATABASE),
    "25": Row(503, "the database is read-only"),
    "3F": Row(503, NO_SCHEMA),
    "40": Row(503, "the database was too busy"),
    "42501": Row(503, NO_RIGHTS),
    "42883": Row(503, NO_SCHEMA),
    "42P01": Row(503, NO_SCHEMA),
    "53": Row(503, "the database is out of resources"),
    "55": Row(503, "the database was too busy"),
    "57": Row(503, NO_DATABASE),
    "58": Row(503, "the database cannot write"),
}

# Statements fail for what is in them, or for meeting a rival; smaller ones may not.
CONTENT_CLASSES = frozenset({"22", "23", "40", "54"})


def refusal(error: Exception) -> Refusal | None:
    """What a database error means for whoever asked; None if it is a fault of ours."""
    if isinstance(error, Refusal):
        return error
    if not isinstance(error, psycopg.Error):
        return None
    code = error.sqlstate
    if code is None:
        # From psycopg or its pool, not from the server.
        return unavailable(NO_DATABASE) if isinstance(error, psycopg.OperationalError) else None
    message = error.diag.message_primary or str(error)
    if isinstance(error, errors.CheckViolation) and error.diag.constraint_name:
        # A function that raises this says it in words; a table's constraint only in its name.
        sentence = error.diag.constraint_name.replace("_", " ") if error.diag.table_name else message
        field, *others = CONSTRAINT_FIELDS.get(error.diag.constraint_name, ("body",))
        return invalid(field, sentence, *others)
    row = SQLSTATES.get(code) or SQLSTATES.get(code[:2])
    if row is None:
        return None
    return invalid(row.says, message) if row.status == 400 else Refusal(row.status, row.says)


def is_about_content(error: Exception) -> bool:
    return isinstance(error, psycopg.Error) and (error.sqlstate or "")[:2] in CONTENT_CLASSES


def answer(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """The one handler: every error leaves as application/problem+json."""
    headers: dict[str, str] = {}
    found = refusal(error)
    if found is None and isinstance(error, HTTPException):
        fields = _field_errors(error)
        detail = "; ".join(f"{one.field}: {one.message}" for one in fields) or error.detail
        found = Refusal(error.status_code, detail, fields)
        headers.update(error.headers or {})
    if found is None:
        logger.error("failed", method=request.method, path=request.url.path, exc_info=error)
        found = Refusal(500, "the log of the service says more")
    if found.status == 503:
        headers["Retry-After"] = RETRY_SECONDS
        logger.warning("unavailable", detail=found.detail, error=str(error), path=request.url.path)
    return Response(problem(found), status_code=found.status, headers=headers, media_type=MEDIA_TYPE)


def problem(found: Refusal) -> Problem:
    name, title = PROBLEMS.get(found.status) or ("http-error", HTTPStatus(found.status).phrase)
    return Problem(f"urn:lockgate:problem:{name}", title, found.status, found.detail, found.fields)


def _field_errors(error: HTTPException) -> list[FieldError]:
    """Litestar's findings about parameters, and that there is no body where one has to be (`data`)."""
    found = error.extra if isinstance(error.extra, list) else []
    return [
        FieldError("body", "is missing")
        if one.get("key") == "data"
        else FieldError(str(one.get("key", "body")), str(one.get("message", "")))
        for one in found
    ]
