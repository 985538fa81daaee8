"""The page's own files, below a path that changes with them, so that browsers may keep them for ever."""

import gzip
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.params import PathParameter
from msgspec import Struct

from lockgate_service.http.middleware import style_source
from lockgate_service.http.problems import Refusal

FOLDER = Path(__file__).parent / "files"
TYPES = {".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
KEPT = {"cache-control": "public, max-age=31536000, immutable", "vary": "accept-encoding"}


class File(Struct, frozen=True):
    """A file, plain and as gzip."""

    media_type: str
    plain: bytes
    packed: bytes


def _read(path: Path) -> File:
    plain = path.read_bytes()
    return File(TYPES[path.suffix], plain, gzip.compress(plain, mtime=0))


def _digest(files: Mapping[str, File]) -> str:
    digest = blake2b(digest_size=6)
    for name, file in files.items():
        digest.update(name.encode() + b"\0" + file.plain + b"\0")
    return digest.hexdigest()


FILES = {path.name: _read(path) for path in sorted(FOLDER.iterdir()) if path.suffix in TYPES}
MODULES = [name for name in FILES if name.endswith(".js") and name != "start.js"]
"""The modules that start.js loads once the page is painted."""
VERSION = f"page-{_digest(FILES)}"
STYLE = (Path(__file__).parent / "page.css").read_text()
"""Inline: a style of its own would come after all that the service does for the page."""
STYLE_SOURCE = style_source(STYLE)


def takes_packed(request: Request[Any, Any, Any]) -> bool:
    return "gzip" in request.headers.get("accept-encoding", "")


@get(f"/{VERSION}/{{name:str}}", include_in_schema=False)
async def get_file(request: Request[Any, Any, Any], name: Annotated[str, PathParameter()]) -> Response[bytes]:
    if (file := FILES.get(name)) is None:
        raise Refusal(404, f"there is no file {name}")
    if takes_packed(request):
        return Response(file.packed, media_type=file.media_type, headers={**KEPT, "content-encoding": "gzip"})
    return Response(file.plain, media_type=file.media_type, headers=KEPT)
