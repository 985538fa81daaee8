"""/docs and what it loads: Swagger UI from files of our own, and the OpenAPI document, completed. All works offline."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from litestar import Request
from litestar.enums import MediaType, OpenAPIMediaType
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.router import Router
from msgspec import Struct, json

from lockgate_service.auth.caller import Scope
from lockgate_service.auth.scopes import NEEDED
from lockgate_service.http.problems import MEDIA_TYPE
from lockgate_service.openapi.examples import EXAMPLES
from lockgate_service.openapi.links import links
from lockgate_service.tasks.messages import Status

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
NAMED: Mapping[str, tuple[str, ...]] = {"Status": get_args(Status), "CancelMode": ("ask", "force")}
_NULL = {"type": "null"}
_GIVEN = {"not": _NULL}
_EITHER_TIME = {"not": {"required": ["run_at", "delay"], "properties": {"run_at": _GIVEN, "delay": _GIVEN}}}
# What is refused though each field is as it should be, by shape.
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
# That every refusal with this status has.
HEADERS: Mapping[int, tuple[str, str]] = {
    401: ("WWW-Authenticate", "How to send a key."),
    429: ("Retry-After", "Seconds."),
    503: ("Retry-After", "Seconds."),
}
_OF_BOTH = ("description", "examples")
_LITERALLY = ("examples", "default", "enum", "const", "required")


class Page(OpenAPIRenderPlugin):
    """Swagger UI at /docs."""

    def __init__(self, root: str) -> None:
        super().__init__(path="/", media_type=MediaType.HTML)
        self._page = PAGE.format(files=f"{root}/static/{SWAGGER_UI}", docs=f"{root}/docs").encode()

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        return self._page

    def receive_router(self, router: Router) -> None:
        """Takes away Litestar's own page for whatever is not there: it would be no problem document."""
        router.routes[:] = [route for route in router.routes if "{path:str}" not in route.path]


class Script(OpenAPIRenderPlugin):
    """What starts Swagger UI."""

    def __init__(self) -> None:
        super().__init__(path="/start.js", media_type="text/javascript; charset=utf-8")  # type: ignore[arg-type]

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        return SCRIPT


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
    """The document, in place: where the service is, the key, the shapes as they are decoded, and for every operation
    its examples, where its answers lead, whether it needs a key, of which scope, and how it is refused without."""
    document["servers"] = [{"url": root or "/"}]
    document.setdefault("components", {})["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "lockgate_...",
            "description": "A key that `lockgate keys add` has made. Where none was ever made, none is asked for. A "
            "browser that has signed in brings it in the cookie `lockgate_key` instead: good for what is read, and for "
            "what a page of the service itself asks to be changed.",
        }
    }
    named = {name: {"type": "string", "title": name, "enum": list(values)} for name, values in NAMED.items()}
    document["components"]["schemas"] = named | _plain(_shapes(document["components"]["schemas"]))
    for item in document["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _never_null(_plain(parameter["schema"]))
            scope = NEEDED[operation["operationId"]]
            if examples := EXAMPLES.get(operation["operationId"]):
                for body in operation["requestBody"]["content"].values():
                    body["examples"] = {name: {"value": value} for name, value in examples.items()}
            operation["security"] = [{"key": [scope]}] if scope else []
            if scope:
                operation["description"] += f"\n\nA key of scope `{scope}` is good for it."
                refusals = {"401": "There is no key, or one that is not good.", "403": _too_small(scope)}
                for status, description in refusals.items():
                    operation["responses"][status] = {
                        "description": description,
                        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                    }
            operation["responses"] = dict(sorted(operation["responses"].items()))
            _complete_answers(operation)
    return document


def _complete_answers(operation: dict[str, Any]) -> None:
    """Every answer that says it is done has the same headers and leads to the same places."""
    done = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
    headers = {name: header for answer in done for name, header in answer.get("headers", {}).items()}
    for answer in done:
        if headers:
            answer["headers"] = headers
        if "content" in answer and (found := links(operation)):
            answer["links"] = found
    for status, answer in operation["responses"].items():
        if header := HEADERS.get(int(status)):
            name, description = header
            answer["headers"] = {name: {"description": description, "required": True, "schema": {"type": "string"}}}


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


def _too_small(scope: Scope) -> str:
    return (
        "The key is for another queue."
        if scope == "read"
        else f"The key is not of scope {scope}, or for another queue."
    )
