"""Group commit: while an insert is under way, further requests collect for the next statement."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from msgspec import Struct, json, structs

from lockgate.log import logger
from lockgate_service.http.errors import is_about_content
from lockgate_service.http.problems import Refusal, invalid, unavailable
from lockgate_service.pool import Pool
from lockgate_service.tasks import db
from lockgate_service.tasks.messages import Due, KeyedTask, NewTask, Task

T = TypeVar("T")

ITEMS_MAX = 500  # per statement
BYTES_MAX = 4 * 1024 * 1024  # per statement
ALONE_BYTES = 64 * 1024  # a larger item may keep Postgres busy, and gets its own statement
STATEMENTS_MAX = 2  # at a time
WAITING_MAX = 2000
WAITING_BYTES_MAX = 64 * 1024 * 1024
WAIT_LIMIT = 10.0  # seconds, for the whole of `submit`
CLOSE_LIMIT = 2.0  # seconds


class Submitted(Struct, frozen=True):
    """The result of a submission. `task` is None if it was refused or could not be read back."""

    id: int | None
    outcome: str
    task: Task | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that waits for its commit. `keys` sort the items of a statement."""

    item: bytes
    keys: tuple[str, str, str]
    done: asyncio.Future[Submitted] = field(default_factory=asyncio.Future)


class GroupCommit:
    """Stores the tasks of single submissions."""

    def __init__(self, pool: Pool, notify: Callable[[str, Due], None]) -> None:
        self._pool = pool
        self._notify = notify
        self._waiting: deque[Waiting] = deque()
        self._waiting_bytes = 0
        self._under_way = 0
        self._senders: set[asyncio.Task[None]] = set()

    async def submit(self, task: NewTask, idempotency_key: str | None = None, owner: str = "") -> Submitted:
        """Returns after the commit. `owner` is the scope of the idempotency key.

        Raises: psycopg.Error; Refusal (503) if too many wait, or after WAIT_LIMIT.
        """
        keyed = KeyedTask(**structs.asdict(task), idempotency_key=idempotency_key, idempotency_scope=owner)
        waiting = Waiting(json.encode(keyed), (idempotency_key or "", task.dedupe_key or "", owner))
        if len(self._waiting) >= WAITING_MAX or self._waiting_bytes + len(waiting.item) > WAITING_BYTES_MAX:
            raise unavailable("too many requests are waiting to be stored")
        self._waiting.append(waiting)
        self._waiting_bytes += len(waiting.item)
        if self._under_way < STATEMENTS_MAX:
            self._under_way += 1
            sender = asyncio.create_task(self._send_waiting())
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        try:
            async with asyncio.timeout(WAIT_LIMIT):
                return await waiting.done
        except TimeoutError:
            raise unavailable(f"the task was not stored within {WAIT_LIMIT:g} s") from None

    async def close(self) -> None:
        """Waits for the statements under way."""
        if self._senders:
            await asyncio.wait(self._senders, timeout=CLOSE_LIMIT)

    async def _send_waiting(self) -> None:
        try:
            while self._waiting:
                await self._send(self._next())
        finally:
            # Here and not in a done callback: a request that comes before the callback must start the next sender.
            self._under_way -= 1

    def _next(self) -> list[Waiting]:
        """The items of the next statement, without those whose request has gone."""
        batch: list[Waiting] = []
        size = 0
        while self._waiting and len(batch) < ITEMS_MAX:
            more = len(self._waiting[0].item)
            if batch and (size + more > BYTES_MAX or more > ALONE_BYTES):
                break
            waiting = self._waiting.popleft()
            self._waiting_bytes -= more
            if not waiting.done.done():
                size += more
                batch.append(waiting)
                if more > ALONE_BYTES:
                    break
        # In one order: two concurrent statements with the same keys would deadlock otherwise.
        batch.sort(key=lambda waiting: waiting.keys)
        return batch

    async def _send(self, batch: list[Waiting]) -> None:
        """Sets the result or error of every request of the batch; raises only when cancelled."""

        def refuse(those: list[Waiting], error: Exception) -> None:
            for waiting in those:
                if not waiting.done.done():
                    waiting.done.set_exception(error)

        await bisect(batch, self._store, refuse)

    async def _store(self, batch: list[Waiting]) -> None:
        outcomes = await db.submit(self._pool, [waiting.item for waiting in batch])
        # The tasks are stored now: an error from here on must not reach a request.
        try:
            tasks = await db.stored(self._pool, {task for _, task, _ in outcomes if task is not None})
        except Exception as error:
            logger.warning("stored tasks could not be read back", error=str(error))
            tasks = {}
        for item, number, outcome in outcomes:
            task, due = tasks.get(number, (None, None)) if number is not None else (None, None)
            if outcome == "created" and task is not None and due is not None:
                self._notify(task.queue, due)
            waiting = batch[item - 1]
            if not waiting.done.done():
                waiting.done.set_result(Submitted(number, outcome, task))


async def bisect(
    batch: list[T], store: Callable[[list[T]], Awaitable[None]], refuse: Callable[[list[T], Exception], None]
) -> None:
    """Stores each item, or refuses it with its own error: after an error about content, stores the halves one after the
    other, so that a bad item ends up alone. `store` stores all of a batch or nothing. Raises only when cancelled."""
    try:
        if batch:
            await store(batch)
    except Exception as error:  # all of them: the requests handle it
        if len(batch) > 1 and is_about_content(error):
            middle = len(batch) // 2
            await bisect(batch[:middle], store, refuse)
            await bisect(batch[middle:], store, refuse)
            return
        refuse(batch, error)


def refused(outcome: str, task: NewTask, task_id: int | None) -> Refusal:
    """The refusal for an outcome of `submit_batch` that is no error."""
    match outcome:
        case "unknown_queue":
            return invalid("queue", f'there is no queue "{task.queue or "default"}"')
        case "kind_refused":
            return invalid("kind", f'queue "{task.queue or "default"}" does not take tasks of kind "{task.kind}"')
        case "queue_full":
            return Refusal(429, f'queue "{task.queue or "default"}" is full')
        case "key_reused":
            return Refusal(422, f"task {task_id} was created with this idempotency key by another request")
    raise AssertionError(f"submit_batch said {outcome}")
