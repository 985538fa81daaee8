"""The documentation says what is true, and needs no internet."""

import re
from typing import Any

import httpx
import pytest


@pytest.fixture
def document(refusing: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = refusing.get("/docs/openapi.json").json()
    return found


def test_the_page_loads_nothing_from_elsewhere(refusing: httpx.Client) -> None:
    page = refusing.get("/docs")

    assert page.status_code == 200
    loaded = re.findall(r"<(?:script|link)[^>]*(?:src|href)=[\"']([^\"']+)", page.text)
    assert len(loaded) == 4
    assert [path for path in loaded if not path.startswith(("/static/", "data:"))] == []
    for path in loaded:
        if path.startswith("/"):
            assert refusing.get(path).status_code == 200, path


def test_every_operation_has_a_name_and_a_description(document: dict[str, Any]) -> None:
    operations = {
        f"{method} {path}": operation for path, item in document["paths"].items() for method, operation in item.items()
    }

    assert {name: operation["operationId"] for name, operation in operations.items()} == {
        "post /task": "createSleepTask",
        "get /task/{task_id}": "getTaskBriefly",
        "post /tasks": "createTask",
        "get /tasks": "listTasks",
        "post /tasks/batch": "createTasks",
        "post /tasks/stream": "streamTasks",
        "get /tasks/{task_id}": "getTask",
        "delete /tasks/{task_id}": "deleteTask",
        "get /tasks/{task_id}/output": "getTaskOutput",
        "get /tasks/{task_id}/events": "watchTask",
        "post /tasks/{task_id}/cancel": "cancelTask",
        "post /tasks/{task_id}/retry": "retryTask",
        "get /queues": "listQueues",
        "post /queues": "createQueue",
        "get /queues/{name}": "getQueue",
        "patch /queues/{name}": "changeQueue",
        "delete /queues/{name}": "deleteQueue",
        "post /queues/{name}/pause": "pauseQueue",
        "post /queues/{name}/resume": "resumeQueue",
        "post /queues/{name}/purge": "purgeQueue",
        "get /slots": "listSlots",
        "get /runners": "listRunners",
        "get /kinds": "listKinds",
        "get /stats": "getStats",
        "get /stats/series": "getSeries",
        "post /runners/{runner}/drain": "drainRunner",
        "post /runners/{runner}/resume": "resumeRunner",
        "get /health/live": "getLiveness",
        "get /health/ready": "getReadiness",
    }
    assert [name for name, operation in operations.items() if not operation.get("description")] == []


def test_every_documented_error_is_a_problem_document(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for operation in item.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    schema = response["content"]["application/problem+json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/Problem"}, (path, status)


def test_every_operation_documents_its_errors_and_its_parameters(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            where = f"{method} {path}"
            if not path.startswith("/health"):
                assert {"400", "503"} <= set(operation["responses"]), where
            assert ("404" in operation["responses"]) == ("{" in path), where
            assert ("413" in operation["responses"]) == ("requestBody" in operation or where == "post /task"), where
            assert all(parameter["description"] for parameter in operation.get("parameters", [])), where
    conflicts = {
        operation["operationId"]
        for item in document["paths"].values()
        for operation in item.values()
        if "409" in operation["responses"]
    }
    assert conflicts == {"cancelTask", "retryTask", "deleteTask", "createQueue", "deleteQueue"}


def test_a_body_is_required_where_it_is(document: dict[str, Any]) -> None:
    assert document["paths"]["/tasks"]["post"]["requestBody"]["required"] is True
    assert document["paths"]["/tasks/{task_id}/cancel"]["post"]["requestBody"]["required"] is False
    assert document["paths"]["/queues"]["post"]["requestBody"]["required"] is True
    assert document["paths"]["/queues/{name}"]["patch"]["requestBody"]["required"] is True
    assert "requestBody" not in document["paths"]["/task"]["post"]
