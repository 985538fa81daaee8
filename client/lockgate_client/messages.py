"""What goes to the service, what comes back, and what the client raises. Fields that a newer service has beside these
are passed over."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any, Literal

from msgspec import UNSET, Struct, field

if TYPE_CHECKING:
    Time = datetime
else:

    class Time(datetime):
        """A datetime; what is beyond its years, as SQL may have it, becomes the last there is."""


Status = Literal["scheduled", "queued", "running", "succeeded", "failed", "cancelled"]


def read_time(wanted: type, text: Any) -> datetime:
    """msgspec's `dec_hook` for Time."""
    if wanted is not Time or not isinstance(text, str):
        raise NotImplementedError(wanted)
    try:
        return Time.fromisoformat(text)
    except ValueError:
        return Time.combine(date.max, time.max, UTC)


class NewTask(Struct, omit_defaults=True, frozen=True):
    """A task to be executed. Only `kind` is required; for the rest the queue's settings or the service's are good.

    `payload`, `metadata`: anything that `msgspec.json.encode` takes (dataclasses and datetimes too). `run_at` needs a
    zone. `delay`, `timeout`: seconds. `dedupe_key`: at most one unfinished task of a queue has it, and a second one
    returns the first. `idempotency_key`: the same key and task give the same task for as long as it is kept.
    """

    kind: str
    payload: Any = field(default_factory=dict)
    queue: str | None = None
    priority: int | None = None
    run_at: datetime | None = None
    delay: float | None = None
    max_attempts: int | None = None
    timeout: float | None = None
    tags: list[str] | None = None
    metadata: dict[str, Any] | None = None
    dedupe_key: str | None = None
    idempotency_key: str | None = None


class TaskError(Struct):
    """Why an attempt failed."""

    type: str = ""
    message: str = ""
    traceback: str | None = None


class Attempt(Struct):
    """An attempt that ended without ending its task, or before its task was retried. `exec_time`: seconds."""

    attempt: int
    lease: int
    outcome: str
    runner: str | None
    slot: int | None
    start_time: Time | None
    end_time: Time
    exec_time: float | None
    error: TaskError | None


class Task(Struct):
    """A task as it was when the service answered. Times are of the latest attempt; `exec_time`, `timeout`: seconds.

    `payload` and `result` are UNSET in a list that was not asked for them; `attempts` and `position` (its place in
    the line, while it is queued) come from `get`, `cancel`, `retry` and `change`.
    """

    id: int
    queue: str
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
    timeout: float | None
    slot: int | None
    lease: int | None
    runner: str | None
    cancel_requested: Literal["graceful", "force"] | None
    error: TaskError | None
    progress: Any
    tags: list[str]
    metadata: Any
    idempotency_key: str | None
    dedupe_key: str | None
    payload: Any = UNSET
    result: Any = UNSET
    attempts: list[Attempt] = []
    position: int | None = None

    @property
    def has_ended(self) -> bool:
        return self.finish_time is not None


class Submitted(Struct):
    """What became of a task of many."""

    id: int
    outcome: Literal["created", "replayed", "deduplicated"]


class Taken(Struct):
    """How many tasks of many are stored: the first `lines` of them; of those, how many are new, had been stored before
    with the same idempotency key, or met an unfinished task with the same dedupe key."""

    lines: int = 0
    created: int = 0
    replayed: int = 0
    deduplicated: int = 0

    def __add__(self, other: Taken) -> Taken:
        return Taken(*(getattr(self, name) + getattr(other, name) for name in self.__struct_fields__))


class Output(Struct):
    """What a handler printed during the attempt with this lease."""

    lease: int
    text: str


class Failure(Struct):
    """Failed tasks of one queue and kind that failed in the same way: how many `tasks`, when the `first` and `last` of
    them ended, the newest of them; and the `filter` that applies to all of them."""

    queue: str
    kind: str
    failure: str
    tasks: int
    first: Time
    last: Time
    latest_task: int
    filter: dict[str, Any]


class Failures(Struct):
    """The groups with the most tasks, of `groups` that there are among the `looked_at` newest failed tasks; `complete`
    when these are all."""

    items: list[Failure]
    groups: int
    looked_at: int
    complete: bool


class Queue(Struct):
    """A queue: its settings (`grace`, `timeout`, back-off and `retention` in seconds), and what is in it. `queued` and
    `scheduled` are counted to "10000+"."""

    name: str
    slots: int
    paused: bool
    grace: float
    max_attempts: int
    timeout: float | None
    backoff_base: float
    backoff_max: float
    retention: float | None
    depth_max: int | None
    kinds: list[str] | None
    create_time: Time
    running: int
    queued: str
    scheduled: str
    oldest_wait: float | None


class Slot(Struct):
    """A slot, the runner that holds it, and the task in it, for how many `seconds`."""

    queue: str
    slot: int
    runner: str | None
    task: int | None
    kind: str | None
    seconds: float | None


class FieldError(Struct):
    """What is wrong with one field of a request."""

    field: str
    message: str
    pointer: str | None = None


class Problem(Struct):
    """Why a request was refused (RFC 9457). `type` is where the service explains it."""

    type: str
    title: str
    status: int
    detail: str = ""
    errors: list[FieldError] = []
    taken: Taken | None = None

    @property
    def name(self) -> str:
        """The end of its type, such as `queue-full`."""
        return self.type.rpartition("/")[2]


class RequestFailed(Exception):
    """A request was refused, or has got no answer.

    `problem` says why it was refused; None: no answer came, or none that can be understood, and `__cause__` says why.
    Then, and after a 503, what was asked may have been done or not. `taken`, from `submit_many` and `stream`: what is
    stored for sure.
    """

    def __init__(self, says: str, problem: Problem | None = None, retry_after: float | None = None) -> None:
        super().__init__(says)
        self.problem = problem
        self.retry_after = retry_after
        """Seconds after which the service wants to be asked again."""
        self.taken: Taken | None = None

    @property
    def status(self) -> int | None:
        """Of the answer; None if there was none."""
        return self.problem.status if self.problem else None


class TaskFailed(Exception):
    """The task that was waited for has failed. `error` is that of its last attempt."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.error = task.error or TaskError()
        super().__init__(f"task {task.id} has failed: {self.error.type}: {self.error.message}")


class TaskCancelled(Exception):
    """The task that was waited for was cancelled. `error` is that of its last attempt, if one failed."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.error = task.error
        super().__init__(f"task {task.id} was cancelled")
