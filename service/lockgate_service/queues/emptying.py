"""Taking a queue apart: remove its ended tasks, and the queue itself."""

import asyncio
import time

from litestar import delete, post
from litestar.di import NamedDependency

from lockgate.log import logger
from lockgate_service.http.params import QueueName
from lockgate_service.http.problems import no_queue
from lockgate_service.openapi.docs import NO_QUEUE, problems
from lockgate_service.pool import Pool
from lockgate_service.queues import db
from lockgate_service.queues.messages import Purged

PURGE_BATCH = 1000
PURGE_SECONDS = 3.0  # after which no further batch is begun
LET_GO_SECONDS = 3.0
LOOK_SECONDS = 0.1


@post(
    "/queues/{name:str}/purge",
    operation_id="purgeQueue",
    response_description="How many tasks are gone, and whether there are more.",
    summary="Remove ended tasks",
    tags=["queues"],
    status_code=200,
    responses=problems(400, 503, missing=NO_QUEUE),
)
async def purge_queue(name: QueueName, pool: NamedDependency[Pool]) -> Purged:
    """Removes the tasks of a queue that have ended, the longest ended first, for a few seconds at most."""
    if await db.slots_of(pool, name) is None:
        raise no_queue(name)
    end = time.monotonic() + PURGE_SECONDS
    removed = 0
    while batch := await db.purge(pool, name, PURGE_BATCH):
        removed += batch
        if time.monotonic() >= end:
            break
    return Purged(removed, await db.has_ended_tasks(pool, name))


@delete(
    "/queues/{name:str}",
    operation_id="deleteQueue",
    response_description="It is gone.",
    summary="Delete a queue",
    tags=["queues"],
    responses=problems(400, 503, missing=NO_QUEUE, conflict="It has tasks, or runners do not let its slots go."),
)
async def delete_queue(name: QueueName, pool: NamedDependency[Pool]) -> None:
    """Deletes a queue that has no tasks: cancel what waits in it and purge what has ended. Runners get three seconds to
    let its slots go. Keys that are limited to it are revoked."""
    slots = await db.slots_of(pool, name)
    if slots and await db.is_held(pool, name) and await db.is_empty(pool, name):
        await _delete_held(pool, name, slots)
    else:
        await db.delete(pool, name)


async def _delete_held(pool: Pool, name: str, slots: int) -> None:
    """Takes its slots away first, and gives them back if it then cannot be deleted. Killed in between, the service
    leaves a queue without slots."""
    await db.set_slots(pool, name, 0)
    try:
        end = time.monotonic() + LET_GO_SECONDS
        while await db.is_held(pool, name) and time.monotonic() < end:  # noqa: ASYNC110  (said by the database)
            await asyncio.sleep(LOOK_SECONDS)
        await db.delete(pool, name)
    except BaseException:  # also when the service stops
        await _give_back(pool, name, slots)
        raise


async def _give_back(pool: Pool, name: str, slots: int) -> None:
    """Unless it is gone after all, or somebody else has given it slots."""
    try:
        if await db.slots_of(pool, name) == 0:
            await db.set_slots(pool, name, slots)
    except Exception as error:  # every one: another one is on its way
        logger.error("a queue is left without slots", queue=name, slots=slots, error=str(error))
