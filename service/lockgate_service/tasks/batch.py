"""Creates many tasks: a batch in one transaction, or a stream of lines, read no faster than Postgres stores them."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import psycopg
from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.openapi.spec import OpenAPIFormat, OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import HeaderParameter, JSONBody, QueryParameter
from litestar.types import Receive
from msgspec import DecodeError, Struct, json

from lockgate_service.auth.keys import Caller, Keys
from lockgate_service.http.body import TASKS_MAX, decode
from lockgate_service.http.errors import refusal
from lockgate_service.http.params import (
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_KEY_MAX,
    idempotency_key,
    idempotency_pattern,
    to_utc,
)
from lockgate_service.http.problems import Refusal, Taken, described, invalid, of_item, problems, unavailable
from lockgate_service.pool import Pool
from lockgate_service.tasks import db
from lockgate_service.tasks.group_commit import refused
from lockgate_service.tasks.messages import Batch, BatchItem, BatchResult, BatchTask
from lockgate_service.tasks.notify import Notifier

# Of streams.
ITEMS_MAX = 1000  # per transaction
BYTES_MAX = 1024 * 1024  # per transaction
LINE_BYTES_MAX = 2 * 1024 * 1024
STREAMS_MAX = 4  # at a time: each keeps a connection to the database busy
# Seconds.
PAUSE_SECONDS = 0.5  # after which the lines read so far are stored, though they do not fill a transaction
SILENCE_SECONDS = 60.0
DRAIN_SECONDS = 2.0  # reads on after an error: a client that sends without reading would not see the answer
MEDIA_TYPE = "application/x-ndjson"


class ItemRefused(Exception):
    """One item, by its index, is the reason that nothing was stored."""

    def __init__(self, index: int, why: Refusal) -> None:
        super().__init__(why.detail)
        self.index = index
        self.why = why


class BadItem(Struct):
    """The detail of an error of lockgate.submit_all; `item` counts from 1."""

    item: int
    outcome: str | None = None
    task: int | None = None


@post(
    "/tasks/batch",
    request_max_body_size=TASKS_MAX,
    response_description="Stored; at least one task is new.",
    summary="Create up to 1,000 tasks",
    status_code=202,
    responses={**described(200, BatchResult, "No task is new."), **problems(422, 429)},
)
async def create_tasks(
    request: Request[Any, Any, Any],
    data: JSONBody[Batch],
    pool: NamedDependency[Pool],
    notifier: NamedDependency[Notifier],
    caller: NamedDependency[Caller],
) -> Response[BatchResult]:
    """Stores all items in one transaction, or none: `errors` then names the first that is refused. Each item has its
    own `idempotency_key`; the header `Idempotency-Key` is refused."""
    if IDEMPOTENCY_KEY in request.headers:
        raise invalid(IDEMPOTENCY_KEY, "is for one task: give each item its own idempotency_key")
    try:
        for index, item in enumerate(data.items):
            try:
                check(item, caller)
            except Refusal as why:
                raise ItemRefused(index, why) from None
        stored = await store(pool, notifier, caller, data.items)
    except ItemRefused as one:
        raise of_item(one.why, f"items[{one.index}]", "queue" if one.why.status == 403 else "idempotency_key") from None
    return Response(BatchResult(stored), status_code=202 if any(item.outcome == "created" for item in stored) else 200)


def check(item: BatchTask, caller: Caller) -> None:
    """Checks what the type cannot, and sets the queue of a caller limited to one. Raises: Refusal."""
    to_utc(item)
    item.queue = caller.queue_of(item.queue)
    if item.run_at is not None and item.delay is not None:
        raise invalid("delay", "cannot be given together with run_at")


async def store(pool: Pool, notifier: Notifier, caller: Caller, items: list[BatchTask]) -> list[BatchItem]:
    """Stores all items or none, and notifies runners.

    Raises: ItemRefused; psycopg.Error, Refusal (503): the items may be stored or not.
    """
    try:
        rows = await db.submit_all(pool, json.encode(items), caller.owner)
    except psycopg.Error as error:
        if (bad := _bad_item(error)) is None:
            raise
        index = bad.item - 1
        why = refused(bad.outcome, items[index], bad.task) if bad.outcome else refusal(error)
        if why is None:
            raise
        raise ItemRefused(index, why) from None
    for queue, due in {(queue, due) for _, outcome, queue, due in rows if outcome == "created" and due is not None}:
        notifier.notify(queue, due)
    return [BatchItem(task, outcome) for task, outcome, _, _ in rows]  # type: ignore[arg-type]  # others are refused


def _bad_item(error: psycopg.Error) -> BadItem | None:
    try:
        return json.decode(error.diag.message_detail or "", type=BadItem)
    except DecodeError:
        return None


@dataclass
class LinesBody(Operation):
    """Documents a body that Litestar does not decode."""

    def __post_init__(self) -> None:
        lines = OpenAPIMediaType(
            # Bytes: generated clients then stream them from a file.
            schema=Schema(
                type=OpenAPIType.STRING,
                format=OpenAPIFormat.BINARY,
                description="One task per line, as in the items of a batch.",
            ),
        )
        self.request_body = RequestBody(content={MEDIA_TYPE: lines}, required=False)  # an empty body has no lines


@dataclass
class Streams:
    """Limits the streams of this process."""

    stopping: asyncio.Event
    number: int = 0

    @contextlib.contextmanager
    def one_more(self) -> Iterator[None]:
        """Raises Refusal (503)."""
        if self.number >= STREAMS_MAX:
            raise unavailable(f"{STREAMS_MAX} streams are being read already")
        self.number += 1
        try:
            yield
        finally:
            self.number -= 1


@post(
    "/tasks/stream",
    operation_class=LinesBody,
    response_description="All lines are stored.",
    summary="Create any number of tasks",
    status_code=200,
    responses=problems(408, 422, 429),
)
async def stream_tasks(
    request: Request[Any, Any, Any],
    pool: NamedDependency[Pool],
    notifier: NamedDependency[Notifier],
    streams: NamedDependency[Streams],
    keys: NamedDependency[Keys],
    caller: NamedDependency[Caller],
    key: Annotated[
        str | None,
        HeaderParameter(
            name=IDEMPOTENCY_KEY,
            description="Makes a retry safe: the key of a line without one is this key, a colon and the line's number.",
            schema_extra={"pattern": idempotency_pattern(IDEMPOTENCY_KEY_MAX - 20)},
        ),
    ] = None,
    skip: Annotated[int, QueryParameter(ge=0, description="Lines to skip: `taken.lines` of the previous answer.")] = 0,
) -> Taken:
    """One task per line, each as in the items of a batch. The service stores up to 1,000 at a time as they come: the
    lines before a refused line, or before a failure of the service or Postgres, stay stored, and `taken` of the answer
    counts them. To go on, send the same lines with `skip`, or with an `Idempotency-Key` all of them again."""
    prefix = idempotency_key(key)
    if prefix is not None and len(prefix) > IDEMPOTENCY_KEY_MAX - 20:
        raise invalid(IDEMPOTENCY_KEY, f"must have at most {IDEMPOTENCY_KEY_MAX - 20} characters here")

    async def store_for_caller(items: list[BatchTask]) -> list[BatchItem]:
        await keys.recheck(caller)
        return await store(pool, notifier, caller, items)

    stored = LineStore(store_for_caller, partial(check, caller=caller), prefix, skip)
    with streams.one_more():
        lines = Lines(request.receive, streams.stopping)
        try:
            async with contextlib.aclosing(lines.read()) as coming:
                async for some in coming:
                    await stored.take(some)
                    if lines.are_pausing:
                        await stored.flush()
            await stored.flush()
            if lines.broken_off is not None:
                raise lines.broken_off
        except (Refusal, psycopg.Error) as error:
            why = refusal(error)
            if why is None:
                raise
            await lines.drain()
            why.taken = stored.taken
            raise why from None
    return stored.taken


@dataclass
class Lines:
    """A body, line by line, read on demand: the rest waits at the sender.

    `broken_off`: why the lines ended before the body did.
    """

    receive: Receive
    stopping: asyncio.Event
    are_pausing: bool = False
    broken_off: Refusal | None = None
    _more: bool = True

    async def read(self) -> AsyncGenerator[list[bytes], None]:
        """Yields some lines at a time, and none after each PAUSE_SECONDS without data."""
        rest = b""
        quiet = 0.0
        stop = asyncio.ensure_future(self.stopping.wait())
        message: asyncio.Future[Any] | None = None
        try:
            while self._more and self.broken_off is None:
                message = message or asyncio.ensure_future(self.receive())
                await asyncio.wait({message, stop}, timeout=PAUSE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if stop.done():
                    self.broken_off = unavailable("the service is stopping")
                self.are_pausing = not message.done()
                if not message.done():
                    quiet += PAUSE_SECONDS
                    if quiet >= SILENCE_SECONDS:
                        self.broken_off = Refusal(408, f"nothing came for {SILENCE_SECONDS:g} s")
                    yield []
                    continue
                came = message.result()
                message, quiet = None, 0.0
                self._more = came["type"] == "http.request" and came.get("more_body", False)
                if came["type"] == "http.disconnect":
                    self.broken_off = invalid("body", "ended before its end")
                    break
                *lines, rest = (rest + came.get("body", b"")).split(b"\n")
                if not self._more and rest:
                    lines.append(rest)
                yield lines
                if len(rest) > LINE_BYTES_MAX:
                    self.broken_off = Refusal(413, f"a line is longer than {LINE_BYTES_MAX} bytes")
        finally:
            stop.cancel()
            if message is not None:
                message.cancel()

    async def drain(self) -> None:
        """Reads and drops the body for DRAIN_SECONDS."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while self._more:
                    message: Any = await self.receive()
                    self._more = message["type"] == "http.request" and message.get("more_body", False)


@dataclass
class LineStore:
    """Stores lines, one transaction at a time, and counts them in `taken`."""

    store: Callable[[list[BatchTask]], Awaitable[list[BatchItem]]]
    check: Callable[[BatchTask], None]
    prefix: str | None
    skip: int
    taken: Taken = field(default_factory=Taken)
    _read: int = 0
    _items: list[BatchTask] = field(default_factory=list)
    _numbers: list[int] = field(default_factory=list)
    _size: int = 0

    async def take(self, lines: list[bytes]) -> None:
        """Raises: as `flush`, and Refusal at a bad line, after storing the lines before it."""
        for line in lines:
            if self._read < self.skip or not line.strip():
                self._read += 1
                continue
            try:
                item = decode(line, BatchTask)
                self.check(item)
            except Refusal as why:
                await self.flush()
                raise _at_line(self._read + 1, why) from None
            self._read += 1
            if self.prefix is not None and item.idempotency_key is None:
                item.idempotency_key = f"{self.prefix}:{self._read}"
            self._items.append(item)
            self._numbers.append(self._read)
            self._size += len(line)
            if len(self._items) >= ITEMS_MAX or self._size >= BYTES_MAX:
                await self.flush()

    async def flush(self) -> None:
        """Stores the lines read so far.

        Raises: Refusal about a line, after storing those before it; psycopg.Error, Refusal (503): they may be stored or
        not.
        """
        items, numbers = self._items, self._numbers
        self._items, self._numbers, self._size = [], [], 0
        try:
            if items:
                self._count(await self.store(items))
        except ItemRefused as one:
            if one.index:
                self._count(await self.store(items[: one.index]))
            self.taken.lines = numbers[one.index] - 1
            raise _at_line(numbers[one.index], one.why) from None
        self.taken.lines = self._read

    def _count(self, stored: list[BatchItem]) -> None:
        for item in stored:
            setattr(self.taken, item.outcome, getattr(self.taken, item.outcome) + 1)


def _at_line(number: int, why: Refusal) -> Refusal:
    return Refusal(why.status, f"line {number}: {why.detail}", why.fields, why.conflict)
