"""A slot this runner holds, or held a moment ago: its executor, its task, and what is still to be told about it."""

from dataclasses import dataclass
from time import monotonic
from typing import Literal

from lockgate_runner.claimed import Claimed
from lockgate_runner.executor import watchdog
from lockgate_runner.executor.process import Executor, describe_exit
from lockgate_runner.executor.protocol import Ended, Error

Reason = Literal["cancel", "timeout", "stop", "lost", "memory"]
"""Why a handler was asked or made to stop."""


@dataclass(slots=True)
class Outcome:
    """How an attempt ended, waiting to be recorded."""

    ended: Ended
    seconds: float
    tries: int = 0
    not_before: float = 0.0
    """When to try again after the database refused to write; on the clock of `deadline`."""


@dataclass(slots=True, eq=False)
class Slot:
    """Slot ``number`` of a queue. Times are on the clock of `deadline` unless said otherwise."""

    queue: int
    queue_name: str
    number: int
    executor: Executor | None = None
    """None while one is being started."""

    held: bool = True
    """False once it was let go."""

    claim_from: float = 0.0
    """No new task before this time: after a lost session, a grace later."""

    confirmed: float | None = None
    """Statements sent since then prove that the slot is ours; None while that is in doubt after a lost session."""

    task: Claimed | None = None
    until: float = 0.0
    """The deadline the executor has been given."""

    started: float = 0.0
    """When the task was given to the executor, on the monotonic clock, for its seconds."""

    timeout_at: float | None = None

    reason: Reason | None = None
    kill_at: float | None = None
    outcome: Outcome | None = None
    progress: bytes | None = None
    """Reported by the handler and not stored yet."""

    progress_from: float = 0.0
    """When the next progress may be stored."""

    regain_until: float = 0.0
    """While unconfirmed: how long to try to take it back."""

    yielding: bool = False
    """Let it go after this task: another queue has work and nobody free to do it."""

    @property
    def executing(self) -> bool:
        """Whether a handler may be executing here: given to the executor, neither answered nor dead."""
        return self.task is not None and self.outcome is None

    @property
    def idle(self) -> bool:
        return self.task is None

    @property
    def seconds(self) -> float:
        """Seconds since the task was given to the executor."""
        return monotonic() - self.started

    @property
    def tag(self) -> dict[str, object]:
        """What goes with every log line about this slot."""
        tag: dict[str, object] = {"queue": self.queue_name, "slot": self.number}
        if self.task:
            tag |= {
                "task": self.task.task,
                "kind": self.task.kind,
                "attempt": self.task.attempt,
                "lease": self.task.lease,
            }
        return tag

    def start(self, executor: Executor, task: Claimed, until: float) -> None:
        """Gives the task to the executor: from here on it executes."""
        self.clear()
        self.task, self.until, self.started = task, until, monotonic()
        self.timeout_at = watchdog.now() + task.timeout if task.timeout else None
        executor.execute(task, until)

    def extend(self, until: float) -> None:
        self.until = until
        if self.executor:
            self.executor.live_until(until)

    def stop(self, reason: Reason, kill_after: float) -> None:
        """Asks the handler to stop, and sets the time for killing it; with no time to ask, kills it."""
        if not self.executing:
            return
        kill_at = watchdog.now() + kill_after
        if self.reason is None:
            self.reason = reason
            if kill_after > 0 and self.executor:
                self.executor.ask()
        if self.kill_at is None or kill_at < self.kill_at:
            self.kill_at = kill_at

    def answered(self, ended: Ended) -> None:
        """The executor has told how the handler ended."""
        if self.task and self.outcome is None and ended.lease == self.task.lease:
            self.outcome = Outcome(self._judged(ended), self.seconds)

    def died(self, code: int) -> None:
        """The executor is dead; what it executed, if anything, has ended without an answer."""
        if not self.executing or self.task is None:
            return
        if self.reason is None and watchdog.now() >= self.until:
            self.reason = "lost"
        what = describe_exit(code)
        error = Error("ExecutorDied", f"the process executing it {what}")
        self.answered(Ended(self.task.lease, "raised", error=error))

    def _judged(self, ended: Ended) -> Ended:
        """The same end in the light of why we stopped it. A handler that returned all the same has succeeded."""
        if ended.outcome == "returned" or self.task is None:
            return ended
        match self.reason:
            case "timeout":
                error = Error("Timeout", f"stopped after {self.seconds:.1f} s; its limit is {self.task.timeout} s")
                return Ended(ended.lease, "raised", error=error)
            case "memory":
                error = Error("MemoryExceeded", "its process occupied more memory than the runner's limit")
                return Ended(ended.lease, "raised", error=error)
            case "lost":
                error = Error("ConnectionLost", "killed because its runner could not reach the database for too long")
                return Ended(ended.lease, "retry", error=error, retry_after=0)
            case "cancel":
                return Ended(ended.lease, "cancelled", error=ended.error)
            case _:
                return ended

    def clear(self) -> None:
        """Everything about the task is recorded, or is no longer ours to record."""
        self.task, self.outcome, self.reason, self.kill_at, self.timeout_at = None, None, None, None, None
        self.progress, self.progress_from = None, 0.0
