"""Answers as the OpenAPI document describes them, and /problems, where `type` of a problem document leads."""

from typing import Annotated

from litestar import get
from litestar.datastructures import ResponseHeader
from litestar.openapi import ResponseSpec
from litestar.params import PathParameter
from msgspec import Meta, Struct

from lockgate_service.http.problems import CONFLICTS, KINDS, MEDIA_TYPE, PROBLEMS, Kind, Problem, Refusal

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
