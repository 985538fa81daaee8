"""Somebody who submits, one task or several at a time, due now or a little later, and never gives up on one."""

import json
import random
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg

from tests.system import AWAY, Submitter

WAITING = 20
"""Tasks it keeps waiting."""

MEANT_TO_FAIL = ("fail", "overrun")
"""Kinds whose tasks have to end as failed, unless somebody cancels them."""

WEIGHTS = {
    "work": 70,
    "compute": 8,
    "use_child": 6,
    "print_much": 5,
    "segfault": 2,
    "leave": 2,
    "ignore": 3,
    "fail": 2,
    "overrun": 1,
    "eat_memory": 1,
}
SECONDS = (0.0, 0.05, 0.2, 0.5, 1.0, 2.0, 5.0)


def item(kind: str, **more: Any) -> dict[str, Any]:
    """A task as submit_batch takes it. What is meant to misbehave is told how."""
    body: dict[str, Any] = {"kind": kind, "idempotency_key": str(uuid.uuid4())}
    match kind:
        case "print_much":
            body["payload"] = {"lines": 1000}
        case "eat_memory":
            body["payload"] = {"megabytes": 300}
        case "fail":
            body["max_attempts"] = 2
        case "overrun":
            body |= {"max_attempts": 1, "timeout": 0.5}
    return body | more


class Feeder(Submitter):
    """Tells ``keys`` what it is about to send, and ``accepted`` what was answered.

    ``connect`` opens a connection; the faults end it as they like.
    """

    def __init__(
        self, connect: Callable[[], "psycopg.Connection[Any]"], seed: int, keys: set[str], accepted: set[int]
    ) -> None:
        super().__init__(self._next, self._stored, lambda: self._idle)
        self._connect = connect
        self._random = random.Random(seed)
        self._keys = keys
        self._accepted = accepted
        self._connection: psycopg.Connection[Any] | None = None
        self._idle = 0.0

    def send(self, connection: "psycopg.Connection[Any]", items: list[dict[str, Any]]) -> list[int]:
        """Submits them; their numbers. Raises psycopg.Error; sent again, they are still stored once."""
        self._keys.update(body["idempotency_key"] for body in items)
        if len(items) == 1:
            body = items[0]
            named = ", ".join(f"{name} => %({name})s" for name in body)
            values = {name: json.dumps(value) if name == "payload" else value for name, value in body.items()}
            rows = connection.execute(f"select lockgate.submit('default', {named})", values).fetchall()
        else:
            rows = connection.execute(
                "select task from lockgate.submit_batch(%s::jsonb)", (json.dumps(items),)
            ).fetchall()
        numbers = [row[0] for row in rows]
        self._accepted.update(numbers)
        if len(items) > 1:
            connection.execute("select lockgate.notify_due('default', 'now')")
        return numbers

    def _any(self) -> dict[str, Any]:
        kind = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        body = item(kind)
        if kind in ("work", "compute", "use_child", "ignore"):
            body["payload"] = {"seconds": self._random.choice(SECONDS)}
        if self._random.random() < 0.1:
            body["delay"] = round(self._random.uniform(0.2, 3), 1)
        if self._random.random() < 0.1:
            body["priority"] = self._random.randint(-5, 5)
        return body

    def _next(self) -> list[dict[str, Any]] | None:
        """One task or some, once fewer than WAITING wait."""
        waiting = WAITING
        with suppress(*AWAY):
            row = self._connected().execute("select count(*) from lockgate.task where status = 'queued'").fetchone()
            waiting = row[0] if row else WAITING
        self._idle = 0.1 if waiting >= WAITING else 0.0
        return None if waiting >= WAITING else [self._any() for _ in range(self._random.choice([1, 1, 1, 5]))]

    def _stored(self, items: list[dict[str, Any]]) -> bool:
        with suppress(*AWAY):
            self.send(self._connected(), items)
            return True
        return False

    def _connected(self) -> "psycopg.Connection[Any]":
        """A connection that has not been ended, as far as is known. Raises psycopg.OperationalError."""
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection
