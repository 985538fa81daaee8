"""Whether the promise held, from the record of a run alone: by the witness, the audit and the table, each against the
others."""

import heapq
import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise

from lockgate.witness import Execution
from tests.faults.chaos.feeder import MEANT_TO_FAIL
from tests.faults.chaos.record import LATE, Breach, Change, Record

SETTLE = 2.0
"""Seconds for which a claim may still go by what the queue said before: it reads the queue first, and writes then."""

ENDED = ("succeeded", "failed", "cancelled")
AFTER = {
    "scheduled": ("queued", "cancelled"),
    "queued": ("running", "cancelled"),
    "running": ("queued", "scheduled", *ENDED),
}
"""What a status may become, as drawn in schema.sql. Nobody retries or deletes anything here."""


def judge(record: Record) -> list[Breach]:
    """Everything that must not be and was; an empty list when the promise held."""
    return [*record.breaches, *_by_the_witness(record), *_by_the_audit(record), *_by_the_table(record)]


# -- what executed ----------------------------------------------------------------------------------------------------


def _by_the_witness(record: Record) -> Iterator[Breach]:
    say = record.say
    claims = {change.new_lease: change for change in record.changes if change.after == "running"}
    leaves = {change.lease: change for change in record.changes if change.before == "running"}
    executions = sorted(record.executions, key=lambda execution: execution.begin)
    yield from _beyond_the_slots(record, executions)
    yield from _twice(record, executions)
    by_task, by_slot = defaultdict(list), defaultdict(list)
    for execution in executions:
        by_task[execution.task].append(execution)
        claim = claims.get(execution.lease)
        if claim is None or claim.task != execution.task:
            yield Breach("executed without a claim", say(execution))
            continue
        by_slot[claim.slot].append(execution)
        left = leaves.get(execution.lease)
        if left and execution.begin > left.at + LATE:
            yield Breach("executed after its end was recorded", f"{say(execution)}; {say(left)}")
        elif left and _end(execution) > left.at + LATE:
            yield Breach("still executing when its end was recorded", f"{say(execution)}; {say(left)}")
    yield from _overlaps(record, "two at once in one slot", by_slot.values())
    yield from _overlaps(record, "one task twice at once", by_task.values())
    for some in by_task.values():
        for earlier, later in pairwise(some):
            if later.lease < earlier.lease:
                yield Breach("executed under an old lease", f"{say(later)}; after {say(earlier)}")


def most_at_once(executions: Iterable[Execution]) -> int:
    return max((len(alive) for _, alive in _at_once(executions)), default=0)


def _at_once(executions: Iterable[Execution]) -> Iterator[tuple[Execution, list[Execution]]]:
    """Each execution with all that execute when it begins, itself included."""
    alive: list[tuple[float, int, Execution]] = []
    for number, execution in enumerate(sorted(executions, key=lambda execution: execution.begin)):
        while alive and alive[0][0] <= execution.begin:
            heapq.heappop(alive)
        heapq.heappush(alive, (_end(execution), number, execution))
        yield execution, [other for _, _, other in alive]


def _beyond_the_slots(record: Record, executions: list[Execution]) -> Iterator[Breach]:
    """Lowered, the number binds new claims; what was claimed above it goes on."""
    for execution, alive in _at_once(executions):
        allowed = _most_allowed(record.slots, min(other.begin for other in alive) - SETTLE, execution.begin)
        if len(alive) > allowed:
            yield Breach(
                "more at once than slots", f"{len(alive)} and not {allowed}: {'; '.join(map(record.say, alive))}"
            )


def _most_allowed(slots: list[tuple[float, int]], since: float, until: float) -> int:
    """The greatest number of slots in effect at any time between these."""
    first = max(bisect_right(slots, since, key=lambda change: change[0]) - 1, 0)
    return max(number for time, number in slots[first:] if time <= until or time == slots[first][0])


def _twice(record: Record, executions: list[Execution]) -> Iterator[Breach]:
    leases: dict[int, Execution] = {}
    for execution in executions:
        if (earlier := leases.setdefault(execution.lease, execution)) is not execution:
            yield Breach("one claim executed twice", f"{record.say(earlier)}; {record.say(execution)}")


def _overlaps(record: Record, what: str, groups: Iterable[list[Execution]]) -> Iterator[Breach]:
    for some in groups:
        for earlier, later in pairwise(some):
            if _end(earlier) > later.begin:
                yield Breach(what, f"{record.say(later)}; beside {record.say(earlier)}")


def _end(execution: Execution) -> float:
    return math.inf if execution.end is None else execution.end


# -- what was written down --------------------------------------------------------------------------------------------


def _by_the_audit(record: Record) -> Iterator[Breach]:
    latest: dict[int, Change] = {}
    in_slot: dict[int | None, Change] = {}
    for change in record.changes:
        before = latest.get(change.task)
        latest[change.task] = change
        if change.before in ENDED:
            yield Breach(
                "changed after its outcome was recorded",
                f"{record.say(change)}; before that {before and record.say(before)}",
            )
        elif change.after not in AFTER.get(change.before, ()):
            yield Breach("a change of status that is none", record.say(change))
        if before and (before.after, before.new_lease) != (change.before, change.lease):
            yield Breach("changed unseen", f"{record.say(change)}; before that {before and record.say(before)}")
        if (change.new_lease or 0) < (change.lease or 0):
            yield Breach("a lease that does not grow", record.say(change))
        if change.attempt > change.max_attempts:
            yield Breach("more attempts than allowed", record.say(change))
        if change.before == "running":
            in_slot.pop(change.slot, None)
        if change.after == "running":
            yield from _claim(record, change)
            if occupant := in_slot.get(change.slot):
                yield Breach("two running tasks in one slot", f"{record.say(change)}; beside {record.say(occupant)}")
            in_slot[change.slot] = change


def _claim(record: Record, claim: Change) -> Iterator[Breach]:
    if claim.new_lease is None or claim.new_lease <= (claim.lease or 0):
        yield Breach("a lease that does not grow", record.say(claim))
    settle = SETTLE + _frozen(record, claim.at)
    allowed = _most_allowed(record.slots, claim.at - settle, claim.at + 0.01)
    if claim.slot is None or not 1 <= claim.slot <= allowed:
        yield Breach("claimed into a slot there is not", f"{record.say(claim)}; there are {allowed}")
    for begin, end in record.paused:
        if begin + settle < claim.at < end:
            yield Breach("claimed while paused", record.say(claim))


def _frozen(record: Record, at: float) -> float:
    """Seconds for which a claim of that time may have been stopped half-way, between reading the queue and writing."""
    freezes = [i for i in record.injections if i.name == "freeze-backend" and i.begin <= at <= i.end + SETTLE]
    return max((i.end - i.begin for i in freezes), default=0.0)


def _by_the_table(record: Record) -> Iterator[Breach]:
    rows = {row.task: row for row in record.rows}
    executed = {execution.lease for execution in record.executions}
    keys: dict[str | None, int] = {}
    for task in sorted(record.accepted - rows.keys()):
        yield Breach("accepted and lost", f"task {task}")
    for row in record.rows:
        if row.key not in record.keys:
            yield Breach("a task that nobody submitted", str(row))
        if row.key in keys:
            yield Breach("stored twice", f"{row} and task {keys[row.key]}")
        keys[row.key] = row.task
        match row.status:
            case "succeeded":
                if row.kind in MEANT_TO_FAIL or row.task in record.cancelled:
                    yield Breach("ended otherwise than it should", str(row))
                if row.result != row.lease:
                    yield Breach("the result of another lease", str(row))
                if row.lease not in executed:
                    yield Breach("succeeded without being executed", str(row))
            case "failed":
                if row.kind not in MEANT_TO_FAIL or row.task in record.cancelled:
                    yield Breach("ended otherwise than it should", str(row))
            case "cancelled":
                if row.task not in record.asked:
                    yield Breach("cancelled without being asked", str(row))
            case _:
                yield Breach("without an end", str(row))
    for change in record.changes:
        if change.after in ENDED and change.task in rows and rows[change.task].status != change.after:
            yield Breach("ended otherwise than recorded", f"{rows[change.task]}; {record.say(change)}")
