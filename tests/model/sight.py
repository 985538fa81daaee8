"""All that the database shows, read in one statement, and where it differs from the model."""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from tests.contract import Contract
from tests.model.rules import Attempt, Died, Model, New, Queue, Span, Task, moment

# As lockgate.lock_class has it: class of a queue's slots = this + its number; this itself is the runners' own.
LOCK_CLASS = 1279721472

EVERYTHING = f"""
select jsonb_build_object(
  'now', clock_timestamp(),
  'tasks', (select coalesce(jsonb_agg(to_jsonb(t) order by t.id), '[]') from lockgate.task t),
  'attempts', (select coalesce(jsonb_agg(to_jsonb(a) order by a.task, a.lease), '[]') from lockgate.attempt_detail a),
  'outputs', (select coalesce(jsonb_agg(to_jsonb(o)), '[]') from lockgate.output_detail o),
  'queues', (select coalesce(jsonb_agg(to_jsonb(q) || to_jsonb(d)), '[]')
             from lockgate.queue q full join lockgate.queue_detail d on d.queue = q.name),
  'overview', (select coalesce(jsonb_agg(to_jsonb(o)), '[]') from lockgate.queue_overview o),
  'look', (select coalesce(jsonb_agg(to_jsonb(l)), '[]') from lockgate.poll_queues() l),
  'occupied', (select coalesce(jsonb_agg(to_jsonb(o)), '[]') from lockgate.occupied_slots() o),
  'runners', (select coalesce(jsonb_agg(to_jsonb(r)), '[]') from lockgate.runner_overview r),
  'locks', (select coalesce(jsonb_agg(jsonb_build_array(classid::bigint - {LOCK_CLASS}, objid::bigint, pid)), '[]')
            from pg_locks where locktype = 'advisory' and objsubid = 2 and granted
            and database = (select oid from pg_database where datname = current_database())))
"""


@dataclass(frozen=True)
class Sight:
    """`before` and `now`: the call happened between these two moments."""

    before: datetime
    now: datetime
    tasks: list[dict[str, Any]]
    attempts: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    queues: list[dict[str, Any]]
    overview: list[dict[str, Any]]
    look: list[dict[str, Any]]
    occupied: list[dict[str, Any]]
    runners: list[dict[str, Any]]
    locks: list[list[int]]


def see(q: Contract, before: datetime | None = None) -> Sight:
    shown = q.db.value(EVERYTHING)
    now = datetime.fromisoformat(shown.pop("now"))
    return Sight(before or now, now, **shown)


def differences(model: Model, sight: Sight, pids: dict[str, int]) -> list[str]:
    """What the database shows otherwise than the model expects. Whatever the model could not know before (numbers,
    times) it knows afterwards. `pids`: the backend of each connection."""
    found: list[str] = []
    found += rows_differ(model, sight)
    if not found:
        found += views_differ(model, sight, pids)
    model.greatest = {
        "queue": max([model.greatest["queue"], *(row["id"] for row in sight.queues)]),
        "task": max([model.greatest["task"], *(row["id"] for row in sight.tasks)]),
        "lease": max([model.greatest["lease"], *(row["lease"] or 0 for row in sight.tasks)]),
        "session": max([model.greatest["session"], *(row["session"] for row in sight.runners)]),
    }
    return found


TASK_COLUMNS = [f.name for f in fields(Task) if not f.metadata.get("hidden")]
ATTEMPT_COLUMNS = [f.name for f in fields(Attempt)]
QUEUE_COLUMNS = [f.name for f in fields(Queue)]


def rows_differ(model: Model, sight: Sight) -> list[str]:
    found: list[str] = []
    same(found, "tasks", set(model.tasks), {row["id"] for row in sight.tasks})
    for row in sight.tasks:
        if task := model.tasks.get(row["id"]):
            learn(found, f"task {task.id}", task, row, TASK_COLUMNS, model.greatest["lease"], sight)
    same(found, "queues", set(model.queues), {row["name"] for row in sight.queues})
    for row in sight.queues:
        if queue := model.queues.get(row["name"]):
            learn(found, f"queue {queue.name}", queue, row, QUEUE_COLUMNS, model.greatest["queue"], sight)
            same(found, "queue_detail", row["name"], row["queue"])
    # Of one task, the later has the greater lease.
    attempts = sorted(model.attempts, key=lambda attempt: attempt.task)
    same(found, "attempts", [(a.task, a.attempt, a.outcome) for a in attempts],
         [(row["task"], row["attempt"], row["outcome"]) for row in sight.attempts])  # fmt: skip
    for attempt, row in zip(attempts, sight.attempts, strict=False):
        what = f"attempt {attempt.attempt} of task {attempt.task}"
        learn(found, what, attempt, row, ATTEMPT_COLUMNS, model.greatest["lease"], sight)
    same(found, "outputs", model.outputs, {(row["task"], row["lease"]): row["text"] for row in sight.outputs})
    return found


def views_differ(model: Model, sight: Sight, pids: dict[str, int]) -> list[str]:
    found: list[str] = []
    running = [task for task in model.tasks.values() if task.status == "running"]
    slots = {(queue, slot, pids[who]) for (queue, slot), who in model.slots.items()}
    sessions = {(0, number, pids[who]) for number, who in model.sessions.items()}
    chores = {(0, 0, pids[model.chores])} if model.chores else set()
    same(found, "locks", slots | sessions | chores, {(c, n, pid) for c, n, pid in sight.locks})
    same(found, "number of locks", len(slots | sessions | chores), len(sight.locks))

    for queue in model.queues.values():
        mine = [task for task in model.tasks.values() if task.queue == queue.name]
        by = {status: sum(task.status == status for task in mine) for status in ("running", "queued", "scheduled")}
        [overview] = [row for row in sight.overview if row["queue"] == queue.name]
        shown = {name: overview[name] for name in ("slots", "paused", "running", "queued", "scheduled", "oldest_wait")}
        shown["oldest_wait"] = shown["oldest_wait"] is not None
        expected = {"slots": queue.slots, "paused": queue.paused, "oldest_wait": by["queued"] > 0}
        counts = {"running": by["running"], "queued": str(by["queued"]), "scheduled": str(by["scheduled"])}
        same(found, f"queue_overview of {queue.name}", expected | counts, shown)
        [look] = [row for row in sight.look if row["name"] == queue.name]
        due = by["queued"] > 0 or any(task.due for task in mine if task.status == "scheduled")
        same(found, f"look at {queue.name}", (due, by["scheduled"] > 0), (look["due"], look["next_due"] is not None))

    names = {queue.id: queue for queue in model.queues.values()}
    busy: dict[Any, Task] = {(model.queues[task.queue].id, task.slot): task for task in running}
    held: dict[Any, str] = {place: who for place, who in model.slots.items() if place[0] in names}
    expected_rows = set()
    for place in busy.keys() | held.keys():
        task = busy.get(place)
        said: tuple[Any, ...] = (None, None, None, None, names[place[0]].grace, None)
        if task:
            said = (task.id, task.lease, task.runner, task.session, task.grace, task.cancel_requested)
        expected_rows.add((*place, *said, pids[held[place]] if place in held else None))
    columns = ("queue", "slot", "task", "lease", "runner", "session", "grace", "cancel_requested", "pid")
    same(found, "occupied", expected_rows, {tuple(row[name] for name in columns) for row in sight.occupied})

    same(
        found,
        "runner_overview",
        {
            (r.session, r.at, r.session in model.sessions, sum(task.runner == r.at for task in running))
            for r in model.runners.values()
        },
        {(row["session"], row["runner"], row["alive"], row["running"]) for row in sight.runners},
    )
    return found


def same(found: list[str], what: str, expected: Any, shown: Any) -> None:
    if expected != shown:
        if isinstance(expected, set):
            expected, shown = expected - shown, shown - expected
        found.append(f"{what}: expected {expected}, shown {shown}")


def learn(
    found: list[str], what: str, known: Any, row: dict[str, Any], columns: list[str], greatest: int, sight: Sight
) -> None:
    """Compares column by column; what fits is what the model knows from now on."""
    for name in columns:
        expected, shown = getattr(known, name), row[name]
        if expected == shown:
            continue
        if fits(expected, shown, greatest, sight):
            setattr(known, name, shown)
        else:
            found.append(f"{what}: {name} expected {expected!r}, shown {shown!r}")


def fits(expected: Any, shown: Any, greatest: int, sight: Sight) -> bool:
    if shown is None or expected is None:
        return False
    match expected:
        case New.NUMBER:
            return isinstance(shown, int) and shown > greatest
        case Span():
            low, high = timedelta(seconds=expected.low), timedelta(seconds=expected.high)
            return sight.before + low <= moment(shown) <= sight.now + high
        case datetime():
            return moment(shown) == expected
        case Died():
            return shown["type"] == "RunnerDied" and f"its runner {expected.runner} died" in shown["message"]
    return False
