"""What Schemathesis cannot know of our requests."""

import json
from typing import Any

import schemathesis
from hypothesis import strategies as st
from lockgate_service.tasks.lists import cursor_at, task_filter
from lockgate_service.tasks.messages import TaskFilter
from schemathesis.openapi.checks import RejectedPositiveData

FILTERS = TaskFilter.__struct_fields__
LINES = "application/x-ndjson"
EVENTS = "text/event-stream"


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: Any) -> None:
    """OpenAPI 3.1 has a schema of a whole stream of events, and Schemathesis takes that for one of each event. It sends
    no examples of a type for which it has our data. And a page leads to the next one with filters that it takes amiss
    where they are not given; see `map_case` for what cursors it sends."""
    raw_schema["paths"]["/tasks"]["get"]["responses"]["200"].pop("links")
    for item in raw_schema["paths"].values():
        for operation in item.values():
            operation.get("requestBody", {"content": {}})["content"].get(LINES, {}).pop("examples", None)
            if stream := operation["responses"].get("200", {"content": {}})["content"].get(EVENTS):
                stream["itemSchema"] = EVENT
                del stream["schema"]


EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["snapshot", "change", "tasks", "unavailable", "task", "end", "deleted"]},
        "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": {"type": "object"}},
        "id": {"type": "string"},
    },
}


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    """To JSON Schema 3.0 is an integer, to us, as to most, it is not. And a cursor is good for the filters that it was
    given for: here, those beside it."""
    if case.meta is not None and case.meta.generation.mode.is_negative:
        return case
    if isinstance(case.body, (dict, list)):
        case.body = _whole(case.body)
    if case.operation.label == "GET /tasks" and isinstance(case.query, dict) and "cursor" in case.query:
        case.query["cursor"] = _fitting(case.query["cursor"], case.query)
    if case.operation.label == "POST /tasks/bulk" and isinstance(case.body, dict) and case.body.get("cursor"):
        case.body["cursor"] = _fitting(case.body["cursor"], case.body.get("filter") or {})
    return case


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _fitting(cursor: str, given: dict[str, Any]) -> str:
    filters = {name: given[name] for name in FILTERS if given.get(name) not in (None, [])}
    return cursor_at(int(cursor.partition("-")[0]), task_filter(**filters))


# No schema can say it: which queues there are, which kinds they take, how often a task was attempted, which windows are
# whole numbers of which steps.
UNSAID = {
    "queue": "there is no queue",
    "kind": "does not take tasks of kind",
    "max_attempts": "has to be more than the",
    "window": "",
    "step": "",
}


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Whether it is one. What is as the document allows may be refused for what it cannot say, with 400, and for a key
    that was used before with another task, with 422."""
    if not isinstance(failure, RejectedPositiveData):
        return True
    problem = response.json()
    if problem["type"] == "/problems/idempotency-key-reused":
        return False
    fields = [(error["field"].rpartition(".")[2], error["message"]) for error in problem["errors"]]
    return not all(field in UNSAID and UNSAID[field] in message for field, message in fields)


TASKS = st.lists(
    st.fixed_dictionaries(
        {"kind": st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)},
        optional={
            "queue": st.sampled_from(["default", "paused", "idle"]),
            "payload": st.recursive(st.none() | st.booleans() | st.integers(), lambda inner: st.lists(inner)),
            "priority": st.integers(-100, 100),
            "delay": st.floats(0, 1000),
        },
    ),
    max_size=20,
)
schemathesis.openapi.media_type(LINES, TASKS.map(lambda tasks: "\n".join(map(json.dumps, tasks)).encode()))
