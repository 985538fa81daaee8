"""GET /events: the snapshot and its changes as a stream, which the page is built on."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from functools import partial
from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import QueryParameter
from litestar.response import Stream

from lockgate.log import logger
from lockgate_service.auth.keys import Caller, Keys
from lockgate_service.http.errors import refusal
from lockgate_service.page.broadcast import Broadcast, Queue

MEDIA_TYPE = "text/event-stream"
RETRY_MILLISECONDS = 2000
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@get(
    "/events",
    summary="Everything, live",
    responses={
        200: ResponseSpec(
            str,
            media_type=MEDIA_TYPE,
            description="Events `snapshot`, `change`, `tasks` and `unavailable`.",
            generate_examples=False,
        ),
    },
)
async def stream_events(
    broadcast: NamedDependency[Broadcast],
    keys: NamedDependency[Keys],
    caller: NamedDependency[Caller],
    queue: Annotated[str | None, QueryParameter(description="Only what is about this queue.")] = None,
    tasks: Annotated[
        str | None,
        QueryParameter(
            description="Numbers of tasks to be followed too, up to 100, with commas in between.",
            pattern="^[0-9]{1,18}(,[0-9]{1,18}){0,99}$",
        ),
    ] = None,
) -> Stream:
    """First a `snapshot`: one object with `time`, `all` and `queues` (the numbers of `/stats`), `slots`, `runners`
    (those alive) and `series` (the last hour by the minute; not with `queue`). Then, two or three times a second at
    most, a `change`: what is new in that object, as a JSON Merge Patch (RFC 7396). What is null is left out of both.

    Beside it `tasks`: `items` are tasks that are new or have changed, `gone` the numbers of deleted ones. It tells of
    the newest fifty, of those that execute, of those that ended a moment ago, and of those to be followed.

    `unavailable` says that the database cannot be asked; the next `change` says that it can. A viewer that reads too
    slowly is given another `snapshot` in place of what it has missed. A comment every 15 seconds shows that the
    connection lives. When the service stops the stream ends: connect again. However many watch, the database is asked
    once."""
    followed = [int(number) for number in tasks.split(",")] if tasks else []
    queue = caller.queue_of(queue)
    await broadcast.refuse_if_unable(followed)
    return Stream(
        _events(broadcast, queue, followed, partial(keys.recheck, caller)), media_type=MEDIA_TYPE, headers=HEADERS
    )


async def _events(
    broadcast: Broadcast, queue: Queue, followed: Collection[int], recheck: Callable[[], Awaitable[None]]
) -> AsyncIterator[bytes]:
    yield b"retry: %d\n\n" % RETRY_MILLISECONDS
    try:
        async for message in broadcast.stream(queue, followed):
            await recheck()
            yield message
    except Exception as error:
        why = refusal(error)
        if why is None:
            raise
        logger.warning("stream ended", why=why.detail)
