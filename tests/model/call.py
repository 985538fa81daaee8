"""One statement: to the database, and to the model, which is told what the database answered."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import psycopg
from psycopg.rows import class_row, scalar_row
from psycopg.types.json import Jsonb

from tests.contract import Claimed, Outcome
from tests.model.rules import Model, Refused

RUNNERS = ("r1", "r2", "r3")
CLIENTS = ("c1", "c2")
OWNER = "owner"
"""Who calls: each has a connection."""

ROWS: dict[str, type[Claimed] | type[Outcome]] = {
    "claim": Claimed,
    "finish_and_claim": Claimed,
    "reconfirm": Claimed,
    "submit_batch": Outcome,
}
"""Functions that return rows; all others return one value."""

PARTS = {"finish_and_claim": {"finish", "claim"}}
TAKES_LOCKS = {"take_slot", "retake_slot", "release_slot", "register", "deregister", "delete_expired"}
ALONE = {"purge", "delete_expired", "delete_queue"}


@dataclass(frozen=True)
class Call:
    """`rule` is the same call on a model. `args` are as the function of schema.sql has them; `named` are those that
    are given by name. `statement` is for what is no function of ours."""

    name: str
    who: str
    args: tuple[Any, ...]
    rule: Callable[[Model, Any], Any]
    named: tuple[str, ...] = ()
    statement: str | None = None
    target: int | None = None
    """A task that is locked while the call lasts, even if nothing about it changes."""

    def __str__(self) -> str:
        names = (f"{name} => " for name in ("",) * (len(self.args) - len(self.named)) + self.named)
        words = (f"{name.removeprefix(' => ')}{value!r}" for name, value in zip(names, self.args, strict=True))
        return f"{self.who}: {self.name}({', '.join(words)})"

    @property
    def does(self) -> set[str]:
        return PARTS.get(self.name, {self.name})

    @property
    def takes_locks(self) -> bool:
        """Locks of the session, which outlive a rollback."""
        return self.name in TAKES_LOCKS

    def may_race(self, rival: "Call") -> bool:
        """Whether the model knows all that may come of it while the other is half-way. Not for those that try locks, or
        skip rows, and do not say which; nor for a claim, which tries the lock of its slot if it does not hold it."""
        return self.name not in ALONE and not (self.takes_locks and "claim" in rival.does)

    def told(self, conn: psycopg.Connection[Any]) -> Any:
        args = [Jsonb(arg) if is_json(arg) else arg for arg in self.args]
        positional = len(args) - len(self.named)
        marks = ["%s"] * positional + [f"{name} => %s" for name in self.named]
        call = self.statement or f"lockgate.{self.name}({', '.join(marks)})"
        try:
            if self.statement:
                conn.execute(call, args)
                return None
            if kind := ROWS.get(self.name):
                columns = ", ".join(f.name for f in fields(kind))
                cursor = conn.cursor(row_factory=class_row(kind))
                rows = cursor.execute(f"select {columns} from {call} order by 1", args).fetchall()
                return rows if kind is Outcome else rows[0] if rows else None
            value = conn.cursor(row_factory=scalar_row).execute(f"select {call}", args).fetchone()
            return None if value == "" else value  # what a function without a result returns
        except psycopg.Error as error:
            return Refused(error.sqlstate)

    def expected(self, model: Model, told: Any) -> Any:
        try:
            return self.rule(model, told)
        except Refused as refusal:
            return refusal


def is_json(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and all(isinstance(item, dict) for item in value))
