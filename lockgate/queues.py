"""Deletes a queue that runners serve, for the service and for `lockgate queues delete`."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from psycopg import errors

from lockgate.log import logger

Execute = Callable[[str, Sequence[object]], Awaitable[Sequence[Sequence[Any]]]]
"""Executes a statement in a transaction of its own and returns its rows."""

POLL_SECONDS = 0.1

# Ended tasks by an ordered subquery, or a plan that expects many reads the whole table to find none.
SLOTS_AND_EMPTY = """
    select slots, running = 0 and queued = '0' and scheduled = '0' and (
      select t.id from lockgate.task_detail t
      where t.queue = q.queue and t.status in ('succeeded', 'failed', 'cancelled')
      order by t.finish_time limit 1) is null
    from lockgate.queue_overview q where queue = %s
    """
HELD = """
    select exists (
      select from lockgate.slot_overview where queue = %s and (backend_pid is not null or task is not null))
    """
RESTORE = "select lockgate.set_slots(queue, %s) from lockgate.queue_detail where queue = %s and slots = 0"


async def delete_queue(execute: Execute, name: str, limit: float) -> None:
    """Sets the slots of an empty queue to 0, waits up to `limit` seconds until runners have released them, and deletes
    the queue; restores its slots if that fails. A process killed in between leaves a queue with 0 slots.

    Raises: psycopg.Error LG001 no such queue, LG009 not empty, or runners still hold slots.
    """
    found = await execute(SLOTS_AND_EMPTY, (name,))
    slots, is_empty = found[0] if found else (0, False)
    if not is_empty:
        await execute("select lockgate.delete_queue(%s)", (name,))  # raises
        return
    try:
        await execute("select lockgate.set_slots(%s, 0)", (name,))
        end = time.monotonic() + limit
        while not await _try_to_delete(execute, name, is_last=time.monotonic() >= end):  # noqa: ASYNC110  (Postgres knows)
            await asyncio.sleep(POLL_SECONDS)
    except BaseException:  # also when the program stops
        try:
            await execute(RESTORE, (slots, name))
        except Exception as error:  # all of them: the first error is the one to raise
            logger.error("queue left with 0 slots", queue=name, slots=slots, error=str(error))
        raise


async def _try_to_delete(execute: Execute, name: str, *, is_last: bool) -> bool:
    if not is_last and (await execute(HELD, (name,)))[0][0]:
        return False
    try:
        await execute("select lockgate.delete_queue(%s)", (name,))
    except errors.LockNotAvailable:  # other transactions keep the table of tasks locked
        if is_last:
            raise
        return False
    return True
