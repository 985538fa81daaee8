"""The page: its first paint, and the parts of it that it loads again."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.response import Stream
from msgspec import json

from lockgate.log import logger
from lockgate_service.auth import browser
from lockgate_service.auth.keys import Caller, in_cookie
from lockgate_service.http.errors import answer, refusal
from lockgate_service.page import view
from lockgate_service.page.broadcast import Broadcast
from lockgate_service.page.files import MODULES, STYLE, STYLE_SOURCE, VERSION, takes_packed
from lockgate_service.page.query import STATUSES, PageQuery, labels, page_query
from lockgate_service.page.snapshot import ROW, Json, TaskRow
from lockgate_service.page.text import moment, plural
from lockgate_service.pool import Pool
from lockgate_service.tasks import db, lists
from lockgate_service.tasks.loader import TaskLoader

ROWS = 50
FAILED_SECONDS = 86400  # lists show what failed before
FAILURES_MAX = 20
PACKING = 5  # of 9: more takes longer than it saves
# Allows our own files only, so that no text from the database becomes a script or a style.
POLICY = (
    f"default-src 'none'; script-src 'self'; style-src {STYLE_SOURCE}; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {"content-security-policy": POLICY, "vary": "accept-encoding"}
HTML = "text/html; charset=utf-8"
PAUSE_SECONDS = 3  # until a page that could not be shown is tried again

_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_environment.globals |= {
    "files": f"static/{VERSION}",
    "modules": MODULES,
    "style": STYLE,
    "version": version("lockgate"),
    "STATUSES": STATUSES,
    "plural": plural,
    "json": lambda value: json.encode(value).decode(),
}


def prepare() -> None:
    """Compiles the templates in advance, which takes a tenth of a second."""
    for name in _environment.list_templates():
        _environment.get_template(name)


def refused(root: str, request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """For people, a page to sign in, or one that tries again; for programs, a problem document."""
    why = refusal(error)
    if why is None or why.status not in (401, 503) or "text/html" not in request.headers.get("accept", ""):
        return answer(root, request, error)
    if why.status == 503:
        return shown(request, "away.html", {"detail": why.detail, "seconds": PAUSE_SECONDS}, 503)
    said = why if in_cookie(request.headers.get("cookie")) else None
    found = browser.page(said, request.scope["query_string"].decode("latin-1"))
    found.headers.update(why.headers)
    return found


@get("/", include_in_schema=False)
async def get_page(
    request: Request[Any, Any, Any],
    caller: NamedDependency[Caller],
    broadcast: NamedDependency[Broadcast],
    pool: NamedDependency[Pool],
    loader: NamedDependency[TaskLoader],
    failures: NamedDependency[lists.FailureGroups],
) -> Response[bytes] | Stream:
    """All there is to see; with `?task=17` one task too. The reads of the database are bounded, and those that do not
    depend on the filter are shared with all viewers."""
    asked = page_query(request.query_params, caller, datetime.now(UTC))
    snapshot = (await broadcast.snapshot()).of(caller.queue)
    now = moment(snapshot["time"]) or 0.0
    context: dict[str, Any] = {
        "query": asked,
        "caller": caller,
        "may_submit": caller.may("submit"),
        "may_admin": caller.may("admin"),
        "wrong": labels(asked.wrong),
        "queues": list(snapshot["queues"]),
        "time": snapshot["time"],
    }

    async def tasks() -> None:
        context["list"] = await _list(asked, pool, now)

    async def task() -> None:
        if asked.task is not None:
            context["detail"] = await _detail(asked.task, caller, pool, loader, now)

    async def pieces() -> AsyncIterator[str]:
        yield rendered("top.html", context)
        groups = await failures.groups(caller.queue, FAILED_SECONDS)
        parts = {
            "problems": view.problems(snapshot, groups.items[:FAILURES_MAX]),
            "bands": [view.band(one, snapshot, now) for one in snapshot["queues"].values()],
            "counters": view.counters(snapshot),
            "oldest": view.ago(snapshot["all"].get("due_since"), now),
        }
        yield rendered("main.html", context | parts)
        await asyncio.gather(tasks(), task())
        rows = {
            "queue_rows": [view.queue(one, now) for one in snapshot["queues"].values()],
            "runner_rows": [view.runner(one, now) for one in snapshot["runners"].values()],
        }
        yield rendered("lists.html", context | rows)

    if not asked.parts:
        return streamed(request, pieces())
    for part, read in (("tasks", tasks), ("task", task)):
        if part in asked.parts:
            await read()
    return shown(request, "parts.html", context)


async def _list(asked: PageQuery, pool: Pool, now: float) -> Json:
    if asked.wrong:
        return {"rows": [], "older": None}
    found = await lists.page(pool, asked.only, asked.below, ROWS, ROW)
    rows = [view.row(TaskRow(*one), now) for one in found.rows]
    older = asked.link(below=found.rest, trail=asked.older_trail) if found.rest is not None else None
    return {"rows": rows, "older": older}


async def _detail(task_id: int, caller: Caller, pool: Pool, loader: TaskLoader, now: float) -> Json:
    """Without `task` where there is no such task, or the caller may not see it."""
    found = await loader.task(task_id)
    if found is None or not caller.sees(found.queue):
        return {"number": task_id}
    return {"number": task_id} | view.task(found, await db.outputs(pool, task_id) or [], now)


def rendered(template: str, context: dict[str, Any]) -> str:
    return _environment.get_template(template).render(context)


def shown(
    request: Request[Any, Any, Any], template: str, context: dict[str, Any], status: int = 200
) -> Response[bytes]:
    body = rendered(template, context).encode()
    headers = dict(HEADERS)
    if status == 503:
        headers["retry-after"] = str(PAUSE_SECONDS)
    if takes_packed(request):
        body = gzip.compress(body, PACKING)
        headers["content-encoding"] = "gzip"
    return Response(body, status_code=status, headers=headers, media_type=HTML)


def streamed(request: Request[Any, Any, Any], pieces: AsyncIterator[str]) -> Stream:
    """Sends each piece as soon as it is ready: the browser paints the first while the service reads the next."""
    headers = dict(HEADERS)
    packer = None
    if takes_packed(request):
        packer = zlib.compressobj(PACKING, wbits=zlib.MAX_WBITS | 16)  # with the frame of gzip
        headers["content-encoding"] = "gzip"

    async def sent() -> AsyncIterator[bytes]:
        async for text in _to_its_end(request, pieces):
            body = text.encode()
            yield packer.compress(body) + packer.flush(zlib.Z_SYNC_FLUSH) if packer else body
        if packer:
            yield packer.flush()

    return Stream(sent(), headers=headers, media_type=HTML)


async def _to_its_end(request: Request[Any, Any, Any], pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    """Says so where a piece fails: it is too late for another status."""
    try:
        async for text in pieces:
            yield text
    except Exception as error:  # every one
        why = refusal(error)
        if why is None:
            logger.error("failed", method=request.method, path=request.url.path, exc_info=error)
        detail = why.detail if why else "the log of the service says more"
        yield rendered("broken_off.html", {"detail": detail, "seconds": PAUSE_SECONDS})
