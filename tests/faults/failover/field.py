"""The system across failovers: a pair of servers, the service, runners, people who submit, a witness outside."""

import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self

import httpx

from lockgate.witness import Witness
from tests.contract import until
from tests.faults.failover.pair import LIMIT, Pair
from tests.runner.process import exists
from tests.system import Submitter, System

End = Literal["kill", "silence", "stop"]
"""How a primary goes; see the methods of Pair."""

SUBMITTERS = 4
PAUSE = 0.2
"""Seconds between two submissions of one of them, on average; they must not be faster than the slots for long."""


@dataclass(frozen=True)
class Round:
    """One failover, in seconds since the primary was dead: when the standby was promoted, when a task was accepted
    after that, when one began; and how many attempts came to nothing by it."""

    promoted: float
    accepted: float
    began: float
    interrupted: int


class Field(System[Pair]):
    """The service and the runners know the pair by the one URL that leads to both servers.

    `accepted`: the number of each task that the service has said 202 or 200 of, and when it was asked. `refusals`: what
    else it said, or what became of the request.
    """

    def __init__(
        self, pair: Pair, witness: Witness, seed: int, *, slots: int = 2, runners: int = 3, grace: float = 5.0
    ) -> None:
        super().__init__(pair, witness, handlers="tests.runner.handlers")
        self.slots = slots
        self.accepted: dict[int, float] = {}
        self.refusals: Counter[str] = Counter()
        self._dice = random.Random(seed)
        self._runners = runners
        self._grace = grace
        self._seed = seed
        self._submitters: list[Submitter] = []

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.insist("update lockgate.queue set slots = %s, grace = %s, max_attempts = 20", self.slots, self._grace)
            self.service = self.serve()
            for runner in [self.start() for _ in range(self._runners)]:
                runner.says("connected", LIMIT)
            for number in range(SUBMITTERS):
                client = self.stack.enter_context(httpx.Client(base_url=self.service.url, timeout=20))
                self._submitters.append(self._submitter(client, random.Random(f"{self._seed}-{number}")))
                self.stack.callback(self._submitters[-1].stop)
                self._submitters[-1].start()
            until(lambda: len(self.witness.executions) > self.slots, "the first executions", LIMIT)
        except BaseException:
            self.__exit__()
            raise
        return self

    # -- what happens -------------------------------------------------------------------------------------------------

    def fail_over(self, end: End = "kill", absent: float = 0) -> Round:
        """At a random moment under load the primary goes; `absent` seconds later the standby takes its place.

        Returns once the new primary has a standby of its own.
        """
        time.sleep(self._dice.uniform(0.2, 1.5))  # the moment, not a wait for anything
        before = self._attempts()
        ends = {
            "kill": self.server.kill_primary,
            "silence": self.server.silence_primary,
            "stop": self.server.stop_primary,
        }
        ends[end]()
        dead = time.monotonic()
        time.sleep(absent)  # as long as somebody needs to notice
        self.server.promote()
        promoted = time.monotonic()
        accepted = first(lambda: self.accepted.values(), promoted, "a task to be accepted")
        began = first(lambda: [execution.begin for execution in self.witness.executions], promoted, "a task to begin")
        self.server.add_standby()
        return Round(promoted - dead, accepted - dead, began - dead, self._attempts() - before)

    def begin(self, seconds: float) -> int:
        """Submits a task that takes as long as that, and waits until it executes; its number."""
        with self.server.owner() as owner:
            submit = "select lockgate.submit('default', 'nap', jsonb_build_object('seconds', %s::float), priority => 1)"
            [task] = owner.execute(submit, (seconds,)).fetchone() or [0]
        until(lambda: task in [each.task for each in self.witness.current()], "the task to begin", LIMIT)
        return int(task)

    def _attempts(self) -> int:
        [(count,)] = self.insist("select count(*) from lockgate.attempt")
        return int(count)

    def _submitter(self, client: httpx.Client, dice: random.Random) -> Submitter:
        """Gives each task a key, under which it is submitted until it is said to be stored."""

        def make() -> tuple[dict[str, Any], str]:
            task = {"kind": "nap", "payload": {"seconds": dice.choice([0.0, 0.0, 0.01, 0.05, 0.1, 0.2])}}
            return task, str(uuid.UUID(int=dice.getrandbits(128)))

        return Submitter(make, partial(self._accepted, client), lambda: dice.uniform(0, 2 * PAUSE))

    def _accepted(self, client: httpx.Client, one: tuple[dict[str, Any], str]) -> bool:
        """Whether the service has the task now, or nobody asks any more."""
        task, key = one
        try:
            answer = client.post("/tasks", json=task, headers={"Idempotency-Key": key})
        except httpx.TransportError as error:
            self.refusals[repr(error)] += 1
            return self.over.is_set()
        if answer.status_code in (200, 202):
            self.accepted[answer.json()["id"]] = time.monotonic()
            return True
        self.refusals[f"{answer.status_code}, Retry-After {answer.headers.get('retry-after')}"] += 1
        return False

    # -- how it went --------------------------------------------------------------------------------------------------

    def breaches(self) -> dict[str, Any]:
        """What of the promise was broken: nothing, hopefully. Ends the submitting, and waits for every task to end."""
        for submitter in self._submitters:
            submitter.stop()
        self.all_end()
        statuses = dict(self.insist("select id, status::text from lockgate.task"))
        pids = {pid for (pid,) in self.insist("select distinct pid from lockgate.runner")}
        ends = Counter(self.ends())
        found = {
            "accepted and lost": self.accepted.keys() - statuses.keys(),
            "accepted and not executed": self.accepted.keys() - {each.task for each in self.witness.executions},
            "not succeeded": {task: status for task, status in statuses.items() if status != "succeeded"},
            "not ended once": {task: ends[task] for task in statuses if ends[task] != 1},
            "more at once than slots": {q: most for q, most in self.witness.most.items() if most > self.slots},
            "refused without saying for how long": self.refusals.keys() - {"503, Retry-After 1"},
            "started again": {pid for pid in pids if not exists(pid)} or len(pids) > len(self.runners),
            "ended": [pid for pid in (self.service.popen.pid, *(each.pid for each in self.runners)) if not exists(pid)],
        }
        return {what: which for what, which in found.items() if which}


def first(times: Callable[[], Iterable[float]], after: float, what: str) -> float:
    """Waits for the first of `times` after that one."""
    return until(lambda: min((at for at in list(times()) if at > after), default=None), what, LIMIT, 0.002)
