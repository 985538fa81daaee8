"""The snapshot: all that the page shows but its lists, as one JSON object, and the patch from one to the next."""

# ruff: noqa: S608  (put together from constants)

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from msgspec import DecodeError, Meta, Raw, Struct, json, structs, to_builtins

from lockgate_service.pool import Pool, Time, columns
from lockgate_service.stats.messages import Point, Stats
from lockgate_service.stats.routes import of_one
from lockgate_service.tasks.messages import Name, Status

Json = dict[str, Any]

SLOTS_MAX = 2000
RUNNERS_MAX = 1000
# Tasks that each update reads: the newest, those that execute, those that ended in the last seconds.
NEWEST = 50
RUNNING_MAX = 200
ENDED_MAX = 200
ENDED_SECONDS = 10
PROGRESS_BYTES = 1024
_PROGRESS = f"case when octet_length(progress::text) <= {PROGRESS_BYTES} then progress end"


class SlotSummary(Struct):
    """A slot, with times in place of durations, which would change all the time."""

    queue: Name
    slot: int
    status: Annotated[str, Meta(description="free, held (ready for a task), running, abandoned or silent.")]
    runner: str | None
    backend_pid: int | None
    task: int | None
    kind: str | None
    attempt: int | None
    start_time: Time | None
    cancel_requested: str | None
    progress: Raw | None


class RunnerSummary(Struct):
    """A session of a runner that is alive."""

    session: int
    runner: str
    host: str
    pid: int
    version: str
    concurrency: int
    queues: list[str] | None
    since: Time
    running: int
    draining: bool


class TaskRow(Struct):
    """A task as a row of a list shows it."""

    id: int
    queue: Name
    kind: str
    status: Status
    priority: int
    create_time: Time
    run_at: Time
    start_time: Time | None
    finish_time: Time | None
    exec_time: float | None
    attempt: int
    max_attempts: int
    slot: int | None
    runner: str | None
    cancel_requested: str | None
    progress: Annotated[Raw, Meta(description="Up to 1 KiB.")] | None
    error: Annotated[str, Meta(description="The first 200 characters.")] | None
    tags: list[str]


SLOT = columns(SlotSummary, progress=_PROGRESS)
RUNNER = columns(RunnerSummary)
ROW = columns(TaskRow, progress=_PROGRESS, error="left(concat_ws(': ', error ->> 'type', error ->> 'message'), 200)")


class Snapshot(Struct, frozen=True):
    """All numbers, slots and runners at one moment."""

    stats: Stats
    slots: list[SlotSummary]
    runners: list[RunnerSummary]
    series: list[Point]

    def of(self, queue: str | None) -> Json:
        """For viewers of this queue, or of all. Leaves out what is null."""
        stats = self.stats if queue is None else of_one(self.stats, queue)
        runners = [one for one in self.runners if queue is None or one.queues is None or queue in one.queues]
        slots = [one for one in self.slots if queue is None or one.queue == queue]
        return {
            "time": stats.time,
            "all": _still(stats.all),
            "queues": {one.name: _still(one) for one in stats.queues},
            "slots": {f"{one.queue}/{one.slot}": _plain(one) for one in slots},
            "runners": {str(one.session): _plain(one) for one in runners},
            "series": {point.time: _plain(point) for point in self.series} if queue is None else {},
        }


def _still(counts: Struct) -> Json:
    """Without what grows all the time: `due_since` says the same."""
    plain = _plain(counts)
    plain.pop("oldest_wait", None)
    return plain


def _plain(value: Struct) -> Json:
    plain: Json = without_null({name: _builtin(one) for name, one in structs.asdict(value).items()})
    return plain


def _builtin(value: Any) -> Any:
    """None for JSON that only Postgres can hold, such as a number of a thousand digits."""
    if not isinstance(value, Raw):
        return to_builtins(value)
    try:
        return json.decode(value)
    except DecodeError:
        return None


def without_null(value: Any) -> Any:
    """In a JSON Merge Patch a null removes its field."""
    if isinstance(value, dict):
        return {name: without_null(one) for name, one in value.items() if one is not None}
    return value


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> Json:
    """The patch from the old object to the new one (RFC 7396). Neither may contain null."""
    patch: Json = {}
    for name, value in new.items():
        if name not in old:
            patch[name] = value
        elif value != (before := old[name]):
            both = isinstance(value, dict) and isinstance(before, dict)
            patch[name] = merge_patch(before, value) if both else value
    return patch | dict.fromkeys(old.keys() - new.keys())


async def read_slots(pool: Pool) -> list[SlotSummary]:
    """By queue and number."""
    rows = await pool.rows(f"select {SLOT} from lockgate.slot_detail order by queue, slot limit {SLOTS_MAX}")
    return [SlotSummary(*row) for row in rows]


async def read_runners(pool: Pool) -> list[RunnerSummary]:
    """Those alive, newest first."""
    text = f"select {RUNNER} from lockgate.runner_overview where alive order by session desc limit {RUNNERS_MAX}"
    rows = await pool.rows(text)
    return [RunnerSummary(*row) for row in rows]


async def read_tasks(pool: Pool, others: Collection[int]) -> list[TaskRow]:
    """The tasks that most probably have just changed, and those others that there are; newest first."""
    rows = await pool.rows(
        f"""
        with lively (id) as (
          (select id from lockgate.task_detail order by id desc limit {NEWEST})
          union (select id from lockgate.running() limit {RUNNING_MAX})
          union (
            select e.id from lockgate.queue_detail q cross join lateral (
              select t.id, t.finish_time from lockgate.task_detail t
              where t.queue = q.queue and t.status in ('succeeded', 'failed', 'cancelled')
                and t.finish_time > now() - {ENDED_SECONDS} * interval '1 second'
              order by t.finish_time desc limit {ENDED_MAX}) e
            order by e.finish_time desc limit {ENDED_MAX})
          union select unnest(%s::bigint[])
        )
        select {ROW}
        from lively join lockgate.task_detail using (id) order by id desc
        """,
        (list(others),),
    )
    return [TaskRow(*row) for row in rows]


def event(name: str, data: Any) -> bytes:
    """As it goes over the wire. JSON has no line breaks."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), json.encode(data))
