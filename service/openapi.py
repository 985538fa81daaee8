"""/docs and what it loads: Swagger UI from files of our own, and the OpenAPI document, completed. All works offline."""

from collections.abc import Mapping
from typing import Any, get_args

from litestar import Request
from litestar.enums import MediaType, OpenAPIMediaType
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.router import Router
from msgspec import json

from service.caller import Scope
from service.examples import EXAMPLES
from service.messages import Status
from service.problem import MEDIA_TYPE
from service.scopes import NEEDED

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
_OF_BOTH = ("title", "description", "examples")  # stay where they are
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
    """The document, in place: where the service is, the key, and for every operation its examples, whether it needs a
    key, of which scope, and how it is refused without."""
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
    schemas = document["components"]["schemas"]
    for name, values in NAMED.items():
        schemas[name] = {"type": "string", "title": name, "enum": list(values)}
    for name, schema in schemas.items():
        if name not in NAMED:
            schemas[name] = _plain(schema)
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
    return document


def _plain(schema: Any) -> Any:
    """The same schema as generators of clients understand it: enums by name, and what is said of a value that may be
    null is said of the value."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: value if name in _LITERALLY else _plain(value) for name, value in schema.items()}
    values = schema.get("enum", [])
    if schema.get("type") == ["null", "string"]:
        rest = {name: value for name, value in schema.items() if name not in ("type", "enum", *_OF_BOTH)}
        value = _plain({"type": "string", "enum": [one for one in values if one is not None], **rest})
        return {"oneOf": [value, _NULL], **{name: schema[name] for name in _OF_BOTH if name in schema}}
    for name, named in NAMED.items():
        if tuple(values) == named:
            beside = {key: value for key, value in schema.items() if key not in ("type", "enum")}
            return {"$ref": f"#/components/schemas/{name}", **beside}
    one_of = schema.get("oneOf", [])
    if len(one_of) == 2 and one_of[1] == _NULL:
        moved = [name for name in schema if name not in ("oneOf", *_OF_BOTH)]
        schema["oneOf"] = [one_of[0] | {name: schema.pop(name) for name in moved}, _NULL]
    return schema


def _never_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Of a parameter, which is there or is not."""
    one_of = schema.get("oneOf", [])
    if len(one_of) != 2 or one_of[1] != _NULL:
        return schema
    return {**one_of[0], **{name: value for name, value in schema.items() if name != "oneOf"}}


def _too_small(scope: Scope) -> str:
    return (
        "The key is for another queue."
        if scope == "read"
        else f"The key is not of scope {scope}, or for another queue."
    )
