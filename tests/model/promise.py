"""What must never be, told from the rows alone: no model, no knowledge of what was called but its name."""

from collections.abc import Iterable
from typing import Any

from tests.model.rules import ENDED
from tests.model.sight import Sight

DELETE = {"delete_task", "purge", "delete_expired"}


def breaches(before: Sight, after: Sight, called: set[str]) -> list[str]:
    """`called`: the functions that were called between the two."""
    return [*at_once(before, after), *over_time(before, after, called), *recorded(after), *keys(after)]


def at_once(before: Sight, after: Sight) -> Iterable[str]:
    running = [row for row in after.tasks if row["status"] == "running"]
    places = [(row["queue"], row["slot"]) for row in running]
    if len(places) != len(set(places)):
        yield f"two running tasks in one slot: {places}"
    for row in after.tasks:
        if (row["status"] == "running") != (row["slot"] is not None):
            yield f"task {row['id']} is {row['status']} in slot {row['slot']}"
        if row["status"] == "running" and row["lease"] is None:
            yield f"task {row['id']} runs without a lease"
    turns = [(row["queue"], row["turn"]) for row in after.tasks if row["turn"] is not None]
    if len(turns) != len(set(turns)):
        yield f"a turn was taken twice: {sorted(turns)}"
    # A number that was lowered counts from the next claim on.
    was_running = {row["lease"] for row in before.tasks if row["status"] == "running"}
    for row in running:
        allowed = [
            queue["slots"] for sight in (before, after) for queue in sight.queues if queue["name"] == row["queue"]
        ]
        if row["lease"] not in was_running and row["slot"] > max(allowed):
            yield f"task {row['id']} began in slot {row['slot']} of {max(allowed)}"


def over_time(before: Sight, after: Sight, called: set[str]) -> Iterable[str]:
    now = {row["id"]: row for row in after.tasks}
    leases = {row["lease"] for row in before.tasks if row["lease"]}
    fresh = []
    for row in before.tasks:
        later = now.get(row["id"])
        if later is None:
            if not called & DELETE:
                yield f"task {row['id']} has vanished"
            elif row["status"] not in ENDED and "delete_task" not in called:
                yield f"task {row['id']} was {row['status']} and has vanished"
            continue
        if later["lease"] != row["lease"]:
            fresh.append(later["lease"])
            if later["lease"] is None or later["lease"] <= max(leases, default=0):
                yield f"task {row['id']}: lease {later['lease']} after {row['lease']}"
        if row["status"] in ENDED and later != row and not called & {"retry", "grow_old"}:
            yield f"task {row['id']} has ended and changed: {changes(row, later)}"
        if later["attempt"] < row["attempt"] and not called & {"return_task"}:
            yield f"task {row['id']}: attempt {later['attempt']} after {row['attempt']}"
    if len(fresh) != len(set(fresh)):
        yield f"a lease was given twice: {fresh}"


def recorded(after: Sight) -> Iterable[str]:
    for row in after.tasks:
        counted = [a["attempt"] for a in after.attempts if a["task"] == row["id"] and a["outcome"] != "returned"]
        if len(counted) != len(set(counted)):
            yield f"task {row['id']}: an attempt is recorded twice: {counted}"
        # The one that goes on, or that ended the task, is not on record.
        now = row["attempt"] - len(counted)
        if now not in ((1,) if row["status"] in ("running", "succeeded", "failed") else (0, 1)):
            yield f"task {row['id']} is {row['status']} in attempt {row['attempt']}, recorded are {counted}"
        if row["status"] in ("queued", "scheduled") and now != 0:
            yield f"task {row['id']} waits, and attempt {row['attempt']} is not on record: {counted}"
    tasks = {row["id"] for row in after.tasks}
    for what, rows in (("attempts", after.attempts), ("outputs", after.outputs)):
        if orphans := {row["task"] for row in rows} - tasks:
            yield f"{what} of tasks that are gone: {orphans}"


def keys(after: Sight) -> Iterable[str]:
    scoped = [(r["idempotency_scope"], r["idempotency_key"]) for r in after.tasks if r["idempotency_key"] is not None]
    if len(scoped) != len(set(scoped)):
        yield f"an idempotency key stands for two tasks: {scoped}"
    waiting = [r for r in after.tasks if r["dedupe_key"] is not None and r["status"] not in ENDED]
    dedupe = [(r["queue"], r["dedupe_key"]) for r in waiting]
    if len(dedupe) != len(set(dedupe)):
        yield f"two unfinished tasks have one dedupe key: {dedupe}"


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (before[name], after[name]) for name in before if before[name] != after[name]}
