"""What each type of problem means: where `type` of a problem document leads."""

from typing import Annotated

from litestar import get
from litestar.params import PathParameter
from msgspec import Meta, Struct

from lockgate_service.http.problems import CONFLICTS, KINDS, PROBLEMS, Kind, Refusal
from lockgate_service.openapi.docs import problems


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
    operation_id="listProblems",
    response_description="All of them.",
    summary="Types of problems",
    tags=["problems"],
    responses=problems(400),
)
async def list_problems() -> ProblemKindList:
    """What can be the end of `type` in an error, and what to do then. Names stay within a major version."""
    return ProblemKindList([_shown(kind) for kind in KINDS.values()])


@get(
    "/problems/{name:str}",
    operation_id="getProblem",
    response_description="What it means.",
    summary="A type of problem",
    tags=["problems"],
    responses=problems(400, missing="There is no such type."),
)
async def get_problem(name: Annotated[str, PathParameter(description="The end of `type`.")]) -> ProblemKind:
    """What it means, and what to do then."""
    if (kind := KINDS.get(name)) is None:
        raise Refusal(404, f'there is no type "{name}"')
    return _shown(kind)


def _shown(kind: Kind) -> ProblemKind:
    status = 409 if kind.name in CONFLICTS else next((each for each, its in PROBLEMS.items() if its is kind), None)
    return ProblemKind(kind.name, status, kind.title, kind.explanation)
