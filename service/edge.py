"""What surrounds every request: the access log, and an answer even for one that is cut off."""

import asyncio
import time

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from msgspec import json

from service.log import logger
from service.problem import MEDIA_TYPE, RETRY_SECONDS, problem, unavailable


def edged(app: ASGIApp) -> ASGIApp:
    """Logs every request after its answer, except those to /health."""

    async def edge(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        status: int | None = None

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        begin = time.perf_counter()
        try:
            await app(scope, receive, seen)
        except asyncio.CancelledError:
            # The server stops, and has waited long enough for this request.
            if status is None:
                await _say_that_we_stop(seen)
        finally:
            if not scope["path"].startswith("/health"):
                milliseconds = round((time.perf_counter() - begin) * 1000, 1)
                logger.info(
                    "request", method=scope["method"], path=scope["path"], status=status, milliseconds=milliseconds
                )

    return edge


async def _say_that_we_stop(send: Send) -> None:
    body = json.encode(problem(unavailable("the service is stopping")))
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", RETRY_SECONDS.encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
