"""Lists slots, runners and kinds; drains and resumes runners."""

from litestar import get, post
from litestar.di import NamedDependency

from lockgate_service.auth.keys import Caller
from lockgate_service.http.params import RunnerName
from lockgate_service.http.responses import NO_RUNNER, problems
from lockgate_service.pool import Pool
from lockgate_service.queues import db
from lockgate_service.queues.messages import KindList, Runner, RunnerList, SlotList


@get(
    "/slots",
    operation_id="listSlots",
    response_description="All slots.",
    summary="Slots",
)
async def list_slots(pool: NamedDependency[Pool], caller: NamedDependency[Caller]) -> SlotList:
    """The holder and the task of each slot. Includes slots above a lowered number until their runner releases them."""
    return SlotList([slot for slot in await db.slots(pool) if caller.sees(slot.queue)])


@get(
    "/runners",
    operation_id="listRunners",
    response_description="Sessions of runners.",
    summary="Runners",
)
async def list_runners(pool: NamedDependency[Pool], caller: NamedDependency[Caller]) -> RunnerList:
    """Each with its queues and kinds, whether it is alive, and how many tasks it executes."""
    found = await db.runners(pool)
    return RunnerList([one for one in found if one.queues is None or any(map(caller.sees, one.queues))])


@get(
    "/kinds",
    operation_id="listKinds",
    response_description="Kinds that runners serve.",
    summary="Kinds",
)
async def list_kinds(pool: NamedDependency[Pool], caller: NamedDependency[Caller]) -> KindList:
    """The kinds of the live runners, each with the JSON Schema of its payload if the handler has type hints."""
    found = await db.kinds(pool)
    return KindList([one for one in found if one.queues is None or any(map(caller.sees, one.queues))])


@post(
    "/runners/{runner:str}/drain",
    operation_id="drainRunner",
    response_description="The runner, which claims no more tasks.",
    summary="Drain a runner",
    status_code=202,
    responses=problems(missing=NO_RUNNER),
)
async def drain_runner(runner: RunnerName, pool: NamedDependency[Pool]) -> Runner:
    """Tells a runner to claim no more tasks and to release each slot when its task has ended; `running` counts the
    rest. The process does not exit, so no supervisor restarts it: stop it when no task is left, or resume it."""
    return await db.drain(pool, runner)


@post(
    "/runners/{runner:str}/resume",
    operation_id="resumeRunner",
    response_description="The runner, which claims tasks again.",
    summary="Resume a runner",
    status_code=200,
    responses=problems(missing=NO_RUNNER),
)
async def resume_runner(runner: RunnerName, pool: NamedDependency[Pool]) -> Runner:
    """Ends a drain."""
    return await db.resume_runner(pool, runner)
