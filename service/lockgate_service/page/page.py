"""The page: its first paint, the parts of it that it loads again, and its own files."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from jinja2 import Environment, FileSystemLoader
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import PathParameter
from litestar.response import Stream
from msgspec import Struct, json

from lockgate.log import logger
from lockgate_service.auth import browser
from lockgate_service.auth.keys import Caller, in_cookie
from lockgate_service.http.errors import answer, refusal
from lockgate_service.http.middleware import style_source
from lockgate_service.http.problems import Refusal
from lockgate_service.page import view
from lockgate_service.page.broadcast import Broadcast
from lockgate_service.page.query import STATUSES, PageQuery, page_query
from lockgate_service.page.snapshot import ROW, Json, TaskRow
from lockgate_service.page.text import moment, plural
from lockgate_service.pool import Pool
from lockgate_service.tasks import db, lists
from lockgate_service.tasks.loader import TaskLoader

ROWS = 50
FAILED_SECONDS = 86400  # lists show what failed before
FAILURES_MAX = 20
PACKING = 5  # of 9: more takes longer than it saves
FOLDER = Path(__file__).parent
TYPES = {".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
KEPT = {"cache-control": "public, max-age=31536000, immutable", "vary": "accept-encoding"}
PACKED = {"content-encoding": "gzip"}


class File(Struct, frozen=True):
    """A file, plain and as gzip."""

    media_type: str
    plain: bytes
    packed: bytes


def _read(path: Path) -> File:
    plain = path.read_bytes()
    return File(TYPES[path.suffix], plain, gzip.compress(plain, mtime=0))


FILES = {path.name: _read(path) for path in sorted((FOLDER / "files").iterdir()) if path.suffix in TYPES}
MODULES = [name for name in FILES if name.endswith(".js") and name != "start.js"]
"""The modules that start.js loads once the page is painted."""
_ALL = b"".join(name.encode() + b"\0" + file.plain + b"\0" for name, file in FILES.items())
VERSION = f"page-{blake2b(_ALL, digest_size=6).hexdigest()}"
"""In the path of the files, which changes with them, so that browsers may keep them for ever."""
STYLE = (FOLDER / "page.css").read_text()
"""Inline: a style of its own would come after all that the service does for the page."""
# Allows our own files only, so that no text from the database becomes a script or a style.
POLICY = (
    f"default-src 'none'; script-src 'self'; style-src {style_source(STYLE)}; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {"content-security-policy": POLICY, "vary": "accept-encoding"}
HTML = "text/html; charset=utf-8"
PAUSE_SECONDS = 3  # until a page that could not be shown is tried again

_environment = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
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
        "wrong": [f"{name.replace('_', ' ')}: {message}" for name, message in asked.wrong.items()],
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
    headers = HEADERS | ({"retry-after": str(PAUSE_SECONDS)} if status == 503 else {})
    if takes_packed(request):
        body = gzip.compress(body, PACKING)
        headers |= PACKED
    return Response(body, status_code=status, headers=headers, media_type=HTML)


def streamed(request: Request[Any, Any, Any], pieces: AsyncIterator[str]) -> Stream:
    """Sends each piece as soon as it is ready: the browser paints the first while the service reads the next. Says so
    where a piece fails: it is too late for another status."""
    is_packed = takes_packed(request)
    packer = zlib.compressobj(PACKING, wbits=zlib.MAX_WBITS | 16)  # with the frame of gzip

    def encoded(text: str) -> bytes:
        return packer.compress(text.encode()) + packer.flush(zlib.Z_SYNC_FLUSH) if is_packed else text.encode()

    async def sent() -> AsyncIterator[bytes]:
        try:
            async for text in pieces:
                yield encoded(text)
        except Exception as error:  # every one
            why = refusal(error)
            if why is None:
                logger.error("failed", method=request.method, path=request.url.path, exc_info=error)
            detail = why.detail if why else "the log of the service says more"
            yield encoded(rendered("not_now.html", {"detail": detail, "seconds": PAUSE_SECONDS}))
        if is_packed:
            yield packer.flush()

    return Stream(sent(), headers=HEADERS | (PACKED if is_packed else {}), media_type=HTML)


def takes_packed(request: Request[Any, Any, Any]) -> bool:
    return "gzip" in request.headers.get("accept-encoding", "")


@get(f"/{VERSION}/{{name:str}}", include_in_schema=False)
async def get_file(request: Request[Any, Any, Any], name: Annotated[str, PathParameter()]) -> Response[bytes]:
    if (file := FILES.get(name)) is None:
        raise Refusal(404, f"there is no file {name}")
    if takes_packed(request):
        return Response(file.packed, media_type=file.media_type, headers=KEPT | PACKED)
    return Response(file.plain, media_type=file.media_type, headers=KEPT)
