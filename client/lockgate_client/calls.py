"""Each call: its request, and what its answer means. `Client` and `AsyncClient` do them, each in its way."""

import math
import time
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

import httpx
from msgspec import UNSET, Struct, UnsetType, json, structs

from lockgate_client.messages import (
    Failures,
    NewTask,
    Output,
    Queue,
    RequestFailed,
    Slot,
    Status,
    Submitted,
    Taken,
    Task,
    TaskCancelled,
    TaskFailed,
)
from lockgate_client.steps import (
    Found,
    Limits,
    NextLine,
    NextTask,
    Pause,
    Send,
    Steps,
    answer,
    decoded,
    exchange,
    pause_after,
)

T = TypeVar("T")

WAIT_SECONDS_MAX = 60  # of one request; the service's limit
ANSWER_SECONDS = 5.0  # in which it answers then
# Of one request that makes many tasks.
BATCH_MAX = 1000
STREAM_MAX = 10_000
BYTES_MAX = 3 * 1024 * 1024
STREAM_SECONDS = 1.0  # after which what is there is sent, though it is less
HEARTBEATS_SECONDS = 45.0  # three of the service's


class _Id(Struct):
    id: int


class _Items(Struct, Generic[T]):
    items: list[T]


class _Page(_Items[Task]):
    next_cursor: str | None


def _id(task: int | Task) -> int:
    return task.id if isinstance(task, Task) else task


def submit(
    limits: Limits,
    kind: str,
    payload: Any = UNSET,
    *,
    queue: str | None = None,
    priority: int | None = None,
    run_at: datetime | None = None,
    delay: float | None = None,
    max_attempts: int | None = None,
    timeout: float | None = None,
    tags: list[str] | None = None,
    metadata: dict[str, Any] | None = None,
    dedupe_key: str | None = None,
    idempotency_key: str | None = None,
) -> Steps[Task]:
    """Submits a task, and returns it once it is stored. The options are those of `NewTask`.

    Without an `idempotency_key` it has one of its own, so that trying again never makes two tasks of one.
    """
    payload = {} if payload is UNSET else payload
    new = NewTask(kind, payload, queue, priority, run_at, delay, max_attempts, timeout, tags, metadata, dedupe_key)
    headers = {"Idempotency-Key": _quoted(idempotency_key or uuid.uuid4().hex)}
    response = yield from exchange(limits, Send("POST", "/tasks", json.encode(new), headers=headers))
    if "status" in decoded(response.content, dict[str, Any]):
        return decoded(response.content, Task)
    # It is stored, but the service could not read it back.
    return (yield from get(limits, decoded(response.content, _Id).id))


def submit_many(limits: Limits, tasks: Iterable[NewTask]) -> Steps[list[Submitted]]:
    """Submits tasks, up to 1,000 in a transaction, and returns what became of each, in their order.

    Tasks without an idempotency key get one, so that trying again makes no second task. When it fails, `taken` of the
    RequestFailed says how many of them, from the first, are stored; an item that it points at is counted from there.
    """
    prefix = uuid.uuid4().hex
    lines = [
        json.encode(one if one.idempotency_key else structs.replace(one, idempotency_key=f"{prefix}:{number}"))
        for number, one in enumerate(tasks)
    ]
    stored: list[Submitted] = []
    while len(stored) < len(lines):
        some = _fitting(lines[len(stored) : len(stored) + BATCH_MAX])
        try:
            send = Send("POST", "/tasks/batch", b'{"items":[' + b",".join(some) + b"]}")
            stored += (yield from answer(limits, send, _Items[Submitted])).items
        except RequestFailed as error:
            error.taken = _taken(stored)
            raise
    return stored


def _taken(stored: Sequence[Submitted]) -> Taken:
    taken = Taken(len(stored))
    for one in stored:
        setattr(taken, one.outcome, getattr(taken, one.outcome) + 1)
    return taken


def _fitting(lines: Sequence[bytes]) -> Sequence[bytes]:
    """As many as fit into a request, and one at least."""
    size = 0
    for number, line in enumerate(lines):
        size += len(line) + 1
        if number and size > BYTES_MAX:
            return lines[:number]
    return lines


def stream(limits: Limits) -> Steps[Taken]:
    """Of what is given by NextTask, no more than one request is kept: so long as it may have to be sent again."""
    taken = Taken()
    is_over = False
    while not is_over:
        lines: list[bytes] = []
        size = 0
        begin = time.monotonic()
        while len(lines) < STREAM_MAX and size < BYTES_MAX and time.monotonic() < begin + STREAM_SECONDS:
            new: NewTask | None = yield NextTask()
            if new is None:
                is_over = True
                break
            if not lines:
                begin = time.monotonic()
            lines.append(json.encode(new))
            size += len(lines[-1]) + 1
        if not lines:
            break
        headers = {"Idempotency-Key": uuid.uuid4().hex, "Content-Type": "application/x-ndjson"}
        send = Send("POST", "/tasks/stream", b"\n".join(lines), headers=headers)
        try:
            taken += yield from answer(limits, send, Taken)
        except RequestFailed as error:
            error.taken = taken + ((error.problem and error.problem.taken) or Taken())
            raise
    return taken


def wait(limits: Limits, task: int | Task, timeout: float = 300) -> Steps[Any]:
    """Waits until the task has ended, for `timeout` seconds at most, and returns its result.

    Raises:
        TaskFailed: it has failed.
        TaskCancelled: it was cancelled.
        TimeoutError: it has not ended in time. It goes on all the same.
        RequestFailed: there is no such task, or the service was away when the time was up.
    """
    deadline = time.monotonic() + timeout
    while True:
        begin = time.monotonic()
        seconds = min(WAIT_SECONDS_MAX, max(0, math.ceil(deadline - begin)))
        send = Send(
            "GET",
            f"/tasks/{_id(task)}",
            headers={"Prefer": f"wait={seconds}"},
            seconds=seconds + min(limits.timeout, ANSWER_SECONDS),
        )
        found = yield from answer(limits, send, Task, deadline)
        if found.status == "failed":
            raise TaskFailed(found)
        if found.status == "cancelled":
            raise TaskCancelled(found)
        if found.has_ended:
            return found.result
        now = time.monotonic()
        if now >= deadline:
            raise TimeoutError(f"task {found.id} is {found.status} after {timeout:g} s")
        if now < begin + seconds:  # it did not wait, as when it is stopping
            yield Pause(min(0.5, deadline - now))


def get(limits: Limits, task: int | Task) -> Steps[Task]:
    """The task as it is now, whole, with its attempts. Raises RequestFailed (404 if there is none)."""
    return answer(limits, Send("GET", f"/tasks/{_id(task)}"), Task)


def output(limits: Limits, task: int | Task) -> Steps[list[Output]]:
    """What the task's handler printed, newest attempt first."""
    return (yield from answer(limits, Send("GET", f"/tasks/{_id(task)}/output"), _Items[Output])).items


def cancel(limits: Limits, task: int | Task, *, force: bool = False) -> Steps[Task]:
    """Cancels the task. One that is running is asked to stop and is running still when this returns; with `force` its
    handler is killed. Raises RequestFailed (409 if it had ended otherwise)."""
    send = Send("POST", f"/tasks/{_id(task)}/cancel", json.encode({"force": force}))
    return answer(limits, send, Task)


def retry(limits: Limits, task: int | Task) -> Steps[Task]:
    """Puts a failed or cancelled task back in line. Raises RequestFailed (409 if it is neither)."""
    send = Send("POST", f"/tasks/{_id(task)}/retry", is_repeatable=False)
    return answer(limits, send, Task)


def change(
    limits: Limits,
    task: int | Task,
    *,
    priority: int | UnsetType | None = UNSET,
    run_at: datetime | UnsetType | None = UNSET,
    tags: list[str] | UnsetType | None = UNSET,
    max_attempts: int | UnsetType | None = UNSET,
) -> Steps[Task]:
    """Changes what is given of a task that waits; None is what a new task has that names none. Raises RequestFailed
    (409 if it does not wait any more)."""
    changes = _given(priority=priority, run_at=run_at, tags=tags, max_attempts=max_attempts)
    return answer(limits, Send("PATCH", f"/tasks/{_id(task)}", changes), Task)


def delete(limits: Limits, task: int | Task) -> Steps[None]:
    """Deletes a task that is not running. Raises RequestFailed (409 if it is)."""
    yield from exchange(limits, Send("DELETE", f"/tasks/{_id(task)}", is_repeatable=False))


def queues(limits: Limits) -> Steps[list[Queue]]:
    """All queues, by name, with how much is in each."""
    return (yield from answer(limits, Send("GET", "/queues"), _Items[Queue])).items


def change_queue(
    limits: Limits,
    name: str,
    *,
    slots: int | UnsetType = UNSET,
    paused: bool | UnsetType = UNSET,
    grace: float | UnsetType = UNSET,
    max_attempts: int | UnsetType = UNSET,
    timeout: float | UnsetType | None = UNSET,
    backoff_base: float | UnsetType = UNSET,
    backoff_max: float | UnsetType = UNSET,
    retention: float | UnsetType | None = UNSET,
    depth_max: int | UnsetType | None = UNSET,
    kinds: list[str] | UnsetType | None = UNSET,
) -> Steps[Queue]:
    """Changes what is given of a queue, while runners work; None takes a limit away."""
    changes = _given(
        slots=slots, paused=paused, grace=grace, max_attempts=max_attempts, timeout=timeout, backoff_base=backoff_base,
        backoff_max=backoff_max, retention=retention, depth_max=depth_max, kinds=kinds,
    )  # fmt: skip
    return answer(limits, Send("PATCH", f"/queues/{quote(name, safe='')}", changes), Queue)


def slots(limits: Limits) -> Steps[list[Slot]]:
    """All slots, by queue and number: who holds each, and what executes in it."""
    return (yield from answer(limits, Send("GET", "/slots"), _Items[Slot])).items


def failures(
    limits: Limits, *, queue: str | None = None, window: str | None = None, limit: int = 100
) -> Steps[Failures]:
    """Failed tasks in groups of those that failed in the same way, of one queue or all; only what failed within
    `window`, such as "24h". A group's `filter` is for `list(**filter)`."""
    params = _params(queue=queue, window=window, limit=limit)
    return answer(limits, Send("GET", "/failures", params=params), Failures)


def list_tasks(
    limits: Limits,
    *,
    status: Status | Sequence[Status] | None = None,
    queue: str | None = None,
    kind: str | None = None,
    tag: str | None = None,
    runner: str | None = None,
    error: str | None = None,
    failure: str | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    finished_after: datetime | None = None,
    finished_before: datetime | None = None,
    fields: Literal["summary", "full"] = "summary",
) -> Steps[None]:
    """Tasks to which all of it applies, newest first, over all pages. `error`: those that failed with this in its type
    or message; `failure`: those that failed so, as `failures` has it. Payloads and results come with `fields="full"`
    only."""
    params = _params(
        status=status, queue=queue, kind=kind, tag=tag, runner=runner, error=error, failure=failure,
        created_after=created_after, created_before=created_before, finished_after=finished_after,
        finished_before=finished_before, fields=fields, limit=500,
    )  # fmt: skip
    while True:
        page = yield from answer(limits, Send("GET", "/tasks", params=params), _Page)
        yield Found(page.items)
        if page.next_cursor is None:
            return
        params["cursor"] = page.next_cursor


def events(limits: Limits, task: int | Task) -> Steps[None]:
    """The task as it is now, and again every time it has changed, until it has ended (then whole) or is deleted. After
    a broken connection it is told once more how the task is."""
    send = Send("GET", f"/tasks/{_id(task)}/events", seconds=HEARTBEATS_SECONDS, is_stream=True)
    failed = 0
    while True:
        yield from exchange(limits, send)
        event, data = "", ""
        while True:
            try:
                line: str | None = yield NextLine()
            except httpx.RequestError as error:
                line = None
                if failed >= limits.retries:
                    raise RequestFailed(f"{send.path}: the stream broke off: {error}") from error
            if line is None:
                break
            name, _, value = line.partition(": ")
            if name == "event":
                event = value
            elif name == "data":
                data += value
            elif not line and data:
                failed = 0
                if event != "deleted":
                    yield Found([decoded(data, Task)])
                if event in ("end", "deleted"):
                    return
                event, data = "", ""
        failed += 1
        yield Pause(pause_after(failed))


def _params(**given: Any) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value  # as the filter of a group has it
        for name, value in given.items()
        if value is not None
    }


def _given(**changes: Any) -> bytes:
    return json.encode({name: value for name, value in changes.items() if value is not UNSET})


def _quoted(key: str) -> str:
    """A key as the header has it, with whatever is in it."""
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
