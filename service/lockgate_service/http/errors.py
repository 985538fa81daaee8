"""Errors as HTTP statuses and the fields at fault: one table, one handler."""

from collections.abc import Mapping
from typing import Any

import psycopg
from litestar import Request, Response
from litestar.exceptions import HTTPException
from msgspec import Struct
from psycopg import errors

from lockgate.log import logger
from lockgate_service.http.problems import (
    MEDIA_TYPE,
    RETRY_SECONDS,
    FieldError,
    Problem,
    Refusal,
    invalid,
    problem,
    unavailable,
)

# Which fields a constraint is about. Its name is a sentence, and says what is wrong.
CONSTRAINT_FIELDS: Mapping[str, tuple[str, ...]] = {
    "kind_is_1_to_200_characters": ("kind",),
    "priority_is_between_minus_100_and_100": ("priority",),
    "run_at_is_within_the_years_1_to_9999": ("run_at",),
    "max_attempts_are_1_to_1000": ("max_attempts",),
    "max_attempts_are_more_than_the_attempts": ("max_attempts",),
    "timeout_is_positive_and_at_most_30_days": ("timeout",),
    "payload_is_at_most_1_mib": ("payload",),
    "metadata_is_at_most_16_kib": ("metadata",),
    "tags_are_at_most_4_kib": ("tags",),
    "idempotency_key_is_1_to_200_characters": ("Idempotency-Key",),
    "dedupe_key_is_1_to_200_characters": ("dedupe_key",),
    "a_queue_name_is_short_and_plain": ("name",),
    "slots_are_0_to_1000": ("slots",),
    "grace_is_1_to_3600_seconds": ("grace",),
    "backoff_is_0_to_30_days": ("backoff_base", "backoff_max"),
    "retention_is_not_negative": ("retention",),
    "depth_max_is_0_to_1000000": ("depth_max",),
}

NO_DATABASE = "the database cannot be reached"
NO_SCHEMA = "the schema is missing or too old: run `lockgate migrate`"
NO_RIGHTS = "the database login may not do this: make it a member of lockgate_service"


class Row(Struct, frozen=True):
    """A line of the table below. Without `says`, the answer has the schema's own message."""

    status: int
    says: str | None = None
    field: str = "body"  # of a 400
    conflict: str | None = None  # the type of a 409


# By SQLSTATE, else by its class (the first two characters).
SQLSTATES: Mapping[str, Row] = {
    "LG001": Row(404),
    "LG006": Row(404),
    "LG007": Row(409, conflict="wrong-status"),
    "LG008": Row(409, conflict="dedupe-key-taken"),
    "LG009": Row(409, conflict="queue-in-use"),
    "LG010": Row(404),
    "LG011": Row(429),
    "22": Row(400, field="payload"),
    "23505": Row(409, conflict="queue-exists"),
    "54": Row(400, field="payload"),
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

# A statement fails for its content, or because it met a rival: a smaller one may succeed.
CONTENT_CLASSES = frozenset({"22", "23", "40", "54"})


def refusal(error: Exception) -> Refusal | None:
    """The refusal that answers a database error; None if it is a fault of ours."""
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
        # A function that raises this has a message; a constraint of a table or of a type only its name.
        of_schema = error.diag.table_name or error.diag.datatype_name
        sentence = error.diag.constraint_name.replace("_", " ") if of_schema else message
        field, *others = CONSTRAINT_FIELDS.get(error.diag.constraint_name, ("body",))
        return invalid(field, sentence, *others)
    row = SQLSTATES.get(code) or SQLSTATES.get(code[:2])
    if row is None:
        return None
    if row.status == 400:
        return invalid(row.field, message)
    return Refusal(row.status, row.says or message, conflict=row.conflict)


def is_about_content(error: Exception) -> bool:
    return isinstance(error, psycopg.Error) and (error.sqlstate or "")[:2] in CONTENT_CLASSES


def answer(root: str, request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """Every error leaves as application/problem+json. `root`: the path below which a proxy serves us."""
    headers: dict[str, str] = {}
    if found := refusal(error):
        headers.update(found.headers)
    if found is None and isinstance(error, HTTPException):
        fields = _field_errors(error)
        detail = "; ".join(f"{one.field}: {one.message}" for one in fields) or error.detail
        found = Refusal(error.status_code, detail, fields)
        headers.update(error.headers or {})
    if found is None:
        logger.error("failed", method=request.method, path=request.url.path, exc_info=error)
        found = Refusal(500, "the log of the service says more")
    if found.status in (429, 503):
        headers["Retry-After"] = RETRY_SECONDS
        if found.status == 503 and not found.is_logged:
            logger.warning("unavailable", detail=found.detail, error=str(error), path=request.url.path)
    return Response(problem(found, root), status_code=found.status, headers=headers, media_type=MEDIA_TYPE)


def _field_errors(error: HTTPException) -> list[FieldError]:
    """Litestar's findings about parameters, and that there is no body where one has to be (`data`)."""
    found = error.extra if isinstance(error.extra, list) else []
    return [
        FieldError("body", "is missing")
        if one.get("key") == "data"
        else FieldError(str(one.get("key", "body")), str(one.get("message", "")))
        for one in found
    ]
