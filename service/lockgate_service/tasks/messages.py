"""The HTTP shapes, and nothing else. Where schema.sql has a limit too, that one counts."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

Status = Literal["scheduled", "queued", "running", "succeeded", "failed", "cancelled"]
Due = Literal["now", "soon"]  # soon: within a minute
BriefStatus = Literal["In Queue", "Run", "Completed", "Error", "Cancelled"]

# As Postgres writes it, so that no year is beyond us: 2026-05-01T12:00:00.000000Z.
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"}, examples=["2026-05-01T12:00:00.250000Z"])]
Name = Annotated[str, Meta(examples=["default"])]


class NewTask(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A task to be executed. Only `kind` is required; null means the same as leaving a field out."""

    kind: Annotated[
        str, Meta(description="Which handler executes it.", min_length=1, max_length=200, examples=["sleep"])
    ]
    queue: Annotated[str, Meta(description="`default` unless given.", examples=["default"])] | None = None
    payload: Annotated[
        Raw,
        Meta(
            description="Any JSON, at most 1 MiB; `{}` unless given.",
            extra_json_schema={"examples": [{"min": 0, "max": 10}]},
        ),
    ] = field(default_factory=lambda: Raw(b"{}"))
    priority: Annotated[int, Meta(description="Higher goes first; 0 unless given.", ge=-100, le=100)] | None = None
    run_at: (
        Annotated[datetime, Meta(tz=True, description="Not before this time; with an offset or Z. Not with `delay`.")]
        | None
    ) = None
    delay: (
        Annotated[
            float,
            Meta(description="Seconds from now until it may run, 0 or more. Not with `run_at`.", ge=0, le=315360000),
        ]
        | None
    ) = None
    max_attempts: Annotated[int, Meta(description="The queue's unless given.", ge=1, le=1000)] | None = None
    timeout: (
        Annotated[
            float,
            Meta(description="Seconds one attempt may take, more than 0; the queue's unless given.", gt=0, le=2592000),
        ]
        | None
    ) = None
    tags: Annotated[list[str], Meta(description="At most 4 KiB in all.")] | None = None
    metadata: Annotated[dict[str, Any], Meta(description="A JSON object of at most 16 KiB.")] | None = None
    dedupe_key: (
        Annotated[
            str,
            Meta(
                description="At most one unfinished task per queue and key: a second one returns the first.",
                min_length=1,
                max_length=200,
                examples=["invoice-2026-05"],
            ),
        ]
        | None
    ) = None


class BatchTask(NewTask, forbid_unknown_fields=True, omit_defaults=True):
    """A task to be executed, one of many: with a key of its own, since the request has no header for each."""

    idempotency_key: (
        Annotated[
            str,
            Meta(
                description="The same key and task give the same task, and the same key with another task is refused.",
                min_length=1,
                max_length=200,
                examples=["order-4711"],
            ),
        ]
        | None
    ) = None


class Batch(Struct, forbid_unknown_fields=True):
    """Tasks to be executed, all of them or none."""

    items: Annotated[list[BatchTask], Meta(min_length=1, max_length=1000)]


class BatchItem(Struct):
    """What became of an item."""

    id: Annotated[int, Meta(description="The task's number.", examples=[17])]
    outcome: Annotated[
        Literal["created", "replayed", "deduplicated"],
        Meta(
            description="replayed: its idempotency key had been used for this task; deduplicated: an unfinished task "
            "has its dedupe key."
        ),
    ]


class BatchResult(Struct):
    """What became of the items, in their order."""

    items: list[BatchItem]


class KeyedTask(NewTask, omit_defaults=True):
    """A NewTask as `submit_batch` takes it, which knows nothing of headers."""

    idempotency_key: str | None = None
    idempotency_scope: str = ""


class TaskSummary(Struct):
    """A task without its payload and result: what lists show."""

    id: Annotated[int, Meta(description="The task's number.", examples=[17])]
    queue: Name
    kind: Annotated[str, Meta(examples=["sleep"])]
    status: Annotated[Status, Meta(examples=["queued"])]
    priority: int
    create_time: Time
    run_at: Annotated[Time, Meta(description="Not before this time.")]
    start_time: Annotated[Time, Meta(description="Of the latest attempt.")] | None
    finish_time: Annotated[Time, Meta(description="When it succeeded, failed or was cancelled.")] | None
    exec_time: Annotated[float, Meta(description="Seconds the latest attempt took.")] | None
    attempt: Annotated[int, Meta(description="Attempts counted so far.")]
    max_attempts: int
    timeout: Annotated[float, Meta(description="Seconds one attempt may take.")] | None
    slot: Annotated[int, Meta(description="The slot it executes in.")] | None
    lease: Annotated[int, Meta(description="The latest claim's number.")] | None
    runner: Annotated[str, Meta(description="Who executes it, or did last.")] | None
    cancel_requested: Annotated[Literal["ask", "force"], Meta(description="How it was asked to stop.")] | None
    # Any JSON has null in it, so these three are not declared as nullable besides.
    error: Annotated[Raw, Meta(description="type, message and traceback of the latest attempt that failed, or null.")]
    progress: Annotated[Raw, Meta(description="What its handler last reported, or null.")]
    tags: list[str]
    metadata: Raw
    idempotency_key: str | None
    dedupe_key: str | None


class Task(TaskSummary):
    """A task, whole."""

    payload: Raw
    result: Annotated[Raw, Meta(description="What its handler returned; null until then.")]


class Attempt(Struct):
    """An attempt that ended without ending its task, or before its task was retried."""

    attempt: Annotated[int, Meta(description="Its number, from 1; one that was given back is not counted.")]
    lease: Annotated[int, Meta(description="Its claim's number.")]
    outcome: Annotated[
        Literal["failed", "adopted", "returned"],
        Meta(description="adopted: its runner was gone; returned: given back by a runner that stopped."),
    ]
    runner: str | None
    slot: int | None
    start_time: Time | None
    end_time: Time
    exec_time: Annotated[float, Meta(description="Seconds it took.")] | None
    error: Annotated[Raw, Meta(description="type, message and traceback, or null.")]


class TaskDetail(Task):
    """A task, whole, with its attempts so far."""

    attempts: Annotated[
        list[Attempt],
        Meta(description="Oldest first, the latest 100. The current one, or the one that ended it, is the task's own."),
    ]
    position: (
        Annotated[
            int,
            Meta(
                description="Its place in the line of its queue: 1 goes next, 1001 is any further back than 1000; null "
                "unless queued, and where counting would take long."
            ),
        ]
        | None
    )


class Sight(Struct, frozen=True):
    """What tells that a task has changed. `version` is None when it is gone."""

    version: str | None
    has_ended: bool


class Output(Struct):
    """What the handler printed during one attempt."""

    lease: Annotated[int, Meta(description="The attempt's: see `lease` of the task and of its attempts.")]
    text: Annotated[str, Meta(description="The last 65,536 characters.")]


class OutputList(Struct):
    """Output, newest attempt first."""

    items: Annotated[list[Output], Meta(description="Of the latest 20 attempts that printed anything.")]


class TaskNumber(Struct):
    """Stands in for a task that is stored but could not be read back."""

    id: int


class ListedTask(TaskSummary):
    """A task in a list."""

    payload: Annotated[Raw, Meta(description="Only with `fields=full`.")] | UnsetType = UNSET
    result: Annotated[Raw, Meta(description="Only with `fields=full`.")] | UnsetType = UNSET


class TaskPage(Struct):
    """Tasks, newest first."""

    items: Annotated[
        list[ListedTask],
        Meta(description="May be fewer than asked for, or none, though there are more: `next_cursor` says that."),
    ]
    next_cursor: Annotated[str, Meta(description="Give it as `cursor` for the next page; null on the last.")] | None


Moment = Annotated[datetime, Meta(tz=True, description="With an offset or Z.")]


class TaskFilter(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Which tasks: those to which all of it applies."""

    status: Annotated[list[Status], Meta(description="With any of these.", min_length=1, max_length=6)] | None = None
    queue: str | None = None
    kind: str | None = None
    tag: Annotated[str, Meta(description="That have this tag.")] | None = None
    runner: Annotated[str, Meta(description="Whose latest attempt this runner executes, or did.")] | None = None
    error: (
        Annotated[
            str,
            Meta(description="Failed ones whose error has this in its type or message, in any case.", max_length=200),
        ]
        | None
    ) = None
    failure: Annotated[str, Meta(description="That failed so: see `GET /failures`.", max_length=400)] | None = None
    created_after: Annotated[Moment, Meta(description="Created then or later.")] | None = None
    created_before: Annotated[Moment, Meta(description="Created before that.")] | None = None
    finished_after: Annotated[Moment, Meta(description="Ended then or later.")] | None = None
    finished_before: Annotated[Moment, Meta(description="Ended before that.")] | None = None


class Failure(Struct):
    """Failed tasks of one queue and kind that failed in the same way."""

    queue: Name
    kind: Annotated[str, Meta(examples=["sleep"])]
    failure: Annotated[
        str,
        Meta(
            description="Type and first line of their errors, with # for each word that has a digit.",
            examples=["TimeoutError: no answer after #.# s"],
        ),
    ]
    tasks: Annotated[int, Meta(description="How many there are.", examples=[12])]
    first: Annotated[Time, Meta(description="When the first of them ended.")]
    last: Annotated[Time, Meta(description="When the last did.")]
    latest_task: Annotated[int, Meta(description="One of them: the newest.", examples=[17])]
    filter: Annotated[TaskFilter, Meta(description="Applies to them all, those not looked at too.")]


class Failures(Struct):
    """What has failed, by what went wrong."""

    items: Annotated[list[Failure], Meta(description="Those with the most tasks first.")]
    groups: Annotated[int, Meta(description="How many there are, of which `limit` are here.", examples=[1])]
    looked_at: Annotated[int, Meta(description="How many failed tasks these are.", examples=[12])]
    complete: Annotated[bool, Meta(description="false: only the newest were looked at.")]


class TaskChange(Struct, forbid_unknown_fields=True):
    """What to change of a task that waits. What is left out stays; null is what a new task has that names none."""

    priority: Annotated[int, Meta(description="Higher goes first.", ge=-100, le=100)] | UnsetType | None = UNSET
    run_at: (
        Annotated[datetime, Meta(tz=True, description="Not before this time; with an offset or Z. null: now.")]
        | UnsetType
        | None
    ) = UNSET
    tags: (
        Annotated[list[str], Meta(description="In place of those it has. At most 4 KiB in all.")] | UnsetType | None
    ) = UNSET
    max_attempts: (
        Annotated[int, Meta(description="More than it has had; null: the queue's.", ge=1, le=1000)] | UnsetType | None
    ) = UNSET


Action = Literal["cancel", "retry", "delete"]


class BulkRequest(Struct, forbid_unknown_fields=True):
    """What to do, and to which tasks: those of `ids`, or those to which the filter applies."""

    action: Action
    ids: Annotated[list[Annotated[int, Meta(ge=1, le=2**63 - 1)]], Meta(min_length=1, max_length=1000)] | None = None
    filter: TaskFilter | None = None
    all: Annotated[bool, Meta(description="Has to be said for a filter without conditions.")] = False
    force: Annotated[bool, Meta(description="With cancel: kill running handlers at once.")] = False
    dry_run: Annotated[bool, Meta(description="Only count.")] = False
    cursor: (
        Annotated[str, Meta(description="`next_cursor` of the answer before.", pattern="^[0-9]{1,18}-[0-9a-f]{8}$")]
        | None
    ) = None


class BulkResult(Struct):
    """How far it came."""

    matched: Annotated[int, Meta(description="Tasks to which it applies and to which this can be done.")]
    affected: Annotated[
        int, Meta(description="To how many it was done: fewer if some changed in between, or cannot be retried.")
    ]
    dry_run: bool
    next_cursor: (
        Annotated[str, Meta(description="Time is up and there may be more: send the same with this `cursor`.")] | None
    )


class CancelRequest(Struct, forbid_unknown_fields=True):
    """How to cancel."""

    force: Annotated[bool, Meta(description="Kill a running handler at once instead of asking it first.")] = False


class BriefTask(Struct):
    """The least there is to know about a task."""

    status: BriefStatus
    create_time: Time
    start_time: Annotated[Time, Meta(description="null until it first starts.")] | None
    time_to_execute: Annotated[float, Meta(description="Seconds; null until it has ended.")] | None
