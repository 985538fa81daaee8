"""The system across failovers: a pair of servers, the service, runners, people who submit, a witness outside."""

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Self

import httpx

from lockgate.local.witness import Witness
from lockgate.schema import apply, create_logins
from tests.contract import until
from tests.faults.failover.pair import LIMIT, Pair
from tests.runner.process import RunnerProcess, exists
from tests.service.conftest import Process

AUDIT = """
create table public.ended (task bigint not null, status text not null);
create function public.ended() returns trigger language plpgsql as
$$ begin insert into public.ended values (new.id, new.status); return null; end $$;
create trigger ended after update on lockgate.task for each row
  when (new.status in ('succeeded', 'failed', 'cancelled') and old.status is distinct from new.status)
  execute function public.ended();
"""
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


class Field:
    """Everything of one run. The service and the runners know the pair by the one URL that leads to both servers.

    `accepted`: the number of each task that the service has said 202 or 200 of, and when it was asked. `refusals`: what
    else it said, or what became of the request.
    """

    def __init__(
        self, pair: Pair, witness: Witness, seed: int, *, slots: int = 2, runners: int = 3, grace: float = 5.0
    ) -> None:
        self.pair = pair
        self.witness = witness
        self.slots = slots
        self.accepted: dict[int, float] = {}
        self.refusals: Counter[str] = Counter()
        self._dice = random.Random(seed)
        self._enough = threading.Event()
        apply(pair.primary.dsn())
        logins = create_logins(pair.primary.dsn(), pair.primary.password)
        with pair.owner() as owner:
            owner.execute(AUDIT)
            owner.execute("update lockgate.queue set slots = %s, grace = %s, max_attempts = 20", (slots, grace))
        self.service = Process("--port", "0", DATABASE_URL=pair.dsn(logins["service"]))
        self.runners = [
            RunnerProcess(pair.dsn(logins["runner"]), witness.address, module="lockgate run") for _ in range(runners)
        ]
        self._submitters = [
            threading.Thread(target=self._submit, args=(random.Random(f"{seed}-{number}"),))
            for number in range(SUBMITTERS)
        ]

    def __enter__(self) -> Self:
        try:
            for runner in self.runners:
                runner.says("connected", LIMIT)
            for submitter in self._submitters:
                submitter.start()
            until(lambda: len(self.witness.executions) > self.slots, "the first executions", LIMIT)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self.service.close()
        for runner in self.runners:
            runner.close()
        for submitter in self._submitters:
            if submitter.ident:
                submitter.join(LIMIT)

    # -- what happens -------------------------------------------------------------------------------------------------

    def fail_over(self, end: End = "kill", absent: float = 0) -> Round:
        """At a random moment under load the primary goes; `absent` seconds later the standby takes its place.

        Returns once the new primary has a standby of its own.
        """
        time.sleep(self._dice.uniform(0.2, 1.5))  # the moment, not a wait for anything
        before = self._attempts()
        ends = {"kill": self.pair.kill_primary, "silence": self.pair.silence_primary, "stop": self.pair.stop_primary}
        ends[end]()
        dead = time.monotonic()
        time.sleep(absent)  # as long as somebody needs to notice
        self.pair.promote()
        promoted = time.monotonic()
        accepted = first(lambda: self.accepted.values(), promoted, "a task to be accepted")
        began = first(lambda: [execution.begin for execution in self.witness.executions], promoted, "a task to begin")
        self.pair.add_standby()
        return Round(promoted - dead, accepted - dead, began - dead, self._attempts() - before)

    def begin(self, seconds: float) -> int:
        """Submits a task that takes as long as that, and waits until it executes; its number."""
        with self.pair.owner() as owner:
            submit = "select lockgate.submit('default', 'nap', jsonb_build_object('seconds', %s::float), priority => 1)"
            [task] = owner.execute(submit, (seconds,)).fetchone() or [0]
        until(lambda: task in [each.task for each in self.witness.current()], "the task to begin", LIMIT)
        return int(task)

    def _attempts(self) -> int:
        with self.pair.owner() as owner:
            row = owner.execute("select count(*) from lockgate.attempt").fetchone()
        return row[0] if row else 0

    def _submit(self, dice: random.Random) -> None:
        """Submits one task after the other, each again and again under its key until it is said to be stored."""
        with httpx.Client(base_url=self.service.url, timeout=20) as client:
            while not self._enough.is_set():
                self._enough.wait(dice.uniform(0, 2 * PAUSE))
                task = {"kind": "nap", "payload": {"seconds": dice.choice([0.0, 0.0, 0.01, 0.05, 0.1, 0.2])}}
                key = str(uuid.UUID(int=dice.getrandbits(128)))
                while not self._accepted(client, task, key):
                    time.sleep(0.05)

    def _accepted(self, client: httpx.Client, task: dict[str, Any], key: str) -> bool:
        """Whether the service has the task now, or nobody asks any more."""
        try:
            answer = client.post("/tasks", json=task, headers={"Idempotency-Key": key})
        except httpx.TransportError as error:
            self.refusals[repr(error)] += 1
            return self._enough.is_set()
        if answer.status_code in (200, 202):
            self.accepted[answer.json()["id"]] = time.monotonic()
            return True
        self.refusals[f"{answer.status_code}, Retry-After {answer.headers.get('retry-after')}"] += 1
        return False

    # -- how it went --------------------------------------------------------------------------------------------------

    def breaches(self) -> dict[str, Any]:
        """What of the promise was broken: nothing, hopefully. Ends the submitting, and waits for every task to end."""
        self._enough.set()
        for submitter in self._submitters:
            submitter.join(LIMIT)
        with self.pair.owner() as owner:
            unended = "select count(*) from lockgate.task where status in ('scheduled', 'queued', 'running')"
            until(lambda: owner.execute(unended).fetchone() == (0,), "every task to end", LIMIT, 0.1)
            statuses = dict(owner.execute("select id, status::text from lockgate.task").fetchall())
            ends = Counter(task for (task,) in owner.execute("select task from public.ended"))
            pids = {pid for (pid,) in owner.execute("select distinct pid from lockgate.runner")}
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
