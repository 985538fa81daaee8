"""The HTTP shapes of queues, slots and runners. Limits repeated here are for the documentation: schema.sql has them."""

from typing import Annotated

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from lockgate_service.tasks.messages import Name, Time

DAYS_30 = 30 * 86400
YEARS_10 = 3650 * 86400

Slots = Annotated[int, Meta(description="How many of its tasks may execute at once.", ge=0, le=1000, examples=[2])]
Paused = Annotated[bool, Meta(description="Nothing new is started while it is.")]
Grace = Annotated[
    float, Meta(description="Seconds until the task of a runner that is gone is taken over.", ge=1, le=3600)
]
MaxAttempts = Annotated[int, Meta(description="Of tasks that name none.", ge=1, le=1000)]
Timeout = Annotated[
    float, Meta(description="Seconds one attempt may take, of tasks that name none; null: no limit.", gt=0, le=DAYS_30)
]
BackoffBase = Annotated[float, Meta(description="Seconds before the first retry, then doubled.", ge=0, le=DAYS_30)]
BackoffMax = Annotated[float, Meta(description="Seconds no back-off exceeds.", ge=0, le=DAYS_30)]
Retention = Annotated[float, Meta(description="Seconds an ended task is kept; null: for ever.", ge=0, le=YEARS_10)]
DepthMax = Annotated[
    int,
    Meta(
        description="How many tasks may wait in it for more to be taken, more or less; null: any number.",
        ge=0,
        le=10**6,
    ),
]
Kinds = Annotated[list[str], Meta(description="The kinds that may be submitted; null: any.", max_length=1000)]


class QueueChange(Struct, forbid_unknown_fields=True):
    """Settings of a queue to be changed. What is left out stays; null takes a limit away."""

    slots: Slots | UnsetType = UNSET
    paused: Paused | UnsetType = UNSET
    grace: Grace | UnsetType = UNSET
    max_attempts: MaxAttempts | UnsetType = UNSET
    timeout: Timeout | UnsetType | None = UNSET
    backoff_base: BackoffBase | UnsetType = UNSET
    backoff_max: BackoffMax | UnsetType = UNSET
    retention: Retention | UnsetType | None = UNSET
    depth_max: DepthMax | UnsetType | None = UNSET
    kinds: Kinds | UnsetType | None = UNSET


class NewQueue(QueueChange, forbid_unknown_fields=True, kw_only=True):
    """A queue to be made. Only `name` is required; the rest has defaults."""

    name: Annotated[
        str,
        Meta(
            description="For good: queues are never renamed.",
            pattern="^[a-z0-9][a-z0-9_.-]{0,62}$",
            examples=["mail"],
        ),
    ]


class Queue(Struct):
    """A queue: its settings, and what is in it."""

    name: Name
    slots: Slots
    paused: Paused
    grace: Grace
    max_attempts: MaxAttempts
    timeout: Timeout | None
    backoff_base: BackoffBase
    backoff_max: BackoffMax
    retention: Retention | None
    depth_max: DepthMax | None
    kinds: Kinds | None
    create_time: Time
    running: Annotated[int, Meta(description="How many execute.")]
    queued: Annotated[str, Meta(description="How many are due, counted to 10000+.", examples=["3", "10000+"])]
    scheduled: Annotated[str, Meta(description="How many wait for their time, counted to 10000+.", examples=["0"])]
    oldest_wait: Annotated[float, Meta(description="Seconds the one that waits longest has been due.")] | None


class QueueList(Struct):
    """Queues, by name."""

    items: list[Queue]


class Purged(Struct):
    """What a purge did."""

    removed: Annotated[int, Meta(description="How many tasks it removed.")]
    more: Annotated[bool, Meta(description="Whether ended tasks are left: purge again.")]


class Slot(Struct):
    """A slot, whoever holds it, and what executes in it."""

    queue: Name
    slot: Annotated[int, Meta(description="From 1.")]
    runner: Annotated[str, Meta(description="Who holds the slot.")] | None
    backend_pid: Annotated[int, Meta(description="Of the database session that holds the slot; null: free.")] | None
    task: int | None
    kind: str | None
    seconds: Annotated[float, Meta(description="How long it has been executing.")] | None
    seconds_silent: (
        Annotated[float, Meta(description="Since that session last said anything; null where this may not be seen.")]
        | None
    )


class SlotList(Struct):
    """Slots, by queue and number."""

    items: list[Slot]


class Runner(Struct):
    """A session of a runner process."""

    session: int
    runner: Annotated[str, Meta(description="The process: the same over reconnects, never reused.")]
    host: str
    pid: int
    backend_pid: int
    version: str
    concurrency: Annotated[int, Meta(description="How many slots it may hold at once.")]
    queues: Annotated[list[str], Meta(description="Those it serves; null: all.")] | None
    kinds: Annotated[list[str], Meta(description="Those it has handlers for.")]
    since: Time
    alive: bool
    running: Annotated[int, Meta(description="How many tasks the process executes.")]
    draining: Annotated[bool, Meta(description="It was told to take no more tasks.")]


class Kind(Struct):
    """A kind of tasks that runners serve now."""

    kind: Annotated[str, Meta(examples=["sleep"])]
    runners: Annotated[int, Meta(description="How many runners serve it.")]
    queues: Annotated[list[str], Meta(description="The queues they serve; null: all.")] | None
    payload_schema: Annotated[
        Raw, Meta(description="JSON Schema of the payload, as the newest of them has it; null: anything is taken.")
    ]


class KindList(Struct):
    """Kinds, by name. Empty while no runner is alive."""

    items: list[Kind]


class RunnerList(Struct):
    """Sessions of runners, newest first, the latest 1000; those that have ended are kept for a day."""

    items: list[Runner]
