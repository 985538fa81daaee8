"""How both clients connect."""

from typing import Any

import httpx

from lockgate.client.steps import Limits, Send

CONNECT_SECONDS = 5.0


def options(url: str, key: str | None, limits: Limits) -> dict[str, Any]:
    """For httpx.Client and httpx.AsyncClient."""
    return {
        "base_url": url,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "timeout": _timeout(limits.timeout),
    }


def arguments(send: Send) -> dict[str, Any]:
    """For their `build_request`."""
    found: dict[str, Any] = {
        "method": send.method,
        "url": send.path,
        "content": send.content,
        "params": send.params,
        "headers": send.headers,
    }
    return found if send.seconds is None else found | {"timeout": _timeout(send.seconds)}


def _timeout(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))
