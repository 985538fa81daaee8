"""The system under test: a server, supervised runners, a witness outside, and somebody who submits."""

import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import psycopg

from lockgate.postgres.server import Server
from lockgate.witness import Execution, Witness
from tests.faults.chaos.disk import Disk
from tests.faults.chaos.feeder import Feeder, item
from tests.faults.chaos.record import Breach, Kill, Record
from tests.faults.chaos.supervised import Supervised, left_behind, soon
from tests.system import AWAY, UNENDED, System

T = TypeVar("T")

CONNECTIONS = 400
"""Of the server: 300 may idle, and there is still room for those who work."""

MEMORY_LIMIT = 150
"""MiB an executor may occupy."""

KILL_AFTER = 1.0
"""Seconds between asking a handler to stop and killing it."""

SHUTDOWN_TIMEOUT = 1.0
"""Seconds a stopping runner leaves its tasks, so that some are given back."""

BUSY = 0.8
"""How often a fault looks for a runner that executes something."""

STOPPED_IN = 40.0
"""Seconds after which a runner that was told to stop, and has a server to say goodbye to, must be gone."""


class Doing(NamedTuple):
    """An execution under way, and the grace it goes by."""

    execution: Execution
    grace: float


class Field(System[Server]):
    """Everything of one run."""

    def __init__(
        self,
        folder: Path,
        disk: Disk,
        witness: Witness,
        *,
        seed: int,
        slots: int,
        runners: int,
        concurrency: int,
        grace: float,
    ) -> None:
        settings = {"max_connections": str(CONNECTIONS), "max_wal_size": "64MB", "min_wal_size": "32MB"}
        super().__init__(
            Server(disk.path, settings=settings), witness, handlers="tests.faults.chaos.handlers", patience=2
        )
        self.disk = disk
        self.slots = slots
        self.grace = grace
        self.record = Record()
        self.feeder = Feeder(self.owner, seed, self.record.keys, self.record.accepted)
        self.supervised: list[Supervised] = []
        self._folder = folder
        self._runners = runners
        self._concurrency = concurrency
        # Children are ended by the kernel with the thread that started them.
        self._server_thread = ThreadPoolExecutor(1, "server")
        self._starting_thread = ThreadPoolExecutor(1, "starting")

    def __enter__(self) -> Self:
        try:
            self.on_server(self.server.start)
            super().__enter__()
            self.insist("set scram_iterations = 1; create role crowd login superuser password 'x'")
            self.insist(
                "update lockgate.queue set grace = %s, slots = %s, backoff_base = 0.1, backoff_max = 1,"
                " max_attempts = 100",
                *(self.grace, self.slots),
            )
            self.record.slots.append((time.monotonic(), self.slots))
            environment = {k: v for k, v in os.environ.items() if not k.startswith(("LOCKGATE_", "DATABASE_"))} | {
                "DATABASE_URL": self.url("runner"),
                "LOCKGATE_HANDLERS": self.handlers,
                "LOCKGATE_WITNESS": self.witness.address,
                "LOCKGATE_CONCURRENCY": str(self._concurrency),
                "LOCKGATE_MEMORY_LIMIT": str(MEMORY_LIMIT),
                "LOCKGATE_KILL_AFTER": str(KILL_AFTER),
                "LOCKGATE_SHUTDOWN_TIMEOUT": str(SHUTDOWN_TIMEOUT),
                "LOCKGATE_LOG_FORMAT": "json",
            }
            for number in range(1, self._runners + 1):
                one = Supervised(number, environment, self._folder / f"runner-{number}.log")
                self.supervised.append(one)
                self.launch(one)
            self.feeder.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.feeder.stop()
        for one in self.supervised:
            one.close()
        with suppress(OSError):
            log = self.disk.path / "server.log"
            (self._folder / "server.log").write_bytes(log.read_bytes())
        self.on_server(lambda: self.server.stop("immediate"))
        self._server_thread.shutdown()
        self._starting_thread.shutdown()

    # -- for the faults -----------------------------------------------------------------------------------------------

    def crowd(self) -> "psycopg.Connection[Any]":
        """A connection of one of many, which may have any there is and costs little to make. Raises psycopg.Error."""
        return psycopg.connect(self.server.dsn(), user="crowd", password="x", connect_timeout=2)

    def sleep(self, seconds: float) -> None:
        """Unless it is over before."""
        self.over.wait(seconds)

    def on_server(self, work: Callable[[], T]) -> T:
        """Does something to the server, on the thread that lives as long as it. One after another."""
        return self._server_thread.submit(work).result()

    def launch(self, one: Supervised) -> None:
        self._starting_thread.submit(one.start).result()

    def revive(self, one: Supervised) -> None:
        """Does what a service manager would for one that gave up, as when its first executor is killed."""
        if not one.pid:
            self.record.gave_up += 1
            self.launch(one)

    @contextmanager
    def borrow(
        self, dice: random.Random, needs: Callable[[Supervised], object] = Supervised.runner
    ) -> Iterator[Supervised | None]:
        """A supervised runner that has what is needed and that nobody else is about to break; None if there is none.

        One that executes something is preferred, as a rule.
        """
        candidates = dice.sample(self.supervised, len(self.supervised))
        if dice.random() < BUSY:
            candidates.sort(key=lambda one: not self.under_way(one.runner() or 0))
        for one in candidates:
            if one.lock.acquire(blocking=False):
                try:
                    self.revive(one)
                    if soon(lambda one=one: bool(needs(one)), 0.5):  # type: ignore[misc]
                        yield one
                        return
                finally:
                    one.lock.release()
        yield None

    def under_way(self, runner: int | None = None) -> list[Doing]:
        """What executes at this moment by the witness and the table; of one runner's process, or of all."""
        graces = dict(
            self.ask(
                "select t.lease, t.grace from lockgate.task t join lockgate.runner r on r.session = t.session"
                " where t.status = 'running' and (%s::int is null or r.pid = %s)",
                runner,
                runner,
            )
        )
        return [Doing(e, graces[e.lease]) for e in self.witness.current() if e.lease in graces]

    def executes_again(self, what: str, killed: list[Doing], at: float) -> None:
        """Notes a kill and waits until what it hit executes again, or has taken too long for that."""
        for execution, _ in killed:
            self.record.kills.append(Kill(what, at, execution.task, execution.lease))
        waiting = {execution.task for execution, _ in killed}
        end = time.monotonic() + 3 * self.grace
        while waiting and time.monotonic() < end and not self.over.is_set():
            waiting -= {e.task for e in self.witness.executions[-100:] if e.begin > at}
            self.sleep(0.02)

    def send(self, kind: str, **more: Any) -> int | None:
        """Submits one that goes first; its number, or None while the server is away."""
        with suppress(*AWAY), self.owner() as owner:
            return self.feeder.send(owner, [item(kind, priority=50, **more)])[0]
        return None

    def breach(self, what: str, how: str) -> None:
        self.record.breaches.append(Breach(what, how))

    def set_slots(self, number: int) -> None:
        """As often as it takes. What is allowed is noted on the careful side: more from before, fewer from after it."""
        if number >= self.record.slots[-1][1]:
            self.record.slots.append((time.monotonic(), number))
        self.insist("select lockgate.set_slots('default', %s)", number)
        self.record.slots.append((time.monotonic(), number))

    # -- the end ------------------------------------------------------------------------------------------------------

    def wind_up(self, limit: float) -> None:
        """Once the faults are over: waits for every task to end, stops everything, and completes the record."""
        self.feeder.stop()
        if not soon(lambda: self.ask(UNENDED) == [(0,)], limit):
            self.breach("not all tasks have ended", f"{self.ask(UNENDED) or 'the server is away'} after {limit:.0f} s")
        for one in self.supervised:
            one.ask()
        for one in self.supervised:
            if not one.wait(STOPPED_IN):
                self.breach("a runner does not stop", f"{one}: {one.tree()}")
                one.kill()
        for execution in self.witness.current():
            self.breach("executing at the very end", self.record.say(execution))
        if held := self.ask(HELD):
            self.breach("a slot is held at the very end", str(held))
        with self.owner() as owner:
            self.record.read(owner, self.witness.executions)
        soon(lambda: not left_behind(self.witness.address), 5)
        for process in left_behind(self.witness.address):
            self.breach("a process is left behind", process)


HELD = "select queue, slot, pid from lockgate.occupied_slots()"
