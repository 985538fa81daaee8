"""All that is known of a run once it is over: what the verdict is made from. Times are those of the witness."""

import csv
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import class_row

from lockgate.witness import Execution

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LATE = 1.0
"""Seconds by which the witness, a thread on a busy machine, may hear of a killed executor too late."""


@dataclass(frozen=True)
class Change:
    """A task's change of status or lease. ``slot``: the one it takes, or leaves."""

    number: int
    at: float
    task: int
    before: str
    after: str
    lease: int | None
    new_lease: int | None
    slot: int | None
    attempt: int
    max_attempts: int


@dataclass(frozen=True)
class Row:
    """A task as it is at the end. ``result``: what its handler returned, its lease; ``key``: its idempotency key."""

    task: int
    kind: str
    status: str
    lease: int | None
    attempt: int
    result: Any
    key: str | None
    error: str | None


@dataclass(frozen=True)
class Injection:
    """One fault: when, and what it did, in words; None = nothing, for there was nothing to do it to."""

    name: str
    begin: float
    end: float
    effect: str | None


@dataclass(frozen=True)
class Kill:
    """An execution that was under way when its runner was killed, alone or with its whole tree."""

    what: str
    at: float
    task: int
    lease: int


@dataclass(frozen=True)
class Breach:
    """Something that must not be: in general, and what it was this time."""

    what: str
    how: str


@dataclass
class Record:
    """`slots`: since when how many were allowed. `paused`: from when to when the queue was. `keys`: of all tasks sent.
    `accepted`: tasks whose submission was answered. `asked`: tasks that somebody tried to cancel. `cancelled`: those of
    which the answer was "cancelled". `breaches`: those seen while it went on. `interruptions`: attempts that ended
    without ending their task, by type of error. `gave_up`: supervisors that ended by themselves and were
    started again.
    """

    slots: list[tuple[float, int]] = field(default_factory=list)
    paused: list[tuple[float, float]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    accepted: set[int] = field(default_factory=set)
    asked: set[int] = field(default_factory=set)
    cancelled: set[int] = field(default_factory=set)
    injections: list[Injection] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    breaches: list[Breach] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)
    interruptions: dict[str, int] = field(default_factory=dict)
    gave_up: int = 0

    def read(self, owner: "psycopg.Connection[Any]", executions: list[Execution]) -> None:
        """Reads the tables of a run whose programs have all ended."""
        self.executions = list(executions)
        epoch = time.time() - time.monotonic()
        self.changes = (
            owner.cursor(row_factory=class_row(Change))
            .execute(
                "select number, extract(epoch from at)::float8 - %s as at, task, before, after, lease, new_lease, slot,"
                " attempt, max_attempts from lockgate.audit order by number",
                (epoch,),
            )
            .fetchall()
        )
        self.rows = (
            owner.cursor(row_factory=class_row(Row))
            .execute(
                "select id as task, kind, status::text, lease, attempt, result, idempotency_key as key,"
                " error ->> 'type' || ': ' || (error ->> 'message') as error from lockgate.task order by id"
            )
            .fetchall()
        )
        self.interruptions = dict(
            owner.execute(
                "select coalesce(error ->> 'type', outcome::text), count(*) from lockgate.attempt group by 1 order by 1"
            ).fetchall()
        )

    @property
    def start(self) -> float:
        """When the run began."""
        return self.slots[0][0]

    def say(self, what: "Execution | Change | Injection | Kill") -> str:
        """In words, times as seconds since the start."""
        values = self.since_start(what)
        return type(what).__name__.lower() + " " + ", ".join(f"{name} {value}" for name, value in values.items())

    def since_start(self, what: "DataclassInstance") -> dict[str, Any]:
        """Its fields, times as seconds since the start."""
        return {
            name: round(value - self.start, 3) if name in ("at", "begin", "end") and value is not None else value
            for name, value in asdict(what).items()
        }

    def write(self, folder: Path) -> None:
        """Leaves all of it as tables to look into."""
        for name, rows in (
            ("tasks", self.rows),
            ("changes", self.changes),
            ("executions", self.executions),
            ("faults", self.injections),
            ("kills", self.kills),
        ):
            if rows:
                with (folder / f"{name}.csv").open("w", newline="") as file:
                    table = csv.DictWriter(file, [f.name for f in fields(rows[0])])
                    table.writeheader()
                    table.writerows(self.since_start(row) for row in rows)
