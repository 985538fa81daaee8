"""What surrounds every request: where it is below a proxy, headers of every answer, the access log, and an answer even
for one that is cut off."""

import asyncio
import time
from collections.abc import Iterable

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from msgspec import json

from lockgate.log import logger
from lockgate_service.http.problems import MEDIA_TYPE, RETRY_SECONDS, problem, unavailable

Header = tuple[bytes, bytes]

# There is no header that allows another origin anything (CORS): pages from elsewhere cannot read an answer.
ALWAYS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
DATA_REFERRER = (b"referrer-policy", b"no-referrer")
# With no-referrer, a browser would not say from where a form of ours is sent.
PAGE_REFERRER = (b"referrer-policy", b"same-origin")
DATA_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
# Pages load scripts, styles and data from here only. Swagger UI puts styles into attributes.
_OF_PAGES = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    b"connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
PAGE_POLICY = (b"content-security-policy", _OF_PAGES)
NO_STORE = (b"cache-control", b"no-store")


def edged(app: ASGIApp, root: str = "") -> ASGIApp:
    """Logs every request after its answer, except those to /health. `root` is the path below which a proxy has us: it
    may take that away from the paths of requests, or leave it there."""

    async def edge(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        without_slash = scope["path"] == root != ""
        if root:
            _move_up(scope, root)
        status: int | None = None

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = dressed(message["headers"], root)
            await send(message)

        begin = time.perf_counter()
        try:
            if without_slash:
                await _lead_in(scope, seen)
            else:
                await app(scope, receive, seen)
        except asyncio.CancelledError:
            # The server stops, and has waited long enough for this request.
            if status is None:
                await _say_that_we_stop(seen, root)
        finally:
            if not scope["path"].startswith("/health"):
                milliseconds = round((time.perf_counter() - begin) * 1000, 1)
                logger.info(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    milliseconds=milliseconds,
                    client=scope["client"][0] if scope["client"] else None,
                )

    return edge


def dressed(headers: Iterable[Header], root: str) -> list[Header]:
    """The headers of an answer with those that every answer has, and its links from the root of the host."""
    kept: list[Header] = []
    policy = DATA_POLICY
    storing = NO_STORE
    referrer = DATA_REFERRER
    for name, value in headers:
        if name == b"content-type" and value.startswith(b"text/html"):
            policy = policy if policy is not DATA_POLICY else PAGE_POLICY
            referrer = PAGE_REFERRER
        elif name == b"content-security-policy":
            policy = (name, value)
            continue
        elif name == b"cache-control":
            if b"public" in value:
                storing = (name, value)
            continue
        elif root and name == b"location" and value.startswith(b"/"):
            value = root.encode() + value
        elif root and name == b"link":
            value = value.replace(b"</", b"<" + root.encode() + b"/")
        kept.append((name, value))
    return [*kept, *ALWAYS, referrer, policy, storing]


def _move_up(scope: Scope, root: str) -> None:
    if f"{scope['path']}/".startswith(f"{root}/"):
        scope["path"] = scope["path"][len(root) :] or "/"
        scope["raw_path"] = scope["raw_path"][len(root) :] or b"/"


async def _lead_in(scope: Scope, send: Send) -> None:
    """Links of pages are relative, and need the slash at the end of the root."""
    query = scope["query_string"]
    headers = [(b"location", b"/?" + query if query else b"/"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 308, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _say_that_we_stop(send: Send, root: str) -> None:
    body = json.encode(problem(unavailable("the service is stopping"), root))
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", RETRY_SECONDS.encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
