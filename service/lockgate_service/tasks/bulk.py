"""One thing done to many tasks, a batch at a time."""

import asyncio
from collections.abc import Mapping, Sequence

from litestar import post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import structs

from lockgate_service.auth.caller import Caller
from lockgate_service.http.problems import invalid
from lockgate_service.http.times import to_utc
from lockgate_service.openapi.docs import problems
from lockgate_service.pool import Pool
from lockgate_service.tasks import db, lists
from lockgate_service.tasks.cursor import cursor_at, place_of
from lockgate_service.tasks.messages import Action, BulkRequest, BulkResult, Status, TaskFilter

# After which no further batch is begun.
SECONDS = 3.0
# What the functions of the schema do it to; others need not be looked for.
STATUSES: Mapping[Action, Sequence[Status]] = {
    "cancel": ("scheduled", "queued", "running"),
    "retry": ("failed", "cancelled"),
    "delete": ("scheduled", "queued", "succeeded", "failed", "cancelled"),
}
# Tasks a transaction. A retry is a subtransaction, of which the server remembers 64 without effort.
BATCH: Mapping[Action, int] = {"cancel": 500, "retry": 60, "delete": 500}
COUNT_BATCH = 5000


@post(
    "/tasks/bulk",
    operation_id="changeTasks",
    response_description="How many it was, and whether there are more.",
    summary="Cancel, retry or delete many tasks",
    tags=["tasks"],
    status_code=200,
    responses=problems(400, 413, 503),
)
async def change_tasks(
    data: JSONBody[BulkRequest], pool: NamedDependency[Pool], caller: NamedDependency[Caller]
) -> BulkResult:
    """To tasks by their numbers, or to all that a filter applies to, the newest first; `dry_run` counts them. Done in
    batches, for some seconds at most: with a `next_cursor` in the answer, send the same again with that as `cursor`. A
    running task is asked to stop (`force`: killed), and never deleted."""
    only = _filter(data, caller)
    statuses = [status for status in STATUSES[data.action] if not only.status or status in only.status]
    if data.ids is not None:
        matched = await db.count(pool, data.ids, statuses, only.queue)
        affected = 0 if data.dry_run else await _act(pool, data, data.ids, statuses, only.queue)
        return BulkResult(matched, affected, data.dry_run, None)
    below = None if data.cursor is None else place_of(data.cursor, only)
    result = BulkResult(0, 0, data.dry_run, None)
    if not statuses:
        return result
    walked = structs.replace(only, status=statuses)
    end = asyncio.get_running_loop().time() + SECONDS
    while True:
        found = await lists.page(pool, walked, below, COUNT_BATCH if data.dry_run else BATCH[data.action], "id")
        ids = [row[0] for row in found.rows]
        result.matched += len(ids)
        if ids and not data.dry_run:
            result.affected += await _act(pool, data, ids, statuses, only.queue)
        below = found.rest
        if below is None:
            return result
        if asyncio.get_running_loop().time() >= end:
            result.next_cursor = cursor_at(below, only)
            return result


def _filter(data: BulkRequest, caller: Caller) -> TaskFilter:
    """Raises Refusal (400) for a request that does not say plainly which tasks it means, and 403."""
    if data.force and data.action != "cancel":
        raise invalid("force", "is for cancel")
    if data.ids is not None:
        for name, given in (
            ("filter", data.filter is not None),
            ("all", data.all),
            ("cursor", data.cursor is not None),
        ):
            if given:
                raise invalid(name, "cannot be given together with ids")
        return TaskFilter(queue=caller.queue)
    only = data.filter or TaskFilter()
    to_utc(only, "filter.")
    if only == TaskFilter() and not data.all:
        raise invalid("filter", "has no condition: give one, or ids, or say `all: true` for every task")
    return structs.replace(only, queue=caller.queue_of(only.queue))


async def _act(pool: Pool, data: BulkRequest, ids: Sequence[int], statuses: Sequence[Status], queue: str | None) -> int:
    size = BATCH[data.action]
    return sum(
        [
            await db.bulk(pool, data.action, ids[begin : begin + size], statuses, queue, force=data.force)
            for begin in range(0, len(ids), size)
        ]
    )
