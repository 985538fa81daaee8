"""What a handler can do, and what the row says afterwards. The runner outlives all of it."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lockgate.witness import Witness
from tests.contract import Contract, Task, until
from tests.runner.conftest import Start
from tests.runner.process import RunnerProcess, children, command_line, exists


@pytest.fixture
def runner(start: Start) -> RunnerProcess:
    runner = start(kill_after=0.5)
    runner.says("slot taken")
    return runner


def ended(q: Contract, task: int, limit: float = 45) -> Task:
    return until(
        lambda: (row := q.task(task)).status in ("succeeded", "failed", "cancelled") and row,
        f"task {task} to end",
        limit,
    )


@pytest.mark.parametrize("kind", ["nap", "async_nap"])
def test_a_handler_may_be_sync_or_async(q: Contract, runner: RunnerProcess, kind: str) -> None:
    row = ended(q, q.submit(kind=kind, payload={"seconds": 0.01}))
    assert (row.status, row.result, row.attempt) == ("succeeded", "rested", 1)
    assert row.exec_time is not None
    assert 0.01 <= row.exec_time < 15


def test_a_handler_gets_the_payload_and_its_task(q: Contract, runner: RunnerProcess) -> None:
    payload = {"text": "naïve ☃ \U0001f600", "numbers": [1, 2.5, 12345678901234567890], "none": None}
    row = ended(q, q.submit(kind="echo", payload=payload))
    assert row.result == {"payload": payload, "attempt": 1, "lease": row.lease}


def test_an_exception_is_recorded_with_type_message_and_traceback(q: Contract, runner: RunnerProcess) -> None:
    row = ended(q, q.submit(kind="boom", payload={"message": "no such file"}, max_attempts=1))
    assert row.status == "failed"
    assert row.error["type"] == "ValueError"
    assert row.error["message"] == "no such file\N{REPLACEMENT CHARACTER}?"
    assert "in boom" in row.error["traceback"]
    assert "executor/child" not in row.error["traceback"]


def test_a_failed_attempt_is_retried_after_a_back_off(q: Contract, runner: RunnerProcess) -> None:
    q.db.query("update lockgate.queue set backoff_base = 0.2")
    row = ended(q, q.submit(kind="boom", payload={"times": 2}))
    assert (row.status, row.attempt, row.result) == ("succeeded", 3, "survived")
    assert [(a.attempt, a.outcome, a.error["type"]) for a in q.attempts(row.id)] == [
        (1, "failed", "ValueError"),
        (2, "failed", "ValueError"),
    ]


def test_a_handler_can_ask_for_another_attempt_or_for_none(q: Contract, runner: RunnerProcess) -> None:
    again = q.submit(kind="again", payload={"after": 0.1}, max_attempts=2)
    never = q.submit(kind="never", payload={"reason": "no such customer"})
    assert ended(q, never).error["message"] == "no such customer"
    assert q.task(never).attempt == 1
    assert ended(q, again).attempt == 2


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        ({"seconds": "long"}, "seconds"),
        ({"secs": 1}, "secs"),
        ([1], "object"),
    ],
)
def test_a_payload_that_does_not_fit_fails_the_attempt_and_names_the_field(
    q: Contract, runner: RunnerProcess, payload: object, says: str
) -> None:
    row = ended(q, q.submit(kind="nap", payload=payload, max_attempts=1))
    assert row.error["type"] == "ValidationError"
    assert says in row.error["message"]


def test_an_unknown_kind_fails_the_attempt_and_names_the_kinds_there_are(q: Contract, runner: RunnerProcess) -> None:
    row = ended(q, q.submit(kind="knit", max_attempts=1))
    assert "'knit'" in row.error["message"]
    assert "async_nap" in row.error["message"]


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("nan", "JSON"),
        ("nul", "cannot be stored"),
        ("surrogate", "surrogate"),
        ("object", "object"),
        ("large", "1,048,576"),
    ],
)
def test_a_result_that_cannot_be_stored_fails_the_attempt_and_says_so(
    q: Contract, runner: RunnerProcess, what: str, says: str
) -> None:
    row = ended(q, q.submit(kind="result", payload={"what": what}, max_attempts=1))
    assert row.status == "failed"
    assert says in row.error["message"]
    assert ended(q, q.submit(kind="nap", payload={"seconds": 0})).status == "succeeded"


@pytest.mark.parametrize(
    ("kind", "says"),
    [("segfault", "SIGSEGV"), ("leave", "exited with 3"), ("fork_and_die", "SIGKILL"), ("close_everything", "SIGKILL")],
)
def test_an_executor_that_dies_costs_one_attempt_and_not_the_runner(
    q: Contract, runner: RunnerProcess, witness: Witness, kind: str, says: str
) -> None:
    row = ended(q, q.submit(kind=kind, max_attempts=1))
    assert (row.status, row.error["type"]) == ("failed", "ExecutorDied")
    assert says in row.error["message"]
    assert ended(q, q.submit(kind="nap", payload={"seconds": 0})).status == "succeeded"
    until(lambda: not witness.current(), "the witness to see every process gone")


def test_what_a_handler_prints_is_logged_with_its_task(q: Contract, runner: RunnerProcess) -> None:
    task = q.submit(kind="say", payload={"text": "one\ntwo"})
    assert runner.says("output", task=task)["line"] == "one"
    assert runner.says("output", task=task, count=2)["line"] == "two"


def test_an_attempt_over_its_timeout_is_stopped(q: Contract, runner: RunnerProcess) -> None:
    row = ended(q, q.submit(kind="nap", payload={"seconds": 60}, timeout=0.3, max_attempts=1))
    assert (row.status, row.error["type"]) == ("failed", "Timeout")
    assert row.exec_time is not None
    assert row.exec_time < 30


@pytest.mark.parametrize("kind", ["nap", "async_nap", "stubborn"])
def test_a_cancelled_handler_is_asked_and_then_killed(q: Contract, start: Start, witness: Witness, kind: str) -> None:
    runner = start(kill_after=0.5 if kind == "stubborn" else 60)
    runner.says("slot taken")
    task = q.submit(kind=kind, payload={"seconds": 100})
    runner.says("taken", task=task)
    until(witness.current, "the handler to begin")
    (executor,) = runner.executors()
    assert q.cancel(task) == "running"
    assert ended(q, task).status == "cancelled"
    assert exists(executor) is (kind != "stubborn")
    assert ended(q, q.submit(kind="nap", payload={"seconds": 0})).status == "succeeded"


def test_a_forced_cancel_kills_at_once(q: Contract, start: Start) -> None:
    runner = start(kill_after=60)
    runner.says("slot taken")
    task = q.submit(kind="stubborn", payload={"seconds": 100})
    runner.says("taken", task=task)
    q.cancel(task, force=True)
    assert ended(q, task).status == "cancelled"


def test_a_handler_that_keeps_the_interpreter_for_longer_than_the_grace_is_killed(
    q: Contract, runner: RunnerProcess
) -> None:
    q.db.query("update lockgate.queue set grace = 1")
    ended(q, q.submit(kind="nap", payload={"seconds": 0}))
    row = ended(q, q.submit(kind="hold_interpreter", payload={"seconds": 90}, max_attempts=1))
    assert row.status == "failed"
    assert row.exec_time is not None
    assert row.exec_time < 30


@contextmanager
def reaper_frozen(runner: RunnerProcess) -> Iterator[None]:
    """It would do the same as the runner, a little later."""
    (reaper,) = [pid for pid in children(runner.pid) if "reaper.py" in command_line(pid)]
    os.kill(reaper, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(reaper, signal.SIGCONT)


@pytest.mark.parametrize("how", ["killed", "cancelled"])
def test_what_a_handler_has_started_is_dead_before_its_end_is_recorded(
    q: Contract, runner: RunnerProcess, how: str
) -> None:
    task = q.submit(kind="start_child", payload={"seconds": 600}, max_attempts=1)
    runner.says("taken", task=task)
    (executor,) = runner.executors()
    (child,) = until(lambda: children(executor), "the program to start")
    with reaper_frozen(runner):
        if how == "killed":
            os.kill(executor, signal.SIGKILL)
        else:
            q.cancel(task, force=True)
        ended(q, task)
        assert not exists(child)


def test_what_a_dead_executor_has_forked_dies_though_it_holds_all_that_the_executor_held(
    q: Contract, runner: RunnerProcess, witness: Witness
) -> None:
    with reaper_frozen(runner):
        ended(q, q.submit(kind="fork_and_die", max_attempts=1))
        until(lambda: not witness.current(), "the witness to see every process gone")


def test_a_killed_executor_takes_what_it_forked_with_it(q: Contract, runner: RunnerProcess) -> None:
    task = q.submit(kind="nap", payload={"seconds": 60}, max_attempts=1)
    runner.says("taken", task=task)
    (executor,) = runner.executors()
    os.kill(executor, signal.SIGKILL)
    assert ended(q, task).error["type"] == "ExecutorDied"
    assert children(executor) == []
