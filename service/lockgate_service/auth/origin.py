"""Where a request comes from: what a browser says of the page that made it."""

from typing import Literal
from urllib.parse import urlsplit

from litestar.datastructures import Headers

from lockgate_service.http.problems import Refusal

Origin = Literal["same", "other", "unknown"]
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})  # change nothing


def origin_of(headers: Headers) -> Origin:
    """Unknown: it says nothing, so it is no browser, or a very old one. "none" is a person's own doing, such as a typed
    address. Without https, browsers send no Sec-Fetch-Site to other machines, but do send Origin."""
    if site := headers.get("sec-fetch-site"):
        return "same" if site in ("same-origin", "none") else "other"
    if (origin := headers.get("origin")) is None:
        return "unknown"
    return "same" if urlsplit(origin).netloc == headers.get("host") != "" else "other"


def refuse_from_elsewhere(headers: Headers, sure: bool = True) -> None:
    """Raises Refusal (403) for what a page of another origin asks; not `sure`, only if it says so."""
    origin = origin_of(headers)
    if origin == "other" or (sure and origin != "same"):
        raise Refusal(403, "a browser may ask this for a page of this service only, and not for one from elsewhere")
