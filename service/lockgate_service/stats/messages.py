"""The HTTP shapes of what is counted and measured."""

from typing import Annotated

from msgspec import Meta, Struct

from lockgate_service.tasks.messages import Name, Time

Seconds = Annotated[float, Meta(description="Seconds.", examples=[1.25])]


class Ended(Struct):
    """How many tasks have ended, by outcome."""

    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0


class Durations(Struct):
    """Seconds, to within an eighth; null where there was none."""

    median: Seconds | None = None
    p95: Annotated[Seconds, Meta(description="What 95 of 100 stay below.")] | None = None


class Hour(Struct):
    """The tasks that ended in the last hour."""

    ended: Ended
    wait: Annotated[Durations, Meta(description="From when they were due to their latest start.")]
    run: Annotated[Durations, Meta(description="Of their latest attempts.")]


class Now(Struct):
    """What executes and waits at this moment."""

    slots: Annotated[int, Meta(description="How many may execute at once.")]
    running: Annotated[int, Meta(description="How many execute.")]
    held: Annotated[int, Meta(description="How many slots runners hold, those above a lowered number included.")]
    queued: Annotated[int, Meta(description="How many are due, for each queue counted to 10,001.", examples=[3])]
    scheduled: Annotated[int, Meta(description="How many wait for their time, counted likewise.", examples=[0])]
    due_since: Annotated[Time, Meta(description="When the one was due that waits longest; null: none waits.")] | None
    oldest_wait: Annotated[Seconds, Meta(description="How many seconds ago that was.")] | None


class QueueNow(Now):
    """A queue at this moment."""

    name: Name
    paused: bool
    grace: Seconds
    runners: Annotated[int, Meta(description="How many runners serve it.")]
    standbys: Annotated[int, Meta(description="How many of these have room and hold none of its slots.")]


class AllStats(Now):
    """All queues together."""

    hour: Hour


class QueueStats(QueueNow):
    """A queue in numbers."""

    hour: Hour


class Stats(Struct):
    """Everything in numbers. Sums over some queues only, where that is all the caller may see."""

    time: Time
    all: AllStats
    queues: Annotated[list[QueueStats], Meta(description="By name.")]


class Point(Struct):
    """One step of a series."""

    time: Annotated[Time, Meta(description="Its beginning.")]
    succeeded: Annotated[int, Meta(description="How many ended so in it.")]
    failed: int
    cancelled: int
    queued: Annotated[int, Meta(description="The most that were due at the beginning of one of its minutes.")]
    scheduled: int
    running: int
    wait_mean: Annotated[Seconds, Meta(description="How long those that ended had waited.")] | None
    run_mean: Annotated[Seconds, Meta(description="How long their latest attempts took.")] | None


class Series(Struct):
    """Steps, the oldest first; the last one is not over yet. What has ended is counted within some 20 seconds, as long
    as there is a runner."""

    step: Annotated[float, Meta(description="Seconds.")]
    items: list[Point]
