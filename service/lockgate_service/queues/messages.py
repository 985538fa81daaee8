"""The JSON of queues, slots and runners. Limits repeated here are for the documentation: schema.sql enforces them."""

from typing import Annotated

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from lockgate_service.pool import Time
from lockgate_service.tasks.messages import Name

DAYS_30 = 30 * 86400
YEARS_10 = 3650 * 86400

Slots = Annotated[int, Meta(description="How many of its tasks may execute at once.", ge=0, le=1000, examples=[2])]
Paused = Annotated[bool, Meta(description="Runners start no task of a paused queue.")]
Grace = Annotated[
    float, Meta(description="Seconds until another runner adopts the task of a dead runner.", ge=1, le=3600)
]
MaxAttempts = Annotated[int, Meta(description="Default of its tasks.", ge=1, le=1000)]
Timeout = Annotated[
    float, Meta(description="Default limit of one attempt in seconds; null: no limit.", gt=0, le=DAYS_30)
]
BackoffBase = Annotated[float, Meta(description="Seconds before the first retry; doubles with each.", ge=0, le=DAYS_30)]
BackoffMax = Annotated[float, Meta(description="Longest back-off in seconds.", ge=0, le=DAYS_30)]
Retention = Annotated[
    float, Meta(description="Seconds before an ended task is deleted; null: never.", ge=0, le=YEARS_10)
]
DepthMax = Annotated[
    int,
    Meta(description="Limit of its waiting tasks (approximate); null: no limit.", ge=0, le=10**6),
]
Silence = Annotated[
    float, Meta(description="Seconds since that session last spoke; null if the service may not see it.")
]
Kinds = Annotated[list[str], Meta(description="The kinds it accepts; null: any.", max_length=1000)]


class QueueChange(Struct, forbid_unknown_fields=True):
    """Changes to a queue. A field left out stays as it is; null removes a limit."""

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
    """A new queue. Only `name` is required."""

    name: Annotated[
        str,
        Meta(description="A queue cannot be renamed.", pattern="^[a-z0-9][a-z0-9_.-]{0,62}$", examples=["mail"]),
    ]


class Queue(Struct):
    """A queue: its settings and its numbers of tasks."""

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
    running: Annotated[int, Meta(description="Number of running tasks.")]
    queued: Annotated[str, Meta(description="Number of due tasks, counted to 10000+.", examples=["3", "10000+"])]
    scheduled: Annotated[str, Meta(description="Number of tasks not yet due, counted to 10000+.", examples=["0"])]
    oldest_wait: Annotated[float, Meta(description="Seconds that the longest waiting task has been due.")] | None


class QueueList(Struct):
    """Queues, by name."""

    items: list[Queue]


class Purged(Struct):
    """The result of a purge."""

    removed: Annotated[int, Meta(description="Number of deleted tasks.")]
    more: Annotated[bool, Meta(description="Whether ended tasks are left; if so, purge again.")]


class Slot(Struct):
    """A slot, its runner and its task."""

    queue: Name
    slot: Annotated[int, Meta(description="From 1.")]
    runner: Annotated[str, Meta(description="Holder of the slot.")] | None
    backend_pid: Annotated[int, Meta(description="Database session that holds the slot; null: free.")] | None
    task: int | None
    kind: str | None
    seconds: Annotated[float, Meta(description="Seconds since the task started.")] | None
    seconds_silent: Silence | None


class SlotList(Struct):
    """Slots, by queue and number."""

    items: list[Slot]


class Runner(Struct):
    """A session of a runner process."""

    session: int
    runner: Annotated[str, Meta(description="Name of the process: the same over reconnects, never reused.")]
    host: str
    pid: int
    backend_pid: int
    version: str
    concurrency: Annotated[int, Meta(description="How many slots it may hold at once.")]
    queues: Annotated[list[str], Meta(description="The queues it serves; null: all.")] | None
    kinds: Annotated[list[str], Meta(description="The kinds it has handlers for.")]
    since: Time
    alive: bool
    running: Annotated[int, Meta(description="Number of tasks it executes.")]
    draining: Annotated[bool, Meta(description="Whether it was told to claim no more tasks.")]


class Kind(Struct):
    """A kind of task that live runners serve."""

    kind: Annotated[str, Meta(examples=["sleep"])]
    runners: Annotated[int, Meta(description="Number of runners that serve it.")]
    queues: Annotated[list[str], Meta(description="The queues these runners serve; null: all.")] | None
    payload_schema: Annotated[
        Raw, Meta(description="JSON Schema of the payload, from the newest of these runners; null: any JSON.")
    ]


class KindList(Struct):
    """Kinds, by name; none while no runner is alive."""

    items: list[Kind]


class RunnerList(Struct):
    """The latest 1000 sessions of runners, newest first. Ended sessions are kept for a day."""

    items: list[Runner]
