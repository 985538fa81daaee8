"""What a runner tells of its kinds: the JSON Schema of each payload that has one."""

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from msgspec import Meta, Struct

from lockgate.handlers import Handler
from tests.contract import Contract, until
from tests.runner.conftest import Start


class Order(Struct):
    customer: int
    items: list[str] = []


def typed(count: Annotated[int, Meta(ge=0)], name: str = "x") -> None:
    """Counts.

    More of it.
    """


def whole(payload: Order) -> None: ...


def untyped(a, b=None):  # type: ignore[no-untyped-def]
    ...


def anything(payload): ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize(
    ("function", "properties", "required"),
    [
        (typed, {"count": {"type": "integer", "minimum": 0}, "name": {"type": "string", "default": "x"}}, ["count"]),
        (
            whole,
            {"customer": {"type": "integer"}, "items": {"type": "array", "items": {"type": "string"}, "default": []}},
            ["customer"],
        ),
        (untyped, {"a": {}, "b": {"default": None}}, ["a"]),
    ],
)
def test_the_schema_of_a_handler_is_made_of_its_hints(
    function: Callable[..., Any], properties: dict[str, Any], required: list[str]
) -> None:
    schema = Handler("kind", function).schema()
    assert schema
    (definition,) = schema["$defs"].values()
    assert (definition["properties"], definition["required"]) == (properties, required)
    assert schema.get("description") == ("Counts." if function is typed else None)


def test_a_handler_that_takes_anything_has_none() -> None:
    assert Handler("kind", anything).schema() is None


def test_a_runner_tells_the_schemas_of_its_kinds_again_after_a_lost_session(q: Contract, start: Start) -> None:
    start(handlers="tests.runner.handlers")
    title = (
        "select payload_schema #>> '{$defs,nap_payload,properties,seconds,type}' from kind_overview where kind = 'nap'"
    )
    until(lambda: q.db.value(title) == "number", "the schema")
    assert q.db.value("select payload_schema is null from kind_overview where kind = 'odd'")
    assert q.db.value("select payload_schema is null from kind_overview where kind = 'echo'")
    assert q.db.value("select payload_schema ->> 'description' from kind_overview where kind = 'sleep'").startswith(
        "Sl"
    )

    before = q.db.value("select max(session) from runner_overview")
    q.db.query("select pg_terminate_backend(backend_pid) from runner_overview where alive")
    until(lambda: q.db.query("select from runner_overview where alive and session > %s", before), "another session")
    until(lambda: q.db.value(title) == "number", "the schema again")
