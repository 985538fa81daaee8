"""The JSON of statistics."""

from typing import Annotated

from msgspec import Meta, Struct

from lockgate_service.pool import Time
from lockgate_service.tasks.messages import Name

Seconds = Annotated[float, Meta(description="Seconds.", examples=[1.25])]


class Ended(Struct):
    """Number of ended tasks by outcome."""

    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0


class Durations(Struct):
    """Seconds, accurate to an eighth; null without any task."""

    median: Seconds | None = None
    p95: Annotated[Seconds, Meta(description="95th percentile.")] | None = None


class Hour(Struct):
    """The tasks that ended in the last hour."""

    ended: Ended
    wait: Annotated[Durations, Meta(description="From the time they were due to their latest start.")]
    run: Annotated[Durations, Meta(description="Duration of their latest attempts.")]


class Now(Struct):
    """What executes and waits now."""

    slots: Annotated[int, Meta(description="How many tasks may execute at once.")]
    running: Annotated[int, Meta(description="Number of running tasks.")]
    held: Annotated[int, Meta(description="Number of slots that runners hold, including those above a lowered number.")]
    queued: Annotated[int, Meta(description="Number of due tasks, counted to 10,001 per queue.", examples=[3])]
    scheduled: Annotated[
        int, Meta(description="Number of tasks not yet due, counted to 10,001 per queue.", examples=[0])
    ]
    due_since: Annotated[Time, Meta(description="Due time of the longest waiting task; null: none waits.")] | None
    oldest_wait: Annotated[Seconds, Meta(description="Seconds since that time.")] | None


class QueueNow(Now):
    """A queue now."""

    name: Name
    paused: bool
    grace: Seconds
    runners: Annotated[int, Meta(description="Number of runners that serve it.")]
    standbys: Annotated[int, Meta(description="Those of them with free concurrency that hold none of its slots.")]


class AllStats(Now):
    """All queues together."""

    hour: Hour


class QueueStats(QueueNow):
    """Statistics of a queue."""

    hour: Hour


class Stats(Struct):
    """Statistics of all queues, or of the queue that the caller is limited to."""

    time: Time
    all: AllStats
    queues: Annotated[list[QueueStats], Meta(description="By name.")]


class Point(Struct):
    """One step of a series."""

    time: Annotated[Time, Meta(description="Begin of the step.")]
    succeeded: Annotated[int, Meta(description="Number of tasks that ended this way in the step.")]
    failed: int
    cancelled: int
    queued: Annotated[int, Meta(description="Maximum of its minutes, each counted at its begin.")]
    scheduled: int
    running: int
    wait_mean: Annotated[Seconds, Meta(description="Mean wait of the ended tasks.")] | None
    run_mean: Annotated[Seconds, Meta(description="Mean duration of their latest attempts.")] | None


class Series(Struct):
    """Steps, oldest first; the last one still goes on. Ended tasks are counted within about 20 seconds while a runner
    is alive."""

    step: Annotated[float, Meta(description="Seconds.")]
    items: list[Point]
