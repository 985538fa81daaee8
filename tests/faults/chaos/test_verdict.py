"""The verdict can say no: a small run that held, and every way of it not to have held."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lockgate.witness import Execution
from tests.faults.chaos import verdict
from tests.faults.chaos.record import Breach, Change, Record, Row
from tests.faults.chaos.verdict import judge, most_at_once

Spoil = Callable[[Record], None]


def change(number: int, at: float, task: int, before: str, after: str, lease: int | None, slot: int = 1) -> Change:
    """A claim's lease is new; whatever else happens to a task keeps its own."""
    old = None if before == "queued" and (lease or 0) < 3 else lease
    if before == "queued" and lease == 3:
        old = 1
    return Change(number, at, task, before, after, old, lease, slot, 1, 3)


def held() -> Record:
    """Two slots. Task 1 runs in slot 1, fails and runs again there under lease 3; task 2 runs beside it, in slot 2."""
    return Record(
        slots=[(0.0, 2)],
        keys={"a", "b"},
        accepted={1, 2},
        executions=[
            Execution("default", 1, 1, 10.0, 12.0),
            Execution("default", 2, 2, 11.0, 19.0),
            Execution("default", 1, 3, 14.0, 16.0),
        ],
        changes=[
            change(1, 9.9, 1, "queued", "running", 1),
            change(2, 10.9, 2, "queued", "running", 2, slot=2),
            change(3, 12.1, 1, "running", "queued", 1),
            change(4, 13.9, 1, "queued", "running", 3),
            change(5, 16.1, 1, "running", "succeeded", 3),
            change(6, 19.1, 2, "running", "succeeded", 2, slot=2),
        ],
        rows=[
            Row(1, "work", "succeeded", 3, 2, 3, "a", None),
            Row(2, "work", "succeeded", 2, 1, 2, "b", None),
        ],
    )


def whats(record: Record) -> set[str]:
    return {breach.what for breach in judge(record)}


def test_a_run_that_held_is_not_blamed() -> None:
    assert judge(held()) == []
    assert most_at_once(held().executions) == 2


def test_what_was_seen_while_it_went_on_counts() -> None:
    record = held()
    record.breaches.append(Breach("outlived its deadline", "by a minute"))
    assert whats(record) == {"outlived its deadline"}


def execute(record: Record, *executions: Execution) -> None:
    record.executions += executions


def alter(record: Record, number: int, **values: object) -> None:
    record.changes[number - 1] = replace(record.changes[number - 1], **values)  # type: ignore[arg-type]


def row(record: Record, number: int, **values: object) -> None:
    record.rows[number - 1] = replace(record.rows[number - 1], **values)  # type: ignore[arg-type]


SPOILS: dict[str, Spoil] = {
    "more at once than slots": lambda record: record.slots.__setitem__(0, (0.0, 1)),
    "two at once in one slot": lambda record: record.executions.__setitem__(0, Execution("default", 1, 1, 10.0, 14.1)),
    "one task twice at once": lambda record: record.executions.__setitem__(0, Execution("default", 1, 1, 10.0, None)),
    "one claim executed twice": lambda record: execute(record, Execution("default", 1, 1, 12.0, 12.1)),
    "executed without a claim": lambda record: execute(record, Execution("default", 1, 4, 17.0, 18.0)),
    "executed after its end was recorded": lambda record: record.executions.__setitem__(
        2, Execution("default", 1, 3, 18.0, 18.5)
    ),
    "still executing when its end was recorded": lambda record: record.executions.__setitem__(
        1, Execution("default", 2, 2, 11.0, None)
    ),
    "executed under an old lease": lambda record: execute(record, Execution("default", 1, 1, 16.5, 17.0)),
    "claimed into a slot there is not": lambda record: alter(record, 2, slot=3),
    "claimed while paused": lambda record: record.paused.append((8.0, 15.0)),
    "changed after its outcome was recorded": lambda record: record.changes.append(
        change(7, 20.0, 1, "succeeded", "failed", 3)
    ),
    "a change of status that is none": lambda record: alter(record, 1, before="scheduled"),
    "changed unseen": lambda record: alter(record, 3, after="scheduled"),
    "a lease that does not grow": lambda record: alter(record, 4, lease=3),
    "more attempts than allowed": lambda record: alter(record, 4, attempt=4),
    "two running tasks in one slot": lambda record: alter(record, 2, slot=1),
    "accepted and lost": lambda record: record.accepted.add(3),
    "a task that nobody submitted": lambda record: record.keys.remove("b"),
    "stored twice": lambda record: row(record, 2, key="a"),
    "ended otherwise than it should": lambda record: row(record, 1, kind="fail"),
    "the result of another lease": lambda record: row(record, 1, result=1),
    "succeeded without being executed": lambda record: record.executions.remove(record.executions[1]),
    "cancelled without being asked": lambda record: row(record, 1, status="cancelled"),
    "without an end": lambda record: row(record, 1, status="running"),
    "ended otherwise than recorded": lambda record: row(record, 1, status="failed"),
}


@pytest.mark.parametrize("what", SPOILS)
def test_it_is_blamed_for(what: str) -> None:
    record = held()
    SPOILS[what](record)
    assert what in whats(record)


def test_nothing_it_blames_a_run_for_is_missing_here() -> None:
    said = re.findall(r'(?:Breach\(|_overlaps\(record,)\s*"([^"]+)"', Path(verdict.__file__).read_text())
    assert set(said) == set(SPOILS)


def test_a_lowered_number_binds_new_claims_and_lets_others_end() -> None:
    record = held()
    record.slots.append((11.5, 1))
    assert whats(record) == set()
    record.slots[1] = (7.5, 1)
    assert whats(record) == {"more at once than slots", "claimed into a slot there is not"}


def test_a_task_that_was_asked_to_stop_may_end_in_any_way() -> None:
    for status in ("succeeded", "cancelled"):
        record = held()
        record.asked.add(1)
        row(record, 1, status=status)
        alter(record, 5, after=status)
        assert whats(record) == set()


def test_what_was_meant_to_fail_must() -> None:
    record = held()
    row(record, 1, kind="fail", status="failed")
    alter(record, 5, after="failed")
    assert whats(record) == set()
    row(record, 1, kind="work")
    assert whats(record) == {"ended otherwise than it should"}
