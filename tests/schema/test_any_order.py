"""Random calls, legal and illegal, by several sessions, from a seed; the invariants hold after each one.

Said once, in words:
  1. never more running tasks than slots: each has a slot of its own, which its queue had when it was claimed;
  2. a running task has slot, lease, runner, session, grace and start; one that waits or ended has no slot;
  3. leases grow: a claim's is greater than every one before, and no task ever goes back to a smaller one;
  4. an ended task never changes again;
  5. a call under a lease that is lost is told so (LG002), and changes nothing; under a lease whose end is recorded it
     is told that, and changes nothing;
  6. every attempt that was counted is in the table of attempts, or is the one that ended the task or goes on now;
  7. no task disappears, and none is claimed more often than it has attempts.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
import pytest

from tests.contract import Claimed, Contract, Session, Task

STEPS = 500
ENDED = ("succeeded", "failed", "cancelled")
QUEUES = ("default", "other")

T = TypeVar("T")


@dataclass(frozen=True)
class Held:
    """A claim as its runner remembers it, long after it may have lost it."""

    runner: Session
    claimed: Claimed
    slot: int


def attempted(call: Callable[[], T]) -> tuple[T | None, str | None]:
    """What a call answers, or the SQLSTATE of its refusal."""
    try:
        return call(), None
    except psycopg.Error as error:
        return None, error.sqlstate


class World:
    def __init__(self, q: Contract, seed: int) -> None:
        self.q = q
        self.dice = random.Random(seed)
        self.runners = [q.runner() for _ in range(4)]
        self.held: list[Held] = []
        self.seen: list[Task] = []
        self.known: dict[int, Task] = {}
        self.leases: set[int] = set()
        self.slots = dict.fromkeys(QUEUES, 2)
        self.locks: set[tuple[Session, int, str]] = set()
        self.story: list[str] = []
        q.queue("other", backoff_base=0)

    # What may happen ---------------------------------------------------------------------------------------------

    def step(self) -> None:
        acts: dict[Callable[[], str], int] = {
            self.submit: 12,
            self.take: 8,
            self.release: 1,
            self.claim: 18,
            self.end: 20,
            self.die: 1,
            self.reconnect: 3,
            self.reconfirm: 3,
            self.look: 5,
            self.adopt: 6,
            self.cancel: 3,
            self.resize: 2,
            self.pause: 1,
            self.pass_time: 3,
        }
        [act] = self.dice.choices(list(acts), list(acts.values()))
        self.story.append(f"{act.__name__}: {act()}")

    def someone(self) -> Session:
        return self.dice.choice(self.runners)

    def a_slot(self) -> tuple[Session, int, str]:
        """A runner and a slot that it holds, more often than not."""
        if self.locks and self.dice.random() < 0.8:
            return self.dice.choice(sorted(self.locks, key=lambda lock: (lock[1], lock[2])))
        return self.someone(), self.dice.randint(0, 4), self.dice.choice(QUEUES)

    def some_task(self) -> Task | None:
        """A running one, more often than not."""
        tasks = list(self.known.values())
        if self.dice.random() < 0.7:
            tasks = [task for task in tasks if task.status == "running"] or tasks
        return self.dice.choice(tasks) if tasks else None

    def submit(self) -> str:
        named: dict[str, Any] = {
            "queue": self.dice.choice(QUEUES),
            "priority": self.dice.randint(-1, 1),
            "delay": self.dice.choice([None] * 4 + [3600.0]),
            "max_attempts": self.dice.randint(1, 4),
            "dedupe_key": self.dice.choice([None] * 6 + ["a", "b"]),
            "idempotency_key": self.dice.choice([None] * 6 + ["a", "b"]),
        }
        task, refusal = attempted(lambda: self.q.submit(**named))
        assert refusal in (None, "LG003")
        return f"task {task}" if task else "key reused"

    def take(self) -> str:
        runner, slot, queue = self.someone(), self.dice.randint(0, 4), self.dice.choice(QUEUES)
        taken = runner.take(slot or None, queue)
        if taken is not None:
            assert not any(lock[1:] == (taken, queue) and lock[0] is not runner for lock in self.locks)
            self.locks.add((runner, taken, queue))
        return f"{runner} takes {queue} {taken}"

    def release(self) -> str:
        runner, slot, queue = self.a_slot()
        released = runner.release(slot, queue)
        assert released == ((runner, slot, queue) in self.locks)
        self.locks.discard((runner, slot, queue))
        return f"{runner} releases {queue} {slot} {released}"

    def claim(self) -> str:
        runner, slot, queue = self.a_slot()
        claimed, refusal = attempted(lambda: runner.claim(slot, queue))
        assert refusal == (None if (runner, slot, queue) in self.locks else "LG004")
        if claimed is None:
            return f"{runner} gets {refusal or 'nothing'} in {queue} {slot}"
        self.remember(runner, claimed, slot)
        return f"{runner} claims {claimed.task} under {claimed.lease} in {queue} {slot}"

    def remember(self, runner: Session, claimed: Claimed, slot: int) -> None:
        assert claimed.lease > max(self.leases, default=0)
        assert claimed.attempt <= claimed.max_attempts
        assert 1 <= slot <= self.slots[claimed.queue]
        self.leases.add(claimed.lease)
        self.held.append(Held(runner, claimed, slot))

    def end(self) -> str:
        """Under any lease that anybody ever had, one that is good more often than not."""
        if not self.held:
            return "nothing was claimed yet"
        good = {task.lease for task in self.known.values() if task.status == "running"}
        current = [held for held in self.held if held.claimed.lease in good]
        held = self.dice.choice(current if current and self.dice.random() < 0.7 else self.held)
        runner, claimed = held.runner, held.claimed
        before = self.q.task(claimed.task)
        mine = before.lease == claimed.lease and before.runner == runner.name
        calls: dict[str, Callable[[], object]] = {
            "finish": lambda: runner.finish(claimed),
            "fail": lambda: runner.fail(claimed, retry_after=self.dice.choice([None, 0.0])),
            "discard": lambda: runner.fail(claimed, discard=True),
            "return_task": lambda: runner.return_task(claimed),
            "finish_and_claim": lambda: runner.finish_and_claim(claimed, slot=held.slot, queue=claimed.queue),
        }
        how = self.dice.choice(list(calls))
        what = f"{runner} says {how} of {claimed.task} under {claimed.lease}"
        if how == "finish_and_claim" and (runner, held.slot, claimed.queue) not in self.locks:
            how = "finish"
        answer, refusal = attempted(calls[how])
        after = self.q.task(claimed.task)
        assert refusal == (None if mine else "LG002"), (what, before)
        if before.status != "running" or not mine:
            # finish_and_claim may have claimed this very task again.
            assert after == before or isinstance(answer, Claimed)
        elif not isinstance(answer, Claimed):
            ways = {
                "finish": "succeeded",
                "finish_and_claim": "succeeded",
                "discard": "failed",
                "return_task": "queued",
            }
            if before.cancel_requested and how in ("fail", "discard", "return_task"):
                assert after.status == "cancelled"
            elif how == "fail" and before.attempt >= before.max_attempts:
                assert after.status == "failed"
            else:
                assert after.status == ways.get(how, after.status)
            assert after.status != "running"
        if isinstance(answer, Claimed):
            self.remember(runner, answer, held.slot)
        elif how == "finish" and mine:
            assert answer == (before.status == "running")
        return f"{what}: {refusal or answer}"

    def die(self) -> str:
        runner = self.someone()
        runner.die()
        self.forget(runner)
        self.runners[self.runners.index(runner)] = new = self.q.runner()
        # What the dead still say comes late, on a connection without any lock.
        runner.reconnect()
        return f"{runner} dies, {new} comes"

    def reconnect(self) -> str:
        """And goes for its slots at once, or leaves them to whoever comes."""
        runner = self.someone()
        own = sorted((slot, queue) for holder, slot, queue in self.locks if holder is runner)
        runner.reconnect()
        self.forget(runner)
        if self.dice.random() < 0.6:
            for slot, queue in own:
                assert runner.take(slot, queue) == slot
                self.locks.add((runner, slot, queue))
                runner.reconfirm(slot, queue)
        return f"{runner} has a new session {runner.number}"

    def forget(self, runner: Session) -> None:
        self.locks = {lock for lock in self.locks if lock[0] is not runner}

    def reconfirm(self) -> str:
        runner, slot, queue = self.a_slot()
        found, refusal = attempted(lambda: runner.reconfirm(slot, queue))
        assert refusal == (None if (runner, slot, queue) in self.locks else "LG004")
        if found is not None:
            row = self.q.task(found.task)
            assert (row.lease, row.slot, row.runner, row.session) == (found.lease, slot, runner.name, runner.number)
        return f"{runner} reconfirms {refusal or (found and found.task)} in {queue} {slot}"

    def look(self) -> str:
        self.seen = (self.seen + self.q.tasks("status = 'running'"))[-8:]
        return str([task.id for task in self.seen])

    def adopt(self) -> str:
        if not self.seen:
            return "nothing was seen yet"
        runner, seen = self.someone(), self.dice.choice(self.seen)
        assert seen.slot is not None
        lock = (runner, seen.slot, seen.queue)
        if self.dice.random() < 0.7 and runner.take(seen.slot, seen.queue):
            self.locks.add(lock)
        before = self.q.task(seen.id)
        same = (before.status, before.lease, before.session) == ("running", seen.lease, seen.session)
        status, refusal = attempted(lambda: runner.adopt(seen))
        assert refusal == (None if lock in self.locks else "LG004")
        assert (status is not None) == (same and lock in self.locks)
        after = self.q.task(seen.id)
        if status is None:
            assert after == before
        elif before.cancel_requested:
            assert status == "cancelled"
        elif before.attempt >= before.max_attempts:
            assert status == "failed"
        else:
            assert status in ("queued", "scheduled")
        return f"{runner} adopts {seen.id}: {refusal or status}"

    def cancel(self) -> str:
        if not (task := self.some_task()):
            return "nothing to cancel"
        return f"task {task.id}: {self.q.cancel(task.id, force=self.dice.random() < 0.5)}"

    def resize(self) -> str:
        queue, slots = self.dice.choice(QUEUES), self.dice.choice([0, 1, 2, 3, 3, 4, 4, 4])
        self.q.set_slots(slots, queue)
        self.slots[queue] = slots
        return f"{queue} has {slots} slots"

    def pause(self) -> str:
        queue, paused = self.dice.choice(QUEUES), self.dice.random() < 0.25
        self.q.queue(queue, paused=paused)
        return f"{queue} {'pauses' if paused else 'goes on'}"

    def pass_time(self) -> str:
        self.q.db.query("update lockgate.task set run_at = now() where status = 'scheduled'")
        return "all that was scheduled is due"

    # What must be so ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        rows = self.q.tasks()
        attempts = self.q.db.query("select task, attempt, lease, outcome::text from lockgate.attempt order by lease")
        running = [row for row in rows if row.status == "running"]
        assert len({(row.queue, row.slot) for row in running}) == len(running)
        assert self.known.keys() <= {row.id for row in rows}
        for row in rows:
            before = self.known.get(row.id)
            own = [(attempt, lease, outcome) for task, attempt, lease, outcome in attempts if task == row.id]
            counted = [attempt for attempt, _, outcome in own if outcome != "returned"]
            assert (row.slot is not None) == (row.status == "running")
            assert (row.finish_time is not None) == (row.status in ENDED)
            assert row.attempt <= row.max_attempts
            if row.status == "running":
                assert row.lease in self.leases
                assert None not in (row.runner, row.session, row.grace, row.start_time)
            if before:
                assert (row.lease or 0) >= (before.lease or 0)
                assert row == before or before.status not in ENDED
            assert counted == list(range(1, len(counted) + 1))
            assert all(lease <= (row.lease or 0) for _, lease, _ in own)
            now = row.attempt - len(counted)  # the attempt that goes on, or that ended the task
            if row.status in ("running", "succeeded", "failed"):
                assert now == 1
            else:
                assert now == 0 or (row.status == "cancelled" and row.cancel_requested is not None and now == 1)
        self.known = {row.id: row for row in rows}


@pytest.mark.parametrize("seed", range(3))
def test_the_invariants_hold_whatever_is_called_in_whatever_order(q: Contract, seed: int) -> None:
    world = World(q, seed)
    try:
        for _ in range(STEPS):
            world.step()
            world.check()
    except BaseException:
        print("\n".join(world.story))  # noqa: T201  pytest shows it when the test fails
        raise
    assert len(world.leases) > 12, "these steps claimed too little to prove anything"
