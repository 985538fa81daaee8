"""A runner whose session was lost: what it may still do, and what it may not."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lockgate.witness import Witness
from tests.contract import Contract, Session, Threads, until
from tests.proxy import Proxy
from tests.runner.conftest import Start
from tests.runner.process import RunnerProcess, exists

GRACE = 10.0


def busy(q: Contract, start: Start) -> tuple[RunnerProcess, int, int]:
    """A runner that executes a long task in the only slot of its queue; the runner, its executor, the task."""
    q.queue(slots=1, grace=GRACE)
    runner = start()
    runner.says("slot taken")
    task = q.submit(kind="nap", payload={"seconds": 60})
    runner.says("taken", task=task)
    (executor,) = runner.executors()
    return runner, executor, task


def end_session(q: Contract) -> None:
    """Ends the session of the one runner that holds slots."""
    q.db.query("select pg_terminate_backend(pid) from lockgate.occupied_slots() where pid is not null")


@contextmanager
def robbed(q: Contract, threads: Threads) -> Iterator[Session]:
    """The slot's lock is another session's from the moment the runner's is ended, which it is."""
    thief = q.runner("thief")
    lock = "select pg_advisory_lock(lockgate.lock_class(%s), 1)"
    waiting = threads.start(thief.value, lock, q.queue_id())
    q.until_waiting(thief.conn)
    end_session(q)
    waiting.result(10)
    yield thief
    thief.release(1)


def age(q: Contract, session: int) -> float:
    """Seconds since that session was registered."""
    seconds: float = q.db.value(
        "select extract(epoch from clock_timestamp() - since)::float8 from lockgate.runner where session = %s", session
    )
    return seconds


def test_nothing_new_starts_within_the_grace_after_a_reconnect(q: Contract, start: Start) -> None:
    """Neither in a slot taken again nor in a new one: somebody else who was cut off may still execute there."""
    q.queue(slots=1, grace=GRACE)
    runner = start(concurrency=2)
    runner.says("slot taken")
    end_session(q)
    session = runner.says("connected", count=2)["session"]
    q.set_slots(2)
    tasks = [q.submit(kind="nap", payload={"seconds": 0}) for _ in range(2)]
    runner.says("slot taken", count=2)
    for task in tasks:
        until(lambda task=task: q.task(task).status == "succeeded", "its end", GRACE + 30)  # type: ignore[misc]
    waited = q.db.value(
        "select extract(epoch from min(start_time) - (select since from lockgate.runner where session = %s))::float8"
        " from lockgate.task",
        session,
    )
    assert GRACE <= waited < GRACE + 20


def test_a_runner_whose_task_was_adopted_meanwhile_kills_its_executor(
    q: Contract, start: Start, threads: Threads, witness: Witness
) -> None:
    runner, executor, task = busy(q, start)
    with robbed(q, threads) as thief:
        assert thief.adopt(q.task(task)) == "queued"
    runner.says("slot lost", task=task)
    until(lambda: not exists(executor), "the executor to be gone")
    until(lambda: q.task(task).attempt == 2, "the second attempt", GRACE + 30)
    assert witness.most == {"default": 1}


def test_answers_on_a_session_without_the_slot_do_not_extend_the_deadline(
    q: Contract, start: Start, threads: Threads
) -> None:
    """The runner is connected again and pings, but the slot is somebody else's. Then it freezes, too."""
    runner, executor, _ = busy(q, start)
    with robbed(q, threads):
        robbed_at = time.monotonic()
        session = runner.says("connected", count=2)["session"]
        until(lambda: age(q, session) > GRACE / 2, "many answers on the new session")
        assert exists(executor)
        runner.signal(signal.SIGSTOP)
        try:
            until(lambda: not exists(executor), "the kernel to kill the executor", GRACE + 30)
            assert time.monotonic() - robbed_at < GRACE + 2
        finally:
            runner.signal(signal.SIGCONT)


def test_a_runner_that_is_kept_from_its_slot_kills_its_executor_in_time(
    q: Contract, start: Start, threads: Threads
) -> None:
    runner, executor, task = busy(q, start)
    with robbed(q, threads):
        robbed_at = time.monotonic()
        until(lambda: not exists(executor), "the executor to be gone", GRACE + 30)
        assert time.monotonic() - robbed_at < GRACE + 2
    runner.says("failed", task=task, status="queued")


def test_a_runner_ends_what_is_left_of_its_own_session_and_keeps_its_task(
    q: Contract, start: Start, witness: Witness
) -> None:
    """The network has lost the connection without a word: for the server the old session lives, and holds the slot."""
    q.queue(slots=1, grace=GRACE)
    with Proxy(q.db.runner) as proxy:
        runner = start(proxy.dsn)
        runner.says("slot taken")
        task = q.submit(kind="nap", payload={"seconds": 8})
        runner.says("taken", task=task)
        ghost = q.db.value("select pid from lockgate.occupied_slots() where pid is not null")
        proxy.strand()
        runner.says("own ghost ended", backend_pid=ghost)
        runner.says("slot kept", task=task)
        ended = until(lambda: (row := q.task(task)).status == "succeeded" and row, "its end")
    assert ended.attempt == 1
    assert len(witness.executions) == 1


def test_a_task_outlives_several_short_losses(q: Contract, start: Start, witness: Witness) -> None:
    runner, _, task = busy(q, start)
    for number in (1, 2, 3):
        end_session(q)
        runner.says("slot kept", task=task, count=number)
    assert (q.task(task).attempt, q.task(task).status) == (1, "running")
    assert len(witness.executions) == 1
