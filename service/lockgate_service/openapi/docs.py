"""The OpenAPI document at /docs/openapi.json, and Swagger UI at /docs from files of our own: it works offline."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from litestar import Router
from litestar.datastructures import CacheControlHeader, ResponseHeader
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.spec import Operation, RequestBody, Schema, Tag
from litestar.plugins import OpenAPISchemaPlugin
from litestar.static_files import create_static_files_router
from litestar.typing import FieldDefinition
from msgspec import Raw

from lockgate_service.http.problems import MEDIA_TYPE, Problem
from lockgate_service.openapi.document import Document, Page, Script
from lockgate_service.page.files import get_file

DESCRIPTION = """
A task queue on Postgres that never executes more tasks of a queue at once than the queue has slots.

Every error is a problem document (RFC 9457) whose `type` leads to what it means. After a 503, try again; with an
`Idempotency-Key` that never makes two tasks of one.
"""
_MEANINGS: Mapping[int, str] = {
    400: "The request is not valid, and nothing was done. `errors` names the fields.",
    408: "Nothing came for a minute.",
    413: "The body is larger than 4 MiB, where tasks are created, or 512 KiB.",
    422: "The idempotency key was used for another request.",
    429: "The queue is full: try again after `Retry-After` seconds.",
    503: "Not now: try again after `Retry-After` seconds.",
}
NO_TASK = "There is no such task."
NO_QUEUE = "There is no such queue."
NO_RUNNER = "There is no such runner."
LOCATION = ResponseHeader(name="Location", description="Where it is.", documentation_only=True)


def described(status: int, shape: type, description: str) -> dict[int, ResponseSpec]:
    return {status: ResponseSpec(shape, description=description, generate_examples=False)}


def problems(*usual: int, missing: str = "", conflict: str = "") -> dict[int, ResponseSpec]:
    """What a handler may refuse with; `missing` says what a 404 means, and `conflict` what a 409 does. Overrides
    Litestar's own 400, which we never send."""
    meanings = {status: _MEANINGS[status] for status in usual}
    if missing:
        meanings[404] = missing
    if conflict:
        meanings[409] = conflict
    return {
        status: ResponseSpec(Problem, description=meaning, media_type=MEDIA_TYPE, generate_examples=False)
        for status, meaning in sorted(meanings.items())
    }


@dataclass
class OptionalBody(Operation):
    """Litestar has it that every body is required."""

    def __post_init__(self) -> None:
        if isinstance(self.request_body, RequestBody):
            self.request_body.required = False


class AnyJson(OpenAPISchemaPlugin):
    """Documents a Raw as what it is."""

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        return value is Raw

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:  # noqa: ARG002
        return Schema(title="Any JSON")


def openapi(root: str) -> OpenAPIConfig:
    """`root` comes before every path."""
    return OpenAPIConfig(
        title="Lockgate",
        version=version("lockgate"),
        description=DESCRIPTION,
        path="/docs",
        use_handler_docstrings=True,
        tags=[
            Tag("tasks", "Tasks of any kind."),
            Tag("simple", "The shortest way: a task without settings, and its status in plain words."),
            Tag("queues", "Queues: pools of slots, whose number is how many of their tasks execute at once."),
            Tag("runners", "What executes where, and who executes it."),
            Tag("stats", "How much there is of everything, now and over time."),
            Tag("problems", "What the errors mean."),
            Tag("health", "For whoever watches over the service."),
        ],
        render_plugins=[Page(root), Script(), Document(root)],
    )


def static() -> Router:
    """Files whose path says their version, so browsers may keep them."""
    folder = create_static_files_router(
        "/",
        [Path(__file__).parent / "static"],
        include_in_schema=False,
        cache_control=CacheControlHeader(public=True, max_age=31536000, immutable=True),
    )
    return Router("/static", route_handlers=[folder, get_file])
