"""The JSON of tasks. Limits repeated here are for the documentation: schema.sql enforces them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from lockgate_service.pool import Time

Status = Literal["scheduled", "queued", "running", "succeeded", "failed", "cancelled"]
Due = Literal["now", "soon"]  # lockgate.due says which
BriefStatus = Literal["In Queue", "Run", "Completed", "Error", "Cancelled"]
Action = Literal["cancel", "retry", "delete"]

Id = Annotated[int, Meta(description="The task's number.", examples=[17])]
Name = Annotated[str, Meta(examples=["default"])]
Kind = Annotated[str, Meta(examples=["sleep"])]
Key = Annotated[str, Meta(min_length=1, max_length=200)]
DedupeKey = Annotated[
    Key, Meta(description="While a task of the queue with this key is unfinished, requests return it.")
]
IdempotencyKey = Annotated[
    Key, Meta(description="The same key and task return the stored task; another task is refused.")
]
Priority = Annotated[int, Meta(description="Higher goes first. Default: 0.", ge=-100, le=100)]
GivenTime = Annotated[datetime, Meta(tz=True, description="With an offset or Z.")]
RunAt = Annotated[GivenTime, Meta(description="Earliest start, with an offset or Z. Default: now.")]
Delay = Annotated[float, Meta(description="Seconds from now to the earliest start.", ge=0, le=315360000)]
MaxAttempts = Annotated[int, Meta(description="Default: the queue's.", ge=1, le=1000)]
Timeout = Annotated[float, Meta(description="Limit of one attempt in seconds. Default: the queue's.", gt=0, le=2592000)]
Tags = Annotated[list[str], Meta(description="At most 4 KiB in all.")]
ErrorText = Annotated[str, Meta(description="In the error's type or message; ignores case.", max_length=200)]
Position = Annotated[
    int,
    Meta(
        description="Position in the queue: 1 goes next, 1001 means beyond 1000; null unless queued, or when "
        "counting takes too long."
    ),
]
Cursor = Annotated[str, Meta(pattern="^[0-9]{1,18}-[0-9a-f]{8}$")]


class NewTask(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A new task. Only `kind` is required; null is the same as a field left out. Not with both `run_at` and `delay`."""

    kind: Annotated[Kind, Meta(description="The handler that executes it.", min_length=1, max_length=200)]
    queue: Annotated[Name, Meta(description="Default: `default`.")] | None = None
    payload: Annotated[
        Raw, Meta(description="Any JSON up to 1 MiB. Default: `{}`.", extra_json_schema={"examples": [{"max": 10}]})
    ] = field(default_factory=lambda: Raw(b"{}"))
    priority: Priority | None = None
    run_at: RunAt | None = None
    delay: Delay | None = None
    max_attempts: MaxAttempts | None = None
    timeout: Timeout | None = None
    tags: Tags | None = None
    metadata: Annotated[dict[str, Any], Meta(description="A JSON object of at most 16 KiB.")] | None = None
    dedupe_key: DedupeKey | None = None


class BatchTask(NewTask, forbid_unknown_fields=True, omit_defaults=True):
    """A new task in a batch or stream, with its own idempotency key."""

    idempotency_key: IdempotencyKey | None = None


class Batch(Struct, forbid_unknown_fields=True):
    """New tasks, stored in one transaction."""

    items: Annotated[list[BatchTask], Meta(min_length=1, max_length=1000)]


class BatchItem(Struct):
    """The result of one item."""

    id: Id
    outcome: Annotated[
        Literal["created", "replayed", "deduplicated"],
        Meta(
            description="replayed: the idempotency key was used before for this task; deduplicated: an unfinished "
            "task has the dedupe key."
        ),
    ]


class BatchResult(Struct):
    """The results in the order of the items."""

    items: list[BatchItem]


class KeyedTask(NewTask, omit_defaults=True):
    """A NewTask as lockgate.submit_batch takes it, with what came in headers."""

    idempotency_key: str | None = None
    idempotency_scope: str = ""


class TaskSummary(Struct):
    """A task without payload and result, as lists show it."""

    id: Id
    queue: Name
    kind: Kind
    status: Annotated[Status, Meta(examples=["queued"])]
    priority: int
    create_time: Time
    run_at: Annotated[Time, Meta(description="Earliest start.")]
    start_time: Annotated[Time, Meta(description="Start of the latest attempt.")] | None
    finish_time: Annotated[Time, Meta(description="Time of success, failure or cancellation.")] | None
    exec_time: Annotated[float, Meta(description="Duration of the latest attempt in seconds.")] | None
    attempt: Annotated[int, Meta(description="Attempts counted so far.")]
    max_attempts: int
    timeout: Annotated[float, Meta(description="Limit of one attempt in seconds.")] | None
    slot: Annotated[int, Meta(description="The slot it executes in.")] | None
    lease: Annotated[int, Meta(description="Number of the latest claim.")] | None
    runner: Annotated[str, Meta(description="Runner of the latest attempt.")] | None
    cancel_requested: Annotated[Literal["graceful", "force"], Meta(description="How it was told to stop.")] | None
    # Any JSON includes null, so these are not declared nullable.
    error: Annotated[Raw, Meta(description="type, message and traceback of the latest failed attempt, or null.")]
    progress: Annotated[Raw, Meta(description="Latest progress the handler reported, or null.")]
    tags: list[str]
    metadata: Raw
    idempotency_key: str | None
    dedupe_key: str | None


class Task(TaskSummary):
    """A task with payload and result."""

    payload: Raw
    result: Annotated[Raw, Meta(description="Return value of the handler; null until then.")]


class Attempt(Struct):
    """An attempt that did not end its task, or that a retry followed."""

    attempt: Annotated[int, Meta(description="From 1; a returned attempt does not count.")]
    lease: Annotated[int, Meta(description="Number of its claim.")]
    outcome: Annotated[
        Literal["failed", "adopted", "returned"],
        Meta(description="adopted: its runner died; returned: its runner stopped and returned the task."),
    ]
    runner: str | None
    slot: int | None
    start_time: Time | None
    end_time: Time
    exec_time: Annotated[float, Meta(description="Duration in seconds.")] | None
    error: Annotated[Raw, Meta(description="type, message and traceback, or null.")]


class TaskDetail(Task):
    """A task with its earlier attempts and its position."""

    attempts: Annotated[
        list[Attempt],
        Meta(
            description="The latest 100, oldest first, without the current or final one, which the task itself shows."
        ),
    ]
    position: Position | None


class TaskVersion(Struct, frozen=True):
    """A version differs after every change of the task; None: the task is gone."""

    version: str | None
    has_ended: bool


class Output(Struct):
    """Output of one attempt."""

    lease: Annotated[int, Meta(description="Of the attempt, as in the task and its attempts.")]
    text: Annotated[str, Meta(description="The last 65,536 characters.")]


class OutputList(Struct):
    """Output by attempt, newest first."""

    items: Annotated[list[Output], Meta(description="The latest 20 attempts with output.")]


class TaskNumber(Struct):
    """A stored task that could not be read back."""

    id: int


class ListedTask(TaskSummary):
    """A task in a list."""

    payload: Annotated[Raw, Meta(description="Only with `fields=full`.")] | UnsetType = UNSET
    result: Annotated[Raw, Meta(description="Only with `fields=full`.")] | UnsetType = UNSET


class TaskPage(Struct):
    """A page of tasks, newest first."""

    items: Annotated[
        list[ListedTask],
        Meta(description="May be fewer than `limit`, or none, although there are more: see `next_cursor`."),
    ]
    next_cursor: Annotated[str, Meta(description="`cursor` of the next page; null on the last page.")] | None


class TaskFilter(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Selects the tasks that match every condition."""

    status: Annotated[list[Status], Meta(description="Any of these.", min_length=1, max_length=6)] | None = None
    queue: str | None = None
    kind: str | None = None
    tag: Annotated[str, Meta(description="Tasks with this tag.")] | None = None
    runner: Annotated[str, Meta(description="Runner of the latest attempt.")] | None = None
    error: ErrorText | None = None
    failure: Annotated[str, Meta(description="A group of `GET /failures`.", max_length=400)] | None = None
    created_after: Annotated[GivenTime, Meta(description="Created at this time or later.")] | None = None
    created_before: Annotated[GivenTime, Meta(description="Created before this time.")] | None = None
    finished_after: Annotated[GivenTime, Meta(description="Ended at this time or later.")] | None = None
    finished_before: Annotated[GivenTime, Meta(description="Ended before this time.")] | None = None


class Failure(Struct):
    """A group of failed tasks with the same queue, kind and error."""

    queue: Name
    kind: Kind
    failure: Annotated[
        str,
        Meta(
            description="Type and first line of the error, with # for each word with a digit.",
            examples=["TimeoutError: no answer after #.# s"],
        ),
    ]
    tasks: Annotated[int, Meta(description="Number of tasks.", examples=[12])]
    first: Annotated[Time, Meta(description="End of the first.")]
    last: Annotated[Time, Meta(description="End of the last.")]
    latest_task: Annotated[int, Meta(description="The newest task.", examples=[17])]
    filter: Annotated[TaskFilter, Meta(description="Selects all tasks of the group, beyond those examined too.")]


class Failures(Struct):
    """Failed tasks by error."""

    items: Annotated[list[Failure], Meta(description="Largest group first.")]
    groups: Annotated[int, Meta(description="Number of groups, of which `items` has up to `limit`.", examples=[1])]
    looked_at: Annotated[int, Meta(description="Number of failed tasks examined.", examples=[12])]
    complete: Annotated[bool, Meta(description="false: only the newest were examined.")]


class TaskChange(Struct, forbid_unknown_fields=True):
    """Changes to a waiting task. A field left out stays as it is; null sets the default of a new task. `max_attempts`
    must be more than the attempts so far."""

    priority: Priority | UnsetType | None = UNSET
    run_at: RunAt | UnsetType | None = UNSET
    tags: Tags | UnsetType | None = UNSET
    max_attempts: MaxAttempts | UnsetType | None = UNSET


class BulkRequest(Struct, forbid_unknown_fields=True):
    """An action on the tasks of `ids`, or on those that match `filter`."""

    action: Action
    ids: Annotated[list[Annotated[int, Meta(ge=1, le=2**63 - 1)]], Meta(min_length=1, max_length=1000)] | None = None
    filter: TaskFilter | None = None
    all: Annotated[bool, Meta(description="Required for a filter without conditions.")] = False
    force: Annotated[bool, Meta(description="With `cancel`: kill running handlers at once.")] = False
    dry_run: Annotated[bool, Meta(description="Only count.")] = False
    cursor: Annotated[Cursor, Meta(description="`next_cursor` of the previous answer.")] | None = None


class BulkResult(Struct):
    """The result of a bulk action."""

    matched: Annotated[int, Meta(description="Number of matching tasks whose status allows the action.")]
    affected: Annotated[int, Meta(description="Number of tasks changed: some may have changed or ended meanwhile.")]
    dry_run: bool
    next_cursor: Annotated[str, Meta(description="`cursor` of the next request, if the time was up.")] | None


class CancelRequest(Struct, forbid_unknown_fields=True):
    """Options of a cancellation."""

    force: Annotated[bool, Meta(description="Kill a running handler instead of telling it to stop first.")] = False


class BriefTask(Struct):
    """Status and times of a task."""

    status: BriefStatus
    create_time: Time
    start_time: Annotated[Time, Meta(description="Start of the latest attempt; null before the first.")] | None
    time_to_execute: Annotated[float, Meta(description="Duration in seconds; null until the task has ended.")] | None
