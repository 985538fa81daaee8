"""Queues, their slots, and the runners that serve them."""

import time
from functools import partial

from litestar import Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from lockgate import queues
from lockgate_service.auth.keys import Caller
from lockgate_service.http.params import QueueName, RunnerName
from lockgate_service.http.problems import LOCATION, no_queue, problems
from lockgate_service.pool import Pool
from lockgate_service.queues import db
from lockgate_service.queues.messages import (
    KindList,
    NewQueue,
    Purged,
    Queue,
    QueueChange,
    QueueList,
    Runner,
    RunnerList,
    SlotList,
)

PURGE_BATCH = 1000
# Seconds.
PURGE_SECONDS = 3.0  # no further batch begins after this time
RELEASE_SECONDS = 3.0  # for runners to release the slots of a queue that is being deleted


@get("/queues", response_description="All queues.", summary="Queues")
async def list_queues(pool: NamedDependency[Pool], caller: NamedDependency[Caller]) -> QueueList:
    """All queues with their settings and numbers of tasks."""
    return QueueList([queue for queue in await db.queues(pool) if caller.sees(queue.name)])


@get("/queues/{name:str}", response_description="The queue.", summary="A queue")
async def get_queue(name: QueueName, pool: NamedDependency[Pool]) -> Queue:
    """Its settings and numbers of tasks."""
    return await _existing(pool, name)


@post(
    "/queues",
    response_description="Created. The new queue.",
    summary="Create a queue",
    status_code=201,
    response_headers=[LOCATION],
    responses=problems(conflict="A queue has this name."),
)
async def create_queue(
    data: JSONBody[NewQueue], pool: NamedDependency[Pool], caller: NamedDependency[Caller]
) -> Response[Queue]:
    """With any of its settings. Runners that serve all queues take its slots at once."""
    caller.queue_of(data.name)
    await db.create(pool, data)
    return Response(await _existing(pool, data.name), headers={"Location": f"/queues/{data.name}"})


@patch("/queues/{name:str}", response_description="The changed queue.", summary="Change a queue")
async def change_queue(name: QueueName, data: JSONBody[QueueChange], pool: NamedDependency[Pool]) -> Queue:
    """Changes the given settings while runners work. With fewer slots than running tasks, those above the number
    run to their end; none is killed."""
    await db.change(pool, name, data)
    return await _existing(pool, name)


@post("/queues/{name:str}/pause", response_description="The queue, paused.", summary="Pause a queue", status_code=200)
async def pause_queue(name: QueueName, pool: NamedDependency[Pool]) -> Queue:
    """Runners start no more tasks of it. Running tasks go on, and submissions are still accepted."""
    await db.change(pool, name, QueueChange(paused=True))
    return await _existing(pool, name)


@post(
    "/queues/{name:str}/resume",
    response_description="The queue, not paused.",
    summary="Resume a queue",
    status_code=200,
)
async def resume_queue(name: QueueName, pool: NamedDependency[Pool]) -> Queue:
    """Ends a pause."""
    await db.change(pool, name, QueueChange(paused=False))
    return await _existing(pool, name)


@post(
    "/queues/{name:str}/purge",
    response_description="Number of deleted tasks, and whether there are more.",
    summary="Delete ended tasks",
    status_code=200,
)
async def purge_queue(name: QueueName, pool: NamedDependency[Pool]) -> Purged:
    """Deletes the ended tasks of a queue, the oldest end first, for a few seconds at most."""
    await _existing(pool, name)
    end = time.monotonic() + PURGE_SECONDS
    removed = 0
    while batch := await db.purge(pool, name, PURGE_BATCH):
        removed += batch
        if time.monotonic() >= end:
            break
    return Purged(removed, await db.has_ended_tasks(pool, name))


@delete(
    "/queues/{name:str}",
    response_description="The queue is deleted.",
    summary="Delete a queue",
    responses=problems(conflict="It has tasks, or runners do not release its slots."),
)
async def delete_queue(name: QueueName, pool: NamedDependency[Pool]) -> None:
    """Deletes a queue that has no tasks: cancel its waiting tasks and purge the ended ones first. Runners get three
    seconds to release its slots. Revokes the keys that are limited to it."""
    await queues.delete_queue(partial(pool.rows, repeatable=False), name, RELEASE_SECONDS)


async def _existing(pool: Pool, name: str) -> Queue:
    """Raises: Refusal (404) if there is no such queue."""
    if (queue := await db.queue(pool, name)) is None:
        raise no_queue(name)
    return queue


@get("/slots", response_description="All slots.", summary="Slots")
async def list_slots(pool: NamedDependency[Pool], caller: NamedDependency[Caller]) -> SlotList:
    """The holder and the task of each slot. Includes slots above a lowered number until their runner releases them."""
    return SlotList([slot for slot in await db.slots(pool) if caller.sees(slot.queue)])


@get("/runners", response_description="Sessions of runners.", summary="Runners")
async def list_runners(pool: NamedDependency[Pool], caller: NamedDependency[Caller]) -> RunnerList:
    """Each with its queues and kinds, whether it is alive, and how many tasks it executes."""
    found = await db.runners(pool)
    return RunnerList([one for one in found if one.queues is None or any(map(caller.sees, one.queues))])


@get("/kinds", response_description="Kinds that runners serve.", summary="Kinds")
async def list_kinds(pool: NamedDependency[Pool], caller: NamedDependency[Caller]) -> KindList:
    """The kinds of the live runners, each with the JSON Schema of its payload if the handler has type hints."""
    found = await db.kinds(pool)
    return KindList([one for one in found if one.queues is None or any(map(caller.sees, one.queues))])


@post(
    "/runners/{runner:str}/drain",
    response_description="The runner, which claims no more tasks.",
    summary="Drain a runner",
    status_code=202,
)
async def drain_runner(runner: RunnerName, pool: NamedDependency[Pool]) -> Runner:
    """Tells a runner to claim no more tasks and to release each slot when its task has ended; `running` counts the
    rest. The process does not exit, so no supervisor restarts it: stop it when no task is left, or resume it."""
    return await db.tell(pool, "drain", runner)


@post(
    "/runners/{runner:str}/resume",
    response_description="The runner, which claims tasks again.",
    summary="Resume a runner",
    status_code=200,
)
async def resume_runner(runner: RunnerName, pool: NamedDependency[Pool]) -> Runner:
    """Ends a drain."""
    return await db.tell(pool, "resume", runner)
