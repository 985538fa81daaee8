"""/docs and what it loads: Swagger UI from files of our own, and the OpenAPI document, completed. All works offline."""

from typing import Any

from litestar import Request
from litestar.enums import MediaType, OpenAPIMediaType
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.router import Router
from msgspec import json

from service.caller import Scope
from service.examples import EXAMPLES
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
            "description": "A key that `lockgate keys add` has made. Where none was ever made, none is asked for.",
        }
    }
    for item in document["paths"].values():
        for operation in item.values():
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


def _too_small(scope: Scope) -> str:
    return (
        "The key is for another queue."
        if scope == "read"
        else f"The key is not of scope {scope}, or for another queue."
    )
