"""The database and the model side by side: every call goes to both, and what they answer and show must be the same."""

import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import inf
from typing import Any

import psycopg
from hypothesis import note
from psycopg import pq

from tests.contract import Contract, Session, Threads, until
from tests.model.call import CLIENTS, OWNER, RUNNERS, Call
from tests.model.promise import breaches
from tests.model.rules import Model, Queue, Refused
from tests.model.sight import Sight, differences, see

NONE: frozenset[int] = frozenset()

QUEUES: dict[str, dict[str, Any]] = {
    "default": {"backoff_base": 100.0},
    "a": {"slots": 1, "grace": 2.0, "max_attempts": 2, "timeout": 9.0, "backoff_base": 200.0},
}
"""Those there are at first. Back-offs are long enough that nothing is due before the test says so, or none at all."""

MEETINGS = ("commit", "rollback", "loss", "at once")
"""How two calls meet. The first has not committed yet when the second is made, and then commits, rolls back, or its
session is ended by force. Or both are made at once and the server decides."""


FORGET = """
delete from task; delete from attempt; delete from output; delete from runner; delete from queue;
alter sequence lease restart; alter sequence task_id_seq restart; alter sequence runner_session_seq restart;
"""
"""Numbers begin anew, for stories that can be read; but those of queues, as sessions remember things by them."""


@dataclass(frozen=True)
class Said:
    call: Call
    told: Any


Step = tuple[Said, frozenset[int], frozenset[int]]
"""A call, the tasks it may have passed by, and those it cannot have promoted."""


class World:
    def __init__(
        self, q: Contract, threads: Threads, seconds: float = inf, note: Callable[[str], object] = note
    ) -> None:
        self.q = q
        self.note = note
        self.threads = threads
        self.runners = {name: Session(q, name) for name in RUNNERS}
        self.clients = {name: q.db.connect("service") for name in CLIENTS}
        self.owner = q.db.connect("admin")
        self.model = Model()
        self.sight: Sight
        self.until = time.monotonic() + seconds
        self.failed = False

    @property
    def over(self) -> bool:
        """Time is up; but what has failed is made short and told, however long that takes."""
        return not self.failed and time.monotonic() > self.until

    def begin(self) -> None:
        """An empty database with one queue and sessions that hold nothing."""
        for who in (*RUNNERS, *CLIENTS, OWNER):
            if self.connection(who).info.transaction_status != pq.TransactionStatus.IDLE:
                self.connection(who).rollback()
        for who in RUNNERS:
            self.connection(who).execute("select pg_advisory_unlock_all()")
        # Not `truncate`, which makes a new file of every table and index.
        self.q.db.query(FORGET)
        # A claim that meets very many dead entries in an index goes another way. This look clears them away.
        self.q.db.query("select from task where status = 'queued' order by queue, claim_order(priority, id) limit 1")
        self.model = Model()
        for name, settings in QUEUES.items():
            number = self.q.queue(name, **settings)
            self.model.queues[name] = Queue(number, name, **settings)
            self.model.greatest["queue"] = number
        self.sight = see(self.q)

    # One call, or two that meet -------------------------------------------------------------------------------------

    def alone(self, call: Call) -> None:
        told = call.told(self.connection(call.who))
        self.note(f"{call} -> {told}")
        expected = call.expected(self.model, told)
        assert told == expected, f"{call} answered {told} instead of {expected}"
        self.compare([call])

    def compare(self, calls: Sequence[Call]) -> None:
        after = see(self.q, self.sight.now)
        found = differences(self.model, after, self.pids())
        assert not found, "\n".join(["the database shows something else than the model:", *found])
        self.keep_promise(after, calls)

    def keep_promise(self, after: Sight, calls: Sequence[Call]) -> None:
        broken = breaches(self.sight, after, {name for call in calls for name in call.does})
        assert not broken, "\n".join(["the promise is broken:", *broken])
        self.sight = after

    def together(self, one: Call, other: Call, meeting: str) -> None:
        """The answers to both, and all that is shown afterwards, have to be those of one order or of the other."""
        if one.who == other.who:
            return self.alone(other)
        undone = meeting in ("rollback", "loss")
        if undone and (one.takes_locks or (meeting == "loss" and one.who not in RUNNERS)):
            meeting = "commit"  # locks of a session outlive a rollback, and only runners have any to lose
        if meeting == "at once" and (self.model.short or not one.may_race(other) or not other.may_race(one)):
            meeting = "commit"
        meet = self.race if meeting == "at once" else self.nest
        first, second = meet(one, other, meeting)
        self.note(f"{one} -> {first.told}\n  and {other} -> {second.told}\n  meet: {meeting}")
        self.settle(first, second, meeting)
        if meeting == "loss":
            self.reconnect(one.who)
        return None

    def race(self, one: Call, other: Call, _meeting: str) -> tuple[Said, Said]:
        future = self.threads.start(other.told, self.connection(other.who))
        told = one.told(self.connection(one.who))
        return Said(one, told), Said(other, future.result(timeout=30))

    def nest(self, one: Call, other: Call, meeting: str) -> tuple[Said, Said]:
        conn, rival = self.connection(one.who), self.connection(other.who)
        conn.execute("begin")
        told = one.told(conn)
        future = self.threads.start(other.told, rival)
        waits = "select cardinality(pg_blocking_pids(%s)) > 0"
        until(
            lambda: future.done() or self.q.db.value(waits, rival.info.backend_pid),
            "the second to answer or to wait",
            every=0.0005,
        )
        if meeting == "loss":
            self.kill(one.who)
        else:
            conn.execute(meeting)
        return Said(one, told), Said(other, future.result(timeout=30))

    def settle(self, first: Said, second: Said, meeting: str) -> None:
        """Raises AssertionError when neither order explains what was answered and what is shown now."""
        after = see(self.q, self.sight.now)
        why = []
        for way in self.ways(first, second, meeting):
            for lost_before in (True, False) if meeting == "loss" else (False,):
                model = deepcopy(self.model)
                if lost_before:
                    model.disconnect(first.call.who)
                wrong = replay(model, way)
                if meeting == "loss":
                    model.disconnect(first.call.who)
                wrong = wrong or differences(model, after, self.pids())
                if not wrong:
                    self.model = model
                    return self.keep_promise(after, [first.call, second.call])
                why += [", then ".join(said.call.name for said, *_ in way) + ":", *(f"  {line}" for line in wrong)]
        raise AssertionError("\n".join([f"no order of the two explains this ({meeting}):", *why]))

    def ways(self, first: Said, second: Said, meeting: str) -> Iterator[list[Step]]:
        """The orders in which it may have been: once as if neither had noticed that the other was at some tasks, and
        once as if it had passed these by."""
        of_first, of_second = self.touched(first), self.touched(second)
        is_undone = meeting in ("rollback", "loss")
        if second.call.name == "delete_queue" and second.told == Refused("55P03"):
            # It waits for a second and no longer, and this machine was slower than that.
            yield [] if is_undone else [(first, NONE, NONE)]
            return
        if is_undone:
            yield [(second, NONE, NONE)]
            yield [(second, of_first, of_first)]
            return
        ahead = of_second if meeting == "at once" else NONE
        for passed_by_first, passed_by_second in ((NONE, NONE), (ahead, of_first)):
            way: list[Step] = [(first, passed_by_first, NONE), (second, passed_by_second, NONE)]
            yield way
            yield way[::-1]

    def touched(self, said: Said) -> frozenset[int]:
        """The tasks that are locked while this call lasts."""
        before, model = self.model.tasks, deepcopy(self.model)
        said.call.expected(model, said.told)
        numbers = before.keys() | model.tasks.keys()
        changed = {number for number in numbers if before.get(number) != model.tasks.get(number)}
        return frozenset(changed | ({said.call.target} if said.call.target else set()))

    # The sessions ---------------------------------------------------------------------------------------------------

    def connection(self, who: str) -> psycopg.Connection[Any]:
        if who in self.runners:
            return self.runners[who].conn
        return self.clients.get(who, self.owner)

    def pids(self) -> dict[str, int]:
        return {name: runner.pid for name, runner in self.runners.items()}

    def kill(self, who: str) -> None:
        """As an administrator does, or the server when the peer is gone."""
        runner = self.runners[who]
        self.q.db.query("select pg_terminate_backend(%s)", runner.pid)
        gone = "select not exists (select from pg_stat_activity where pid = %s)"
        until(lambda: self.q.db.value(gone, runner.pid), f"{runner} to be gone", every=0.001)
        runner.conn.close()

    def reconnect(self, who: str) -> None:
        runner = self.runners[who]
        runner.conn = self.q.db.connect("runner")
        runner.pid = runner.conn.info.backend_pid

    def lose(self, who: str) -> None:
        """The session ends, and its runner is back on another one, which is not registered and holds nothing."""
        self.kill(who)
        self.model.disconnect(who)
        self.note(f"{who} lost its session")
        self.reconnect(who)
        self.compare([])


def replay(model: Model, way: Sequence[Step]) -> list[str]:
    """Makes the calls of a way on the model; where it would have answered otherwise."""
    wrong = []
    for said, passed_by, not_promoted in way:
        model.held, model.unpromotable = passed_by, not_promoted
        expected = said.call.expected(model, said.told)
        if expected != said.told:
            wrong.append(f"{said.call.name} answered {said.told} instead of {expected}")
    model.held = model.unpromotable = NONE
    return wrong
