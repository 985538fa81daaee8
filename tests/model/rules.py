"""The rules of the queue a second time, in plain Python, written from the documentation and not from schema.sql.

One method per function of the contract. It changes the model and returns what the database has to answer, or raises
`Refused`. Where the database is free (a task's number, a lease, which of several tasks another session is just
holding), the method is given what was answered, as `told`, and goes along with it as far as the rules allow.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from math import isnan
from typing import Any

from tests.contract import Claimed, Outcome

ENDED = ("succeeded", "failed", "cancelled")
PAST = "2001-01-01T00:00:00+00:00"
FUTURE = "2101-01-01T00:00:00+00:00"
LONGEST_DELAY = 30 * 24 * 3600.0
PROMOTED_AT_ONCE = 100
SETTINGS = {"slots", "paused", "grace", "max_attempts", "timeout", "backoff_base", "backoff_max", "retention", "kinds"}


@dataclass(unsafe_hash=True)
class Refused(Exception):
    sqlstate: str | None


class New(Enum):
    """A number that is not known before the database shows it: greater than every one before."""

    NUMBER = "greater than every one before"

    def __repr__(self) -> str:
        return f"<{self.value}>"


@dataclass(frozen=True)
class Span:
    """A time that lies so many seconds, at least and at most, after the moment of the call."""

    low: float = 0.0
    high: float = 0.0


NOW = Span()


@dataclass(frozen=True)
class Died:
    """The error of an attempt whose runner was gone."""

    runner: str | None


@dataclass
class Queue:
    id: int | New
    name: str
    slots: int = 2
    paused: bool = False
    grace: float = 5.0
    max_attempts: int = 3
    timeout: float | None = None
    backoff_base: float = 1.0
    backoff_max: float = 300.0
    retention: float | None = 604800.0
    kinds: list[str] | None = None


@dataclass
class Task:
    id: int
    queue: str
    kind: str
    status: str
    priority: int
    run_at: Any
    max_attempts: int
    timeout: float | None
    payload: Any
    idempotency_scope: str
    idempotency_key: str | None
    dedupe_key: str | None
    create_time: Any = NOW
    start_time: Any = None
    finish_time: Any = None
    exec_time: float | None = None
    attempt: int = 0
    slot: int | None = None
    lease: int | New | None = None
    runner: str | None = None
    session: int | None = None
    grace: float | None = None
    cancel_requested: str | None = None
    result: Any = None
    error: Any = None
    progress: Any = None
    tags: list[str] = field(default_factory=list)
    metadata: Any = field(default_factory=dict)
    # What no column says.
    request: Any = field(default=None, metadata={"hidden": True})
    due: bool = field(default=True, metadata={"hidden": True})
    old: bool = field(default=False, metadata={"hidden": True})


@dataclass
class Attempt:
    task: int
    attempt: int
    lease: int | New | None
    outcome: str
    runner: str | None
    slot: int | None
    start_time: Any
    end_time: Any
    exec_time: float | None
    error: Any


@dataclass
class Runner:
    """A row of lockgate.runner. `at` is the connection that registered it."""

    session: int
    at: str
    old: bool = False


@dataclass(frozen=True)
class Grant:
    """What a runner may remember of a claim, long after it may have lost it."""

    runner: str
    task: int
    lease: int
    queue: int
    slot: int


@dataclass(frozen=True)
class Sighting:
    """A running row as an adopter may have seen it."""

    queue: int
    slot: int
    task: int
    lease: int
    session: int | None


@dataclass
class Model:
    queues: dict[str, Queue] = field(default_factory=dict)
    tasks: dict[int, Task] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    outputs: dict[tuple[int, int], str] = field(default_factory=dict)
    runners: dict[int, Runner] = field(default_factory=dict)

    # Advisory locks, and which connection holds each.
    slots: dict[tuple[int, int], str] = field(default_factory=dict)
    sessions: dict[int, str] = field(default_factory=dict)
    chores: str | None = None

    # Where each connection was last in each priority of a queue, and those that go on from there.
    heads: dict[tuple[str, int], dict[int, int]] = field(default_factory=dict)
    short: set[tuple[str, int]] = field(default_factory=set)

    # The session under which each runner speaks: the last one it registered.
    current: dict[str, int] = field(default_factory=dict)

    # What was the greatest at the last look; anything new is greater.
    greatest: dict[str, int] = field(default_factory=lambda: {"queue": 0, "task": 0, "lease": 0, "session": 0})

    # Whatever was granted and seen since the beginning, good or not.
    grants: list[Grant] = field(default_factory=list)
    sightings: list[Sighting] = field(default_factory=list)

    # Tasks that another session holds at the moment of a call: a claim may pass them by, a batch of chores does, and
    # a promotion does where that session changes its mind afterwards.
    held: frozenset[int] = frozenset()
    unpromotable: frozenset[int] = frozenset()

    # Submitting -----------------------------------------------------------------------------------------------------

    def judge(self, item: dict[str, Any], scope: str) -> tuple[str, int | None]:
        """What becomes of an item, and the task that stands for it."""
        key = item.get("idempotency_key")
        same_key = [
            t
            for t in self.tasks.values()
            if key is not None and (t.idempotency_scope, t.idempotency_key) == (scope, key)
        ]
        if same_key and same_key[0].request == item:
            return "replayed", same_key[0].id
        queue = self.queues.get(item.get("queue", "default"))
        if queue is None:
            return "unknown_queue", None
        if queue.kinds is not None and item["kind"] not in queue.kinds:
            return "kind_refused", None
        if same_key:
            return "key_reused", same_key[0].id
        for task in self.tasks.values():
            key = item.get("dedupe_key")
            if key is not None and (task.queue, task.dedupe_key) == (queue.name, key) and task.status not in ENDED:
                return "deduplicated", task.id
        return "created", None

    def store(self, number: int, item: dict[str, Any], scope: str) -> None:
        queue = self.queues[item.get("queue", "default")]
        run_at: Any = NOW
        due = True
        if "run_at" in item:
            run_at, due = datetime.fromisoformat(item["run_at"]), item["run_at"] != FUTURE
        elif "delay" in item:
            run_at, due = Span(item["delay"], item["delay"]), item["delay"] <= 0
        self.tasks[number] = Task(
            id=number,
            queue=queue.name,
            kind=item["kind"],
            status="queued" if due else "scheduled",
            priority=item.get("priority", 0),
            run_at=run_at,
            max_attempts=item.get("max_attempts", queue.max_attempts),
            timeout=item.get("timeout", queue.timeout),
            payload=item.get("payload", {}),
            idempotency_scope=scope,
            idempotency_key=item.get("idempotency_key"),
            dedupe_key=item.get("dedupe_key"),
            request=item,
            due=due,
        )

    def submit_batch(self, items: list[dict[str, Any]], scope: str, told: Any) -> list[Outcome]:
        """Which of two items with one key is stored is not said; that it is as if they came one by one, is."""
        for item in items:
            if self.judge(item, scope)[0] not in ("unknown_queue", "kind_refused") and breaks_a_limit(item):
                raise Refused("23514")
        answers: list[Outcome | None] = (
            told if isinstance(told, list) and len(told) == len(items) else [None] * len(items)
        )
        created = [i for i, answer in enumerate(answers) if answer and answer.outcome == "created"]
        outcomes = {}
        last = 0
        for i in created + [i for i in range(len(items)) if i not in created]:
            outcome, task = self.judge(items[i], scope)
            if outcome == "created":
                answer = answers[i]
                task = self.new("task", answer.task if answer and answer.outcome == "created" else None, above=last)
                self.store(task, items[i], scope)
                last = task
            outcomes[i] = Outcome(i + 1, task, outcome)
        return [outcomes[i] for i in range(len(items))]

    def submit(self, item: dict[str, Any], told: Any) -> int | None:
        refusals = {"unknown_queue": "LG001", "kind_refused": "LG005", "key_reused": "LG003"}
        outcome, task = self.judge(item, "")
        if outcome not in ("unknown_queue", "kind_refused") and breaks_a_limit(item):
            raise Refused("23514")
        if outcome in refusals:
            raise Refused(refusals[outcome])
        if outcome == "created":
            task = self.new("task", told)
            self.store(task, item, "")
        return task

    def new(self, what: str, told: Any, above: int = 0) -> int:
        """The number that was told, if it may be a new one, else one that may."""
        floor = max(self.greatest[what], above)
        return told if isinstance(told, int) and told > floor and told not in self.used(what) else floor + 1

    def used(self, what: str) -> set[int]:
        if what == "task":
            return set(self.tasks)
        return {grant.lease for grant in self.grants} if what == "lease" else set(self.runners)

    # Slots ----------------------------------------------------------------------------------------------------------

    def queue_of(self, number: int) -> Queue | None:
        return next((queue for queue in self.queues.values() if queue.id == number), None)

    def running_in(self, queue: str, slot: int) -> Task | None:
        there = (t for t in self.tasks.values() if t.status == "running" and (t.queue, t.slot) == (queue, slot))
        return next(there, None)

    def take_slot(self, who: str, number: int) -> int | None:
        queue = self.queue_of(number)
        if queue is None or queue.paused:
            return None
        for slot in range(1, queue.slots + 1):
            if (number, slot) not in self.slots and not self.running_in(queue.name, slot):
                self.slots[number, slot] = who
                return slot
        return None

    def retake_slot(self, who: str, number: int, slot: int) -> bool:
        return self.slots.setdefault((number, slot), who) == who

    def release_slot(self, who: str, number: int, slot: int) -> bool:
        if self.slots.get((number, slot)) != who:
            return False
        del self.slots[number, slot]
        return True

    def must_hold(self, who: str, number: int, slot: int) -> None:
        if self.slots.get((number, slot)) != who:
            raise Refused("LG004")

    # Sessions -------------------------------------------------------------------------------------------------------

    def register(self, who: str, told: Any) -> int:
        number = self.new("session", told)
        self.runners = {s: r for s, r in self.runners.items() if not r.old or s in self.sessions}
        self.runners[number] = Runner(number, who)
        self.current[who] = number
        self.sessions[number] = who
        return number

    def deregister(self, who: str, number: int) -> None:
        self.runners.pop(number, None)
        self.let_go(who)

    def disconnect(self, who: str) -> None:
        """What the end of a connection does."""
        self.let_go(who)
        self.heads = {way: heads for way, heads in self.heads.items() if way[0] != who}
        self.short = {way for way in self.short if way[0] != who}

    def let_go(self, who: str) -> None:
        """Every lock of a connection is free."""
        self.slots = {slot: holder for slot, holder in self.slots.items() if holder != who}
        self.sessions = {number: holder for number, holder in self.sessions.items() if holder != who}
        self.chores = None if self.chores == who else self.chores

    # An attempt -----------------------------------------------------------------------------------------------------

    def promote(self, queue: str) -> int:
        due = [
            task
            for task in self.tasks.values()
            if task.queue == queue and task.status == "scheduled" and task.due and task.id not in self.unpromotable
        ]
        assert len(due) <= PROMOTED_AT_ONCE, "the model does not say which of more go first"
        for task in due:
            task.status = "queued"
        return len(due)

    def claim(self, who: str, session: int, number: int, slot: int, told: Any) -> Claimed | None:
        self.must_hold(who, number, slot)
        queue = self.queue_of(number)
        if queue is None or queue.paused or not 1 <= slot <= queue.slots or self.running_in(queue.name, slot):
            return None
        self.promote(queue.name)
        line = sorted(
            (task for task in self.tasks.values() if task.queue == queue.name and task.status == "queued"),
            key=lambda task: (-task.priority, task.id),
        )
        task = self.lock_next(who, number, line, told.task if isinstance(told, Claimed) else None)
        if task is None:
            return None
        lease = self.new("lease", told.lease if isinstance(told, Claimed) else None)
        task.status, task.slot, task.lease, task.runner, task.session = "running", slot, lease, who, session
        task.grace, task.attempt, task.start_time = queue.grace, task.attempt + 1, NOW
        task.exec_time = task.error = task.progress = None
        self.grants.append(Grant(who, task.id, lease, number, slot))
        self.sightings.append(Sighting(number, slot, task.id, lease, session))
        return self.claimed(task)

    def lock_next(self, who: str, number: int, line: list[Task], told: int | None) -> Task | None:
        """Held tasks may be passed by, and need not: their holder may just have let them go.

        A session on its short way goes on from where it was last in each priority; when nothing is left there, it looks
        from the beginning again, and goes on doing so.
        """
        way = (who, number)
        heads = self.heads.setdefault(way, {})
        ahead = [task for task in line if task.id >= heads.get(task.priority, 0)]
        for part in (ahead, line) if way in self.short else (line,):
            free = [task for task in part if task.id not in self.held]
            passable = part[: part.index(free[0])] if free else part
            chosen = next((task for task in passable if task.id == told), free[0] if free else None)
            if chosen:
                heads[chosen.priority] = chosen.id
                break
            self.short.discard(way)
        return chosen

    def claimed(self, task: Task) -> Claimed:
        assert isinstance(task.lease, int)
        assert task.grace is not None
        return Claimed(
            task.id, task.lease, task.queue, task.kind, task.payload, task.attempt, task.max_attempts, task.timeout,
            task.grace, task.cancel_requested,
        )  # fmt: skip

    def owned(self, who: str, task: int, lease: int) -> Task | None:
        """The running task of that lease and runner; None if its end is recorded already."""
        row = self.tasks.get(task)
        if row is None or (row.lease, row.runner) != (lease, who):
            raise Refused("LG002")
        return row if row.status == "running" else None

    def end(self, row: Task, status: str, error: Any, exec_time: float | None) -> str:
        row.status, row.slot, row.finish_time, row.error, row.exec_time = status, None, NOW, error, exec_time
        row.old = False
        return status

    def requeue(self, row: Task, outcome: str, delay: Span, error: Any, exec_time: float | None) -> str:
        self.attempts.append(self.record(row, outcome, row.slot, NOW, exec_time, error))
        row.status = "scheduled" if delay.high > 0 else "queued"
        row.due = delay.high == 0
        row.slot, row.run_at, row.error, row.exec_time, row.progress = None, delay, error, exec_time, None
        return row.status

    def record(
        self, row: Task, outcome: str, slot: int | None, end_time: Any, exec_time: float | None, error: Any
    ) -> Attempt:
        return Attempt(
            row.id, row.attempt, row.lease, outcome, row.runner, slot, row.start_time, end_time, exec_time, error
        )

    def backoff(self, row: Task) -> Span:
        queue = self.queues[row.queue]
        seconds = min(queue.backoff_max, queue.backoff_base * 2.0 ** (row.attempt - 1))
        return Span(0.8 * seconds, 1.2 * seconds)

    def finish(self, who: str, task: int, lease: int, exec_time: float, result: Any) -> bool:
        row = self.owned(who, task, lease)
        if row is None:
            return False
        self.end(row, "succeeded", row.error, exec_time)
        row.result = result
        return True

    def finish_and_claim(
        self, who: str, session: int, grant: Grant, exec_time: float, result: Any, number: int, slot: int, told: Any
    ) -> Claimed | None:
        """Both or neither."""
        self.owned(who, grant.task, grant.lease)
        self.must_hold(who, number, slot)
        self.finish(who, grant.task, grant.lease, exec_time, result)
        return self.claim(who, session, number, slot, told)

    def fail(
        self, who: str, task: int, lease: int, exec_time: float, error: Any, retry_after: float | None, discard: bool
    ) -> str:
        row = self.owned(who, task, lease)
        if row is None:
            return self.tasks[task].status
        if row.cancel_requested:
            return self.end(row, "cancelled", error, exec_time)
        if discard or row.attempt >= row.max_attempts:
            return self.end(row, "failed", error, exec_time)
        if retry_after is None or isnan(retry_after):
            delay = self.backoff(row)
        else:
            seconds = min(max(retry_after, 0.0), LONGEST_DELAY)
            delay = Span(seconds, seconds)
        return self.requeue(row, "failed", delay, error, exec_time)

    def return_task(self, who: str, task: int, lease: int) -> str:
        row = self.owned(who, task, lease)
        if row is None:
            return self.tasks[task].status
        if row.cancel_requested:
            return self.end(row, "cancelled", None, None)
        self.requeue(row, "returned", NOW, None, None)
        row.attempt -= 1
        return row.status

    def adopt(self, who: str, seen: Sighting) -> str | None:
        self.must_hold(who, seen.queue, seen.slot)
        queue = self.queue_of(seen.queue)
        row = self.tasks.get(seen.task)
        if queue is None or row is None or row.status != "running" or row.queue != queue.name:
            return None
        if (row.slot, row.lease, row.session) != (seen.slot, seen.lease, seen.session):
            return None
        error = Died(row.runner)
        if row.cancel_requested:
            self.end(row, "cancelled", error, None)
        elif row.attempt >= row.max_attempts:
            self.end(row, "failed", error, None)
        else:
            before = [attempt.outcome for attempt in self.attempts if attempt.task == row.id]
            again = bool(before) and before[-1] == "adopted"
            self.requeue(row, "adopted", self.backoff(row) if again else NOW, error, None)
        row.lease = New.NUMBER  # its owner's word is worth nothing any more, not even as a repetition
        return row.status

    def reconfirm(self, who: str, session: int, number: int, slot: int) -> Claimed | None:
        self.must_hold(who, number, slot)
        queue = self.queue_of(number)
        row = self.running_in(queue.name, slot) if queue else None
        if row is None or row.runner != who:
            return None
        row.session = session
        claimed = self.claimed(row)
        self.sightings.append(Sighting(number, slot, row.id, claimed.lease, session))
        return claimed

    def report_progress(self, who: str, task: int, lease: int, progress: Any) -> bool:
        if len(str(progress)) > 16384:
            raise Refused("23514")
        row = self.tasks.get(task)
        if row is None or (row.status, row.lease, row.runner) != ("running", lease, who):
            return False
        row.progress = progress
        return True

    def write_output(self, task: int, lease: int, text: str) -> None:
        if task in self.tasks:
            self.outputs[task, lease] = self.outputs.get((task, lease), "") + text

    # What people say ------------------------------------------------------------------------------------------------

    def known(self, task: int) -> Task:
        if task not in self.tasks:
            raise Refused("LG006")
        return self.tasks[task]

    def cancel(self, task: int, force: bool) -> str:
        row = self.known(task)
        if row.status in ("scheduled", "queued"):
            row.status, row.finish_time, row.old = "cancelled", NOW, False
        elif row.status == "running" and row.cancel_requested != "force":
            row.cancel_requested = "force" if force else "graceful"
        return row.status

    def retry(self, task: int) -> None:
        row = self.known(task)
        if row.status not in ("failed", "cancelled"):
            raise Refused("LG007")
        for other in self.tasks.values():
            same = (other.queue, other.dedupe_key) == (row.queue, row.dedupe_key) and row.dedupe_key is not None
            if same and other.status not in ENDED:
                raise Refused("LG008")
        # Every attempt that counts is on record once, when another is to follow it.
        recorded = {a.attempt for a in self.attempts if a.task == task and a.outcome != "returned"}
        if row.attempt > 0 and row.attempt not in recorded:
            self.attempts.append(self.record(row, "failed", None, row.finish_time, row.exec_time, row.error))
        row.status, row.finish_time, row.run_at, row.due = "queued", None, NOW, True
        row.cancel_requested = row.progress = None
        row.max_attempts = min(max(row.max_attempts, row.attempt + 1), 1000)

    def delete_task(self, task: int) -> None:
        if self.known(task).status == "running":
            raise Refused("LG007")
        self.forget([task])

    def forget(self, tasks: list[int]) -> None:
        self.tasks = {number: row for number, row in self.tasks.items() if number not in tasks}
        self.attempts = [attempt for attempt in self.attempts if attempt.task not in tasks]
        self.outputs = {key: text for key, text in self.outputs.items() if key[0] not in tasks}

    # Chores ---------------------------------------------------------------------------------------------------------

    def ended(self, queue: str) -> list[Task]:
        """Those nobody holds, the longest ended first."""
        rows = [
            row for row in self.tasks.values() if row.queue == queue and row.status in ENDED and row.id not in self.held
        ]
        # What ended in this very step, beside another call, has no time to go by yet.
        return sorted(
            rows,
            key=lambda row: datetime.max.replace(tzinfo=UTC) if row.finish_time is NOW else moment(row.finish_time),
        )

    def purge(self, queue: str, batch: int) -> int:
        gone = [row.id for row in self.ended(queue)][:batch]
        self.forget(gone)
        return len(gone)

    def delete_expired(self, who: str, batch: int) -> int | None:
        """The batch is greater than what there is: which queue goes first is not said."""
        if self.chores not in (None, who):
            return None
        self.chores = who
        gone = [
            row.id
            for queue in self.queues.values()
            if queue.retention is not None
            for row in self.ended(queue.name)
            if row.old or queue.retention == 0
        ]
        assert len(gone) <= batch
        self.forget(gone)
        return len(gone)

    # Time, as the test lets it pass ---------------------------------------------------------------------------------

    def come_due(self, task: int) -> None:
        row = self.tasks.get(task)
        if row and row.status == "scheduled":
            row.run_at, row.due = datetime.fromisoformat(PAST), True

    def grow_old(self, task: int, finish_time: datetime) -> None:
        row = self.tasks.get(task)
        if row and row.status in ENDED:
            row.finish_time, row.old = finish_time, True

    def be_forgotten(self, session: int) -> None:
        if session in self.runners:
            self.runners[session].old = True

    # Queues ---------------------------------------------------------------------------------------------------------

    def change_queue(self, name: str, settings: dict[str, Any]) -> None:
        if settings.keys() - SETTINGS:
            raise Refused("22023")
        if name not in self.queues:
            raise Refused("LG001")
        if not 0 <= settings.get("slots", 0) <= 1000:
            raise Refused("23514")
        self.queues[name] = replace(self.queues[name], **settings)

    def create_queue(self, name: str, settings: dict[str, Any]) -> None:
        if not name.islower() or " " in name:
            raise Refused("23514")
        if name in self.queues:
            raise Refused("23505")
        self.queues[name] = Queue(New.NUMBER, name)
        try:
            self.change_queue(name, settings)
        except Refused:
            del self.queues[name]
            raise

    def delete_queue(self, name: str) -> None:
        if name not in self.queues:
            raise Refused("LG001")
        used = any(row.queue == name for row in self.tasks.values())
        if used or any(number == self.queues[name].id for number, _ in self.slots):
            raise Refused("LG009")
        del self.queues[name]


def breaks_a_limit(item: dict[str, Any]) -> bool:
    return not (-100 <= item.get("priority", 0) <= 100 and item.get("max_attempts", 1) >= 1 and item["kind"])


def moment(value: Any) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)
