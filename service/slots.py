"""What executes where: slots, and the runners that hold them."""

from litestar import get
from litestar.di import NamedDependency

from service import queue_db
from service.caller import Caller
from service.docs import problems
from service.pool import Pool
from service.queue_messages import RunnerList, SlotList


@get(
    "/slots",
    operation_id="listSlots",
    response_description="All slots.",
    summary="Slots",
    tags=["runners"],
    responses=problems(400, 503),
)
async def list_slots(pool: NamedDependency[Pool], caller: NamedDependency[Caller]) -> SlotList:
    """Who holds each, and what executes in it. Also those above a number that was lowered, until they are let go."""
    return SlotList([slot for slot in await queue_db.slots(pool) if caller.sees(slot.queue)])


@get(
    "/runners",
    operation_id="listRunners",
    response_description="Sessions of runners.",
    summary="Runners",
    tags=["runners"],
    responses=problems(400, 503),
)
async def list_runners(pool: NamedDependency[Pool], caller: NamedDependency[Caller]) -> RunnerList:
    """Each with what it serves, whether it is alive, and how much it executes."""
    found = await queue_db.runners(pool)
    return RunnerList([one for one in found if one.queues is None or any(map(caller.sees, one.queues))])
