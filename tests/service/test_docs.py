"""The documentation says what is true, and needs no internet."""

import json
import re
from typing import Any

import httpx
import pytest
from lockgate_service.auth.guard import NEEDED

from tests.contract import Contract
from tests.database import Database
from tests.service.conftest import ServiceStart


@pytest.fixture
def document(refusing: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = refusing.get("/docs/openapi.json").json()
    return found


@pytest.mark.parametrize("root", ["", "/lockgate"])
def test_the_page_loads_nothing_from_elsewhere(start: ServiceStart, db: Database, root: str) -> None:
    client = start(db.service, root_path=root)
    page = client.get(f"{root}/docs")

    assert page.status_code == 200
    loaded = re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=[\"']([^\"']+)", page.text)
    loaded += re.findall(r'data-document="([^"]+)"', page.text)
    assert len(loaded) == 5
    for path in loaded:
        assert path.startswith(f"{root}/"), path
        assert client.get(path).status_code == 200, path
    # Every URL with a host, in whatever is loaded by us; Swagger UI's own bundle has links that people may follow.
    ours = page.text + client.get(f"{root}/docs/start.js").text
    assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+", ours) == []
    assert "validatorUrl: null" in ours
    assert "<script>" not in page.text
    document = client.get(f"{root}/docs/openapi.json").json()
    assert document["servers"] == [{"url": root or "/"}]


def test_what_the_page_may_load_is_what_it_loads(refusing: httpx.Client) -> None:
    """A browser keeps to this, whatever is in the page."""
    policy = dict(
        one.strip().split(" ", 1) for one in refusing.get("/docs").headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert not [source for source in policy.values() if "http" in source or "*" in source]


def test_every_operation_says_what_key_it_needs(document: dict[str, Any]) -> None:
    scheme = document["components"]["securitySchemes"]["key"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for item in document["paths"].values():
        for operation in item.values():
            scope = NEEDED[operation["operationId"]]
            assert operation["security"] == ([{"key": [scope]}] if scope else [])
            assert ({"401", "403"} <= operation["responses"].keys()) == bool(scope)


def test_operation_ids_and_tags_are_fit_for_generators(document: dict[str, Any]) -> None:
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    assert [name for name in ids if not re.fullmatch("[a-z][A-Za-z]+", name)] == []
    assert {tag for operation in operations for tag in operation["tags"]} == {tag["name"] for tag in document["tags"]}


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
        "patch /tasks/{task_id}": "changeTask",
        "post /tasks/bulk": "changeTasks",
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
        "get /failures": "listFailures",
        "get /events": "streamEvents",
        "get /metrics": "getMetrics",
        "post /runners/{runner}/drain": "drainRunner",
        "post /runners/{runner}/resume": "resumeRunner",
        "get /problems": "listProblems",
        "get /problems/{name}": "getProblem",
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
            if not path.startswith(("/health", "/problems")):
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
    assert conflicts == {"cancelTask", "retryTask", "changeTask", "deleteTask", "createQueue", "deleteQueue"}


def test_whatever_creates_tasks_can_find_the_queue_full(document: dict[str, Any]) -> None:
    full = {
        operation["operationId"]
        for item in document["paths"].values()
        for operation in item.values()
        if "429" in operation["responses"]
    }
    assert full == {"createTask", "createTasks", "streamTasks", "createSleepTask"}


def test_every_link_leads_to_an_operation_with_that_parameter(document: dict[str, Any]) -> None:
    operations = {
        operation["operationId"]: operation for item in document["paths"].values() for operation in item.values()
    }
    led_to = set()
    for name, operation in operations.items():
        for answer in operation["responses"].values():
            for link in answer.get("links", {}).values():
                target = operations[link["operationId"]]
                parameters = {each["name"] for each in target["parameters"]}
                assert link["parameters"].keys() <= parameters, (name, link)
                led_to.add(link["operationId"])
    assert {name for name, path in paths(document).items() if "{" in path} <= led_to


def paths(document: dict[str, Any]) -> dict[str, str]:
    """By operation id."""
    return {operation["operationId"]: path for path, item in document["paths"].items() for operation in item.values()}


def test_the_document_has_every_limit_of_what_is_decoded(document: dict[str, Any]) -> None:
    shapes = document["components"]["schemas"]
    timeout = shapes["NewTask"]["properties"]["timeout"]["anyOf"][0]
    assert timeout == {"type": "number", "exclusiveMinimum": 0, "maximum": 2592000}
    assert shapes["QueueChange"]["properties"]["slots"]["minimum"] == 0
    for name in (
        "NewTask",
        "Batch",
        "BatchTask",
        "TaskChange",
        "BulkRequest",
        "TaskFilter",
        "CancelRequest",
        "NewQueue",
    ):
        assert shapes[name]["additionalProperties"] is False


def test_the_headers_of_refusals_are_documented(document: dict[str, Any]) -> None:
    for item in document["paths"].values():
        for operation in item.values():
            for status, answer in operation["responses"].items():
                assert ("Retry-After" in answer.get("headers", {})) == (status in ("429", "503"))
                assert ("WWW-Authenticate" in answer.get("headers", {})) == (status == "401")


def test_a_body_is_required_where_it_is(document: dict[str, Any]) -> None:
    assert document["paths"]["/tasks"]["post"]["requestBody"]["required"] is True
    assert document["paths"]["/tasks/{task_id}/cancel"]["post"]["requestBody"]["required"] is False
    assert document["paths"]["/queues"]["post"]["requestBody"]["required"] is True
    assert document["paths"]["/queues/{name}"]["patch"]["requestBody"]["required"] is True
    assert "requestBody" not in document["paths"]["/task"]["post"]


def test_every_body_has_an_example_and_every_example_is_taken(http: httpx.Client, q: Contract) -> None:
    """As Swagger UI sends it when nobody has changed anything."""
    document = http.get("/docs/openapi.json").json()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for media_type, body in operation.get("requestBody", {}).get("content", {}).items():
                assert body.get("examples"), f"openapi/document.py has none for {operation['operationId']}"
                for name, example in body["examples"].items():
                    value = example["value"]
                    answer = http.request(
                        method,
                        path.format(task_id=q.submit(), name="default"),
                        content=value if isinstance(value, str) else json.dumps(value),
                        headers={"content-type": media_type},
                    )
                    assert answer.is_success, (operation["operationId"], name, answer.text)
