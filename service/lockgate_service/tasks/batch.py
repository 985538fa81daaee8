"""Creates many tasks in one transaction."""

from typing import Any

import psycopg
from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import DecodeError, Struct, json

from lockgate_service.auth.keys import Caller
from lockgate_service.http.body import TASKS_MAX
from lockgate_service.http.errors import refusal
from lockgate_service.http.headers import IDEMPOTENCY_KEY
from lockgate_service.http.params import to_utc
from lockgate_service.http.problems import Refusal, invalid, of_item
from lockgate_service.http.responses import described, problems
from lockgate_service.pool import Pool
from lockgate_service.tasks import db
from lockgate_service.tasks.group_commit import refused
from lockgate_service.tasks.messages import Batch, BatchItem, BatchResult, BatchTask
from lockgate_service.tasks.notify import Notifier


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
    operation_id="createTasks",
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
            check(item, index, caller)
        stored = await store(pool, notifier, caller, data.items)
    except ItemRefused as one:
        raise of_item(one.why, f"items[{one.index}]", "queue" if one.why.status == 403 else "idempotency_key") from None
    return Response(BatchResult(stored), status_code=202 if any(item.outcome == "created" for item in stored) else 200)


def check(item: BatchTask, index: int, caller: Caller) -> None:
    """Checks what the type cannot, and sets the queue of a caller limited to one. Raises: ItemRefused."""
    try:
        to_utc(item)
        item.queue = caller.queue_of(item.queue)
    except Refusal as why:
        raise ItemRefused(index, why) from None
    if item.run_at is not None and item.delay is not None:
        raise ItemRefused(index, invalid("delay", "cannot be given together with run_at"))


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
