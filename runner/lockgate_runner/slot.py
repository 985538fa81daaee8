"""A slot this runner holds, or held a moment ago: its executor, its task, and the outcome that is not recorded yet."""

import math
from dataclasses import dataclass
from time import monotonic
from typing import Literal

import structlog

from lockgate_runner.db import Claimed
from lockgate_runner.executor import watchdog
from lockgate_runner.executor.process import Died, Executor, describe_exit
from lockgate_runner.executor.protocol import End, Error, Execute

Reason = Literal["cancel", "timeout", "stop", "lost", "memory"]
"""Why the runner interrupted or killed a handler."""

log = structlog.get_logger()


@dataclass(slots=True)
class Outcome:
    """How an attempt ended, and how often the database has refused to record it."""

    end: End
    seconds: float
    refusals: int = 0
    not_before: float = 0.0
    """When to try again, on the clock of deadlines."""


@dataclass(slots=True, eq=False)
class Slot:
    """Slot ``number`` of a queue. Times are on the clock of deadlines unless said otherwise."""

    queue: int
    queue_name: str
    number: int
    executor: Executor | None = None
    """None while one is being started."""

    claim_from: float = 0.0
    """No new task before this time: after a lost session, a grace later."""

    confirmed: float | None = None
    """Statements sent since then prove that the slot is ours; None while that is in doubt after a lost session."""

    regain_until: float = 0.0
    """While unconfirmed: how long to try to take it back."""

    yielding: bool = False
    """Release it after this task: another queue has due work and no runner for it."""

    task: Claimed | None = None
    until: float = 0.0
    """The deadline the executor has been given."""

    started: float = 0.0
    """When the executor was given the task, on the monotonic clock."""

    timeout_at: float = math.inf
    reason: Reason | None = None
    kill_at: float = math.inf
    outcome: Outcome | None = None
    progress: bytes | None = None
    """Reported by the handler and not stored yet."""

    progress_from: float = 0.0
    """When the next progress may be stored."""

    @property
    def idle(self) -> bool:
        return self.task is None

    @property
    def executing(self) -> bool:
        """Whether a handler may be executing here: the executor has the task, and neither answered nor died."""
        return self.task is not None and self.outcome is None

    @property
    def tag(self) -> dict[str, object]:
        """The fields that every log line about this slot has."""
        tag: dict[str, object] = {"queue": self.queue_name, "slot": self.number}
        if task := self.task:
            tag |= {"task": task.task, "kind": task.kind, "attempt": task.attempt, "lease": task.lease}
        return tag

    def start(self, executor: Executor, task: Claimed, until: float) -> None:
        """Gives the task to the executor: from here on it executes."""
        self.clear()
        self.task, self.until, self.started = task, until, monotonic()
        self.timeout_at = watchdog.now() + task.timeout if task.timeout else math.inf
        of = (task.task, task.lease, task.queue, task.kind, task.payload, task.attempt, task.max_attempts)
        executor.execute(Execute(*of, until))

    def extend(self, until: float) -> None:
        """Extends the executor's deadline."""
        self.until = until
        if self.executor:
            self.executor.live_until(until)

    def stop(self, reason: Reason, kill_after: float) -> None:
        """Interrupts the handler and sets the time to kill it; kills it without an interrupt if that is now."""
        if not self.executing or self.executor is None or self.executor.lease is None:
            return  # it has ended, and perhaps the runner has not taken the answer yet
        if self.reason is None:
            self.reason = reason
            if kill_after > 0:
                self.executor.interrupt()
        self.kill_at = min(self.kill_at, watchdog.now() + kill_after)

    def cancel(self, mode: str, kill_after: float) -> None:
        """Stops the handler because its task was cancelled."""
        if self.executing and (self.reason is None or mode == "force"):
            log.info("cancel requested", mode=mode, **self.tag)
            self.stop("cancel", 0 if mode == "force" else kill_after)

    def ended(self, end: End, seconds: float) -> None:
        """Keeps the end that the executor has answered, as it is to be recorded."""
        if self.task and self.outcome is None and end.lease == self.task.lease:
            self.outcome = Outcome(self._judged(end, self.task, seconds), seconds)

    def died(self, death: Died) -> None:
        """Ends the task of a dead executor, unless it has answered before."""
        if not self.executing or self.task is None:
            return
        if self.reason is None and death.at >= self.until:
            self.reason = "lost"
        error = Error("ExecutorDied", f"the process executing it {describe_exit(death.code)}")
        self.ended(End(self.task.lease, "raised", error=error), death.seconds)

    def _judged(self, end: End, task: Claimed, seconds: float) -> End:
        """Returns the end by the reason of a stop. A handler that returned all the same has succeeded."""
        if end.outcome == "returned":
            return end
        match self.reason:
            case "timeout":
                error = Error("Timeout", f"stopped after {seconds:.1f} s; its limit is {task.timeout} s")
                return End(end.lease, "raised", error=error)
            case "memory":
                error = Error("MemoryExceeded", "its process occupied more memory than the runner's limit")
                return End(end.lease, "raised", error=error)
            case "lost":
                error = Error("ConnectionLost", "killed because its runner could not reach the database for too long")
                return End(end.lease, "retry", error=error, retry_after=0)
            case "cancel":
                return End(end.lease, "cancelled", error=end.error)
            case _:
                return end

    def clear(self) -> None:
        """Forgets the task: its outcome is recorded, or is no longer ours to record."""
        self.task, self.outcome, self.reason = None, None, None
        self.kill_at, self.timeout_at = math.inf, math.inf
        self.progress, self.progress_from = None, 0.0
