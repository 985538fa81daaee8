"""Queues: look at them, make them, change them."""

from litestar import Response, get, patch, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from lockgate_service.auth.caller import Caller
from lockgate_service.http.params import QueueName
from lockgate_service.http.problems import no_queue
from lockgate_service.openapi.docs import LOCATION, NO_QUEUE, problems
from lockgate_service.pool import Pool
from lockgate_service.queues import db
from lockgate_service.queues.messages import NewQueue, Queue, QueueChange, QueueList


@get(
    "/queues",
    operation_id="listQueues",
    response_description="All queues.",
    summary="Queues",
    tags=["queues"],
    responses=problems(400, 503),
)
async def list_queues(pool: NamedDependency[Pool], caller: NamedDependency[Caller]) -> QueueList:
    """Their settings, and how much is in each."""
    return QueueList([queue for queue in await db.queues(pool) if caller.sees(queue.name)])


@get(
    "/queues/{name:str}",
    operation_id="getQueue",
    response_description="The queue.",
    summary="A queue",
    tags=["queues"],
    responses=problems(400, 503, missing=NO_QUEUE),
)
async def get_queue(name: QueueName, pool: NamedDependency[Pool]) -> Queue:
    """Its settings, and how much is in it."""
    return await there(pool, name)


@post(
    "/queues",
    operation_id="createQueue",
    response_description="Made. The new queue.",
    summary="Make a queue",
    tags=["queues"],
    status_code=201,
    response_headers=[LOCATION],
    responses=problems(400, 413, 503, conflict="There is a queue of this name."),
)
async def create_queue(
    data: JSONBody[NewQueue], pool: NamedDependency[Pool], caller: NamedDependency[Caller]
) -> Response[Queue]:
    """With any of its settings; runners that serve all queues take its slots at once."""
    caller.queue_of(data.name)
    await db.create(pool, data)
    return Response(await there(pool, data.name), headers={"Location": f"/queues/{data.name}"})


@patch(
    "/queues/{name:str}",
    operation_id="changeQueue",
    response_description="The queue as it is now.",
    summary="Change a queue",
    tags=["queues"],
    responses=problems(400, 413, 503, missing=NO_QUEUE),
)
async def change_queue(name: QueueName, data: JSONBody[QueueChange], pool: NamedDependency[Pool]) -> Queue:
    """Changes what is given, while runners work. With fewer slots than tasks that execute, those above the number end
    first, and nothing is killed."""
    await db.change(pool, name, data)
    return await there(pool, name)


@post(
    "/queues/{name:str}/pause",
    operation_id="pauseQueue",
    response_description="The queue, paused.",
    summary="Pause a queue",
    tags=["queues"],
    status_code=200,
    responses=problems(400, 503, missing=NO_QUEUE),
)
async def pause_queue(name: QueueName, pool: NamedDependency[Pool]) -> Queue:
    """Nothing of it is started any more; what executes goes on, and tasks are still taken."""
    await db.pause(pool, name)
    return await there(pool, name)


@post(
    "/queues/{name:str}/resume",
    operation_id="resumeQueue",
    response_description="The queue, not paused.",
    summary="Resume a queue",
    tags=["queues"],
    status_code=200,
    responses=problems(400, 503, missing=NO_QUEUE),
)
async def resume_queue(name: QueueName, pool: NamedDependency[Pool]) -> Queue:
    """Ends a pause."""
    await db.resume(pool, name)
    return await there(pool, name)


async def there(pool: Pool, name: str) -> Queue:
    """Raises Refusal (404) if there is no such queue."""
    if (queue := await db.queue(pool, name)) is None:
        raise no_queue(name)
    return queue
