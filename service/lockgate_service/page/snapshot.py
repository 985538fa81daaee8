"""Everything at one moment, for those who watch it change: as one JSON object, and what is new in it since another."""

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import DecodeError, Meta, Raw, Struct, json, structs, to_builtins

from lockgate_service.rows import Time
from lockgate_service.stats.messages import Point, Stats
from lockgate_service.stats.routes import of_one
from lockgate_service.tasks.messages import Name, Status

Json = dict[str, Any]


class SlotGlance(Struct):
    """A slot, with times in the place of durations, which would change all the time."""

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


class RunnerGlance(Struct):
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


class TaskGlance(Struct):
    """What a line of a list shows of a task."""

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


class Scene(Struct, frozen=True):
    """Everything but tasks."""

    stats: Stats
    slots: list[SlotGlance]
    runners: list[RunnerGlance]
    series: list[Point]

    def of(self, queue: str | None) -> Json:
        """As the snapshot of those who watch this queue, or all. What is null is left out."""
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
    """A null in a JSON Merge Patch would take away what it stands for."""
    if isinstance(value, dict):
        return {name: without_null(one) for name, one in value.items() if one is not None}
    return value


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> Json:
    """What makes the new object of the old one (RFC 7396); neither may have null in it."""
    patch: Json = {}
    for name, value in new.items():
        if name not in old:
            patch[name] = value
        elif value != (before := old[name]):
            both = isinstance(value, dict) and isinstance(before, dict)
            patch[name] = merge_patch(before, value) if both else value
    return patch | dict.fromkeys(old.keys() - new.keys())


def event(name: str, data: Any) -> bytes:
    """As it goes over the wire. JSON has no line breaks."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), json.encode(data))
