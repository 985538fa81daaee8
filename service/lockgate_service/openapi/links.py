"""Where an answer leads: the links of the OpenAPI document, for whoever follows them, such as programs that test."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_TASK = (
    "getTask", "getTaskBriefly", "getTaskOutput", "watchTask", "changeTask", "cancelTask", "retryTask", "deleteTask",
)  # fmt: skip
_QUEUE = ("getQueue", "changeQueue", "pauseQueue", "resumeQueue", "purgeQueue", "deleteQueue")
_RUNNER = ("drainRunner", "resumeRunner")


class Lead(NamedTuple):
    """To these operations, with that in the answer as the parameter of theirs."""

    operations: Sequence[str]
    parameter: str
    found: str


# By operation id.
_LEADS: Mapping[str, Sequence[Lead]] = {
    "createTask": [Lead(_TASK, "task_id", "$response.body#/id")],
    "createSleepTask": [Lead(_TASK, "task_id", "$response.body")],
    "createTasks": [Lead(_TASK, "task_id", "$response.body#/items/0/id")],
    "listTasks": [Lead(["listTasks"], "cursor", "$response.body#/next_cursor")],
    "changeTask": [Lead(["getTask"], "task_id", "$response.body#/id")],
    "cancelTask": [Lead(["getTask", "retryTask", "deleteTask"], "task_id", "$response.body#/id")],
    "retryTask": [Lead(["getTask"], "task_id", "$response.body#/id")],
    "createQueue": [Lead(_QUEUE, "name", "$response.body#/name")],
    "getTask": [Lead(["getQueue"], "name", "$response.body#/queue")],
    "listRunners": [Lead(_RUNNER, "runner", "$response.body#/items/0/runner")],
    "listProblems": [Lead(["getProblem"], "name", "$response.body#/items/0/name")],
}


def links(operation: Mapping[str, Any]) -> dict[str, Any]:
    """As they are in the document. A page leads to the next one with the same filters."""
    found = {}
    for lead in _LEADS.get(operation["operationId"], ()):
        for target in lead.operations:
            parameters = {lead.parameter: lead.found}
            if target == operation["operationId"]:
                own = (each["name"] for each in operation["parameters"] if each["in"] == "query")
                parameters = {name: f"$request.query.{name}" for name in own} | parameters
            found[target] = {"operationId": target, "parameters": parameters}
    return found
