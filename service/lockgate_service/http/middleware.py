"""Around every request: the path below a proxy, the headers of every answer, the access log and the counters."""

import asyncio
import time
from base64 import b64encode
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from typing import TypeVar

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from msgspec import json
from prometheus_client import Counter, Gauge, Histogram

from lockgate.log import logger
from lockgate_service.http.problems import MEDIA_TYPE, RETRY_SECONDS, Refusal, problem, unavailable

Header = tuple[bytes, bytes]
Metric = TypeVar("Metric", Counter, Gauge, Histogram)

# No header allows another origin anything (CORS): pages from elsewhere cannot read an answer.
ALWAYS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
DATA_REFERRER = (b"referrer-policy", b"no-referrer")
# With no-referrer, a browser sends no Origin with our own forms.
PAGE_REFERRER = (b"referrer-policy", b"same-origin")
DATA_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
# Pages load scripts, styles and data from this service only. Swagger UI puts styles into attributes.
_OF_PAGES = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    b"connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
PAGE_POLICY = (b"content-security-policy", _OF_PAGES)
NO_STORE = (b"cache-control", b"no-store")


def surrounded(app: ASGIApp, root: str = "") -> ASGIApp:
    """Adds headers to every answer, and logs every request after its answer, except those to /health. `root` is the
    path below which a proxy serves us: the proxy may strip it from the paths of requests, or leave it there."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        without_slash = scope["path"] == root != ""
        if root:
            _strip_root(scope, root)
        status: int | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = with_usual_headers(message["headers"], root)
            await send(message)

        begin = time.perf_counter()
        try:
            if without_slash:
                await _redirect_to_slash(scope, send_with_headers)
            else:
                await app(scope, receive, send_with_headers)
        except asyncio.CancelledError:
            # The service stops, and has waited long enough for this request.
            if status is None:
                await _answer_that_we_stop(send_with_headers, root)
        finally:
            if not scope["path"].startswith("/health"):
                logger.info(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    milliseconds=round((time.perf_counter() - begin) * 1000, 1),
                    client=scope["client"][0] if scope["client"] else None,
                )

    return handle


def with_usual_headers(headers: Iterable[Header], root: str) -> list[Header]:
    """Adds the headers that every answer has, and puts `root` before links from the root of the host."""
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


def style_source(style: str) -> str:
    """The `style-src` of a Content-Security-Policy that allows this inline style and no other."""
    return f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'"


def _strip_root(scope: Scope, root: str) -> None:
    if f"{scope['path']}/".startswith(f"{root}/"):
        scope["path"] = scope["path"][len(root) :] or "/"
        scope["raw_path"] = scope["raw_path"][len(root) :] or b"/"


async def _redirect_to_slash(scope: Scope, send: Send) -> None:
    """Links of pages are relative, and need the slash after the root."""
    query = scope["query_string"]
    await _answer(send, 308, [(b"location", b"/?" + query if query else b"/"), (b"content-length", b"0")], b"")


async def _answer_that_we_stop(send: Send, root: str) -> None:
    headers, body = last_problem(unavailable("the service is stopping"), root)
    await _answer(send, 503, [*headers, (b"retry-after", RETRY_SECONDS.encode())], body)


async def _answer(send: Send, status: int, headers: list[Header], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def last_problem(refusal: Refusal, root: str) -> tuple[list[Header], bytes]:
    """Headers and body of an answer after which the connection is closed."""
    body = json.encode(problem(refusal, root))
    return [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ], body


LABELS = ("method", "path", "status_code", "app_name")
REQUESTS = Counter("lockgate_http_requests", "Total requests", LABELS)
SECONDS = Histogram("lockgate_http_request_duration_seconds", "Request duration, in seconds", LABELS)
ERRORS = Counter("lockgate_http_requests_error", "Total errors in requests", LABELS)
IN_PROGRESS = Gauge("lockgate_http_requests_in_progress", "Total requests currently in progress", LABELS)


@cache
def _labelled(metric: Metric, method: str, path: str, status: int) -> Metric:
    """Cached, since to look a label up takes longer than to count."""
    return metric.labels(method, path, status, "lockgate")


def counted(app: ASGIApp) -> ASGIApp:
    """Counts and times the requests of each operation for Prometheus, except probes and streams."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/metrics" or scope["path"].startswith("/health") or scope["path"].endswith("/events"):
            await app(scope, receive, send)
            return
        method, path, status = str(scope.get("method")), str(scope["path_template"]), 500
        begin = time.perf_counter()

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        in_progress = _labelled(IN_PROGRESS, method, path, 200)
        in_progress.inc()
        try:
            await app(scope, receive, send_and_note)
        finally:
            in_progress.dec()
            _labelled(REQUESTS, method, path, status).inc()
            _labelled(SECONDS, method, path, status).observe(time.perf_counter() - begin)
            if status >= 500:
                _labelled(ERRORS, method, path, status).inc()

    return handle
