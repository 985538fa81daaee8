"""/docs: the OpenAPI document, completed, and Swagger UI from files of our own. All works offline."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from litestar import Request, Router
from litestar.datastructures import CacheControlHeader
from litestar.enums import MediaType, OpenAPIMediaType
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import Schema, Tag
from litestar.plugins import OpenAPISchemaPlugin
from litestar.static_files import create_static_files_router
from litestar.typing import FieldDefinition
from msgspec import Raw, Struct, json

from lockgate_service.auth.guard import NEEDED
from lockgate_service.http.problems import MEDIA_TYPE
from lockgate_service.tasks.messages import Status

DESCRIPTION = """
A task queue on Postgres that never executes more tasks of a queue at once than the queue has slots.

Every error is a problem document (RFC 9457) whose `type` leads to what it means. After a 503, try again; with an
`Idempotency-Key` that never makes two tasks of one.
"""
TAGS = {
    "tasks": "Tasks of any kind.",
    "simple": "The quick start: a task without settings, and its status in plain words.",
    "queues": "Queues: pools of slots. The number of slots is how many of their tasks execute at once.",
    "runners": "Slots, runners, and the kinds of task that runners serve.",
    "stats": "Numbers, now and over time.",
    "problems": "What the errors mean.",
    "health": "For health checks.",
}
SWAGGER_UI = "swagger-ui-5.35.0"
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Lockgate: the API</title>
<link rel="icon" type="image/png" href="{files}/favicon.png">
<link rel="stylesheet" href="{files}/swagger-ui.css">
<script src="{files}/swagger-ui-bundle.js" defer></script>
<script src="{docs}/start.js" defer></script>
</head>
<body>
<div id="api" data-document="{docs}/openapi.json"></div>
</body>
</html>
"""
# In a file, so that the page needs no script of its own to be allowed. Without `validatorUrl` somebody else's server
# would be asked about the document.
SCRIPT = b"""const api = document.getElementById("api");
SwaggerUIBundle({
  url: api.dataset.document,
  domNode: api,
  deepLinking: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  validatorUrl: null,
});
"""

# Enums that several shapes have: a generator makes one type of each.
NAMED: Mapping[str, tuple[str, ...]] = {"Status": get_args(Status), "CancelMode": ("graceful", "force")}
_NULL = {"type": "null"}
_GIVEN = {"not": _NULL}
_EITHER_TIME = {"not": {"required": ["run_at", "delay"], "properties": {"run_at": _GIVEN, "delay": _GIVEN}}}
# Rules about several fields, by shape.
RULES: Mapping[str, dict[str, Any]] = {
    "NewTask": _EITHER_TIME,
    "BatchTask": _EITHER_TIME,
    "BulkRequest": {
        "not": {
            "anyOf": [
                {
                    "required": ["force"],
                    "properties": {"force": {"const": True}, "action": {"enum": ["retry", "delete"]}},
                },
                {
                    "required": ["ids"],
                    "properties": {"ids": _GIVEN},
                    "anyOf": [
                        {"required": ["filter"], "properties": {"filter": _GIVEN}},
                        {"required": ["cursor"], "properties": {"cursor": _GIVEN}},
                        {"required": ["all"], "properties": {"all": {"const": True}}},
                    ],
                },
                {
                    "properties": {
                        "ids": _NULL,
                        "filter": {"anyOf": [_NULL, {"additionalProperties": _NULL}]},
                        "all": {"const": False},
                    }
                },
            ]
        }
    },
}
# Answers that operations have by a rule, not by a line of their own.
INVALID = "The request is not valid, and nothing was done. `errors` names the fields."
TOO_LARGE = "The body is larger than 4 MiB, where tasks are created, or 512 KiB."
UNAVAILABLE = "Not now: try again after `Retry-After` seconds."
NO_KEY = "There is no key, or one that is not good."
MISSING = {
    "/{task_id}": "There is no such task.",
    "/queues/{name}": "There is no such queue.",
    "/{runner}": "There is no such runner.",
}
# Headers that every refusal with this status has.
HEADERS: Mapping[int, tuple[str, str]] = {
    401: ("WWW-Authenticate", "How to send a key."),
    429: ("Retry-After", "Seconds."),
    503: ("Retry-After", "Seconds."),
}
# Bodies that work as they are, by operation id and then by what each shows. Every operation with a body has one.
EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "createTask": {
        "now": {"kind": "sleep", "payload": {"min": 0, "max": 3}},
        "later": {"kind": "sleep", "delay": 60, "priority": 5, "tags": ["example"], "metadata": {"trace": "4711"}},
        "once": {"kind": "sleep", "run_at": "2030-01-01T00:00:00Z", "dedupe_key": "new-year", "max_attempts": 5},
    },
    "createTasks": {
        "two": {
            "items": [{"kind": "sleep"}, {"kind": "sleep", "payload": {"max": 1}, "idempotency_key": "order-4711"}]
        },
    },
    "streamTasks": {"two": '{"kind": "sleep"}\n{"kind": "sleep", "payload": {"max": 1}}\n'},
    "changeTask": {"sooner": {"priority": 50, "run_at": None}, "tagged": {"tags": ["urgent"], "max_attempts": 5}},
    "changeTasks": {
        "look": {"action": "retry", "filter": {"status": ["failed"], "error": "timed out"}, "dry_run": True},
        "cancel": {"action": "cancel", "ids": [17, 18], "force": True},
    },
    "cancelTask": {"ask": {}, "kill": {"force": True}},
    "createQueue": {"gpu": {"name": "gpu", "slots": 1, "timeout": 3600}},
    "changeQueue": {"slots": {"slots": 4}, "limits": {"timeout": 60, "depth_max": 10000, "kinds": None}},
}
_OF_BOTH = ("description", "examples")
_LITERALLY = ("examples", "default", "enum", "const", "required")

# Links, for programs that follow them, such as those that test.
_TASK = (
    "getTask", "getTaskBriefly", "getTaskOutput", "watchTask", "changeTask", "cancelTask", "retryTask", "deleteTask",
)  # fmt: skip
_QUEUE = ("getQueue", "changeQueue", "pauseQueue", "resumeQueue", "purgeQueue", "deleteQueue")
_RUNNER = ("drainRunner", "resumeRunner")


# By operation id: to these operations, with that in the answer as the parameter of theirs.
_LEADS: Mapping[str, tuple[Sequence[str], str, str]] = {
    "createTask": (_TASK, "task_id", "$response.body#/id"),
    "createSleepTask": (_TASK, "task_id", "$response.body"),
    "createTasks": (_TASK, "task_id", "$response.body#/items/0/id"),
    "listTasks": (["listTasks"], "cursor", "$response.body#/next_cursor"),
    "changeTask": (["getTask"], "task_id", "$response.body#/id"),
    "cancelTask": (["getTask", "retryTask", "deleteTask"], "task_id", "$response.body#/id"),
    "retryTask": (["getTask"], "task_id", "$response.body#/id"),
    "createQueue": (_QUEUE, "name", "$response.body#/name"),
    "getTask": (["getQueue"], "name", "$response.body#/queue"),
    "listRunners": (_RUNNER, "runner", "$response.body#/items/0/runner"),
    "listProblems": (["getProblem"], "name", "$response.body#/items/0/name"),
}


def openapi(root: str) -> OpenAPIConfig:
    """`root`: the path below which a proxy serves us."""
    return OpenAPIConfig(
        title="Lockgate",
        version=version("lockgate"),
        description=DESCRIPTION,
        path="/docs",
        use_handler_docstrings=True,
        tags=[Tag(name, text) for name, text in TAGS.items()],
        render_plugins=[Page(root), File("/start.js", "text/javascript; charset=utf-8", SCRIPT), Document(root)],
    )


def swagger_ui() -> Router:
    """Files whose path has their version, so browsers may keep them."""
    return create_static_files_router(
        "/",
        [Path(__file__).parent / "static"],
        include_in_schema=False,
        cache_control=CacheControlHeader(public=True, max_age=31536000, immutable=True),
    )


class AnyJson(OpenAPISchemaPlugin):
    """Documents a Raw as any JSON."""

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        return value is Raw

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:  # noqa: ARG002
        return Schema(title="Any JSON")


class File(OpenAPIRenderPlugin):
    """A file below /docs that never changes."""

    def __init__(self, path: str, media_type: str, content: bytes) -> None:
        super().__init__(path=path, media_type=media_type)  # type: ignore[arg-type]
        self._content = content

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        return self._content


class Page(File):
    """Swagger UI at /docs."""

    def __init__(self, root: str) -> None:
        page = PAGE.format(files=f"{root}/static/{SWAGGER_UI}", docs=f"{root}/docs")
        super().__init__("/", MediaType.HTML, page.encode())

    def receive_router(self, router: Router) -> None:
        """Takes away Litestar's own page for whatever is not there: it would be no problem document."""
        router.routes[:] = [route for route in router.routes if "{path:str}" not in route.path]


class Document(OpenAPIRenderPlugin):
    """The OpenAPI document, with what each operation needs."""

    def __init__(self, root: str) -> None:
        super().__init__(path="/openapi.json", media_type=OpenAPIMediaType.OPENAPI_JSON)
        self._root = root
        self._document: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        if self._document is None:
            self._document = json.encode(completed(openapi_schema, self._root))
        return self._document


def completed(document: dict[str, Any], root: str) -> dict[str, Any]:
    """The document, in place: the address, the key, the shapes as msgspec decodes them, and of every operation the
    examples, the links, the scope of the key, and the refusals that it has by a rule."""
    document["servers"] = [{"url": root or "/"}]
    document.setdefault("components", {})["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "lockgate_...",
            "description": "A key that `lockgate keys add` has made. Where none was ever made, none is asked for. A "
            "browser that has signed in sends it in the cookie `lockgate_key` instead: good for reading, and for what "
            "a page of the service itself asks to be changed.",
        }
    }
    named = {name: {"type": "string", "title": name, "enum": list(values)} for name, values in NAMED.items()}
    document["components"]["schemas"] = named | _plain(_shapes(document["components"]["schemas"]))
    for path, item in document["paths"].items():
        for operation in item.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _never_null(_plain(parameter["schema"]))
            scope = NEEDED[operation["operationId"]]
            for body in operation.get("requestBody", {}).get("content", {}).values():
                examples = EXAMPLES.get(operation["operationId"], {})
                body["examples"] = {name: {"value": value} for name, value in examples.items()}
                if _is_nullable(body["schema"]):  # Litestar requires every body
                    operation["requestBody"]["required"] = False
            operation["security"] = [{"key": [scope]}] if scope else []
            if scope:
                operation["description"] += f"\n\nA key of scope `{scope}` is good for it."
            operation["responses"] |= {
                status: {
                    "description": description,
                    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
                for status, description in _usual_refusals(path, operation).items()
            }
            operation["responses"] = dict(sorted(operation["responses"].items()))
            _complete_answers(operation)
    return document


def _usual_refusals(path: str, operation: dict[str, Any]) -> dict[str, str]:
    """By status: what every operation that needs a key, a body or the database is refused with."""
    scope = NEEDED[operation["operationId"]]
    found = {}
    if not path.startswith("/health"):
        found["400"] = INVALID
    if "requestBody" in operation or operation["operationId"] == "createSleepTask":
        found["413"] = TOO_LARGE
    if scope or path == "/health/ready":
        found["503"] = UNAVAILABLE
    if scope:
        found["401"] = NO_KEY
        small = "" if scope == "read" else f"not of scope {scope}, or "
        found["403"] = f"The key is {small}for another queue."
    for part, missing in MISSING.items():
        if part in path:
            found["404"] = missing
    return found


def _complete_answers(operation: dict[str, Any]) -> None:
    """Every successful answer of an operation has the same headers and links."""
    done = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
    headers = {name: header for answer in done for name, header in answer.get("headers", {}).items()}
    for answer in done:
        if headers:
            answer["headers"] = headers
        if "content" in answer and (found := _links(operation)):
            answer["links"] = found
    for status, answer in operation["responses"].items():
        if header := HEADERS.get(int(status)):
            name, description = header
            answer["headers"] = {name: {"description": description, "required": True, "schema": {"type": "string"}}}


def _links(operation: Mapping[str, Any]) -> dict[str, Any]:
    """A page leads to the next one with the same filters."""
    targets, parameter, value = _LEADS.get(operation["operationId"], ((), "", ""))
    parameters = {parameter: value}
    if operation["operationId"] in targets:
        own = (each["name"] for each in operation["parameters"] if each["in"] == "query")
        parameters = {name: f"$request.query.{name}" for name in own} | parameters
    return {target: {"operationId": target, "parameters": parameters} for target in targets}


def _shapes(names: Iterable[str]) -> dict[str, Any]:
    """As msgspec has them, which reads and writes by them, with the rules that no type says. Litestar's own lack the
    limits that are 0, and that no other fields are taken."""
    known = {shape.__name__: shape for shape in _below(Struct) if shape.__module__.startswith("lockgate_service.")}
    _, found = json.schema_components([known[name] for name in names], ref_template="#/components/schemas/{name}")
    return {name: found[name] | RULES.get(name, {}) for name in sorted(found)}


def _below(shape: type[Struct]) -> Iterator[type[Struct]]:
    for one in shape.__subclasses__():
        yield one
        yield from _below(one)


def _plain(schema: Any) -> Any:
    """The same schema as generators of clients understand it: enums by name, what is said of a value that may be null
    is said around it, and a field that may be left out has no default that means the same."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: value if name in _LITERALLY else _plain(value) for name, value in schema.items()}
    if "default" in schema and schema["default"] is None:
        del schema["default"]
    if isinstance(values := schema.get("enum"), list):
        for name, named in NAMED.items():
            if set(values) == set(named):
                beside = {key: value for key, value in schema.items() if key not in ("type", "enum")}
                return {"$ref": f"#/components/schemas/{name}", **beside}
        schema["type"] = "string"
    match schema.get("anyOf"):
        case [dict(value), null] if null == _NULL:
            schema |= {name: value.pop(name) for name in _OF_BOTH if name in value}
    return schema


def _never_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Of a parameter, which is there or is not. Litestar has what is said of it beside the value that may be null."""
    match schema.get("oneOf"):
        case [dict(value), null] if null == _NULL:
            return {**value, **{name: rest for name, rest in schema.items() if name != "oneOf"}}
    return schema


def _is_nullable(schema: dict[str, Any]) -> bool:
    return _NULL in schema.get("oneOf", schema.get("anyOf", ()))
