"""How a runner stops, and what it leaves."""

import signal

import psycopg
import pytest

from lockgate.witness import Witness
from tests.contract import Contract, until
from tests.database import Database
from tests.runner.conftest import Start
from tests.runner.process import RunnerProcess, exists

pytestmark = pytest.mark.every_python


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopping_runner_finishes_what_it_runs_and_takes_nothing_new(
    q: Contract, start: Start, number: signal.Signals
) -> None:
    runner = start()
    runner.says("slot taken")
    first, second = (q.submit(kind="nap", payload={"seconds": 6}) for _ in range(2))
    runner.says("taken", task=first)
    runner.signal(number)
    assert runner.process.wait(20) == 0
    assert q.task(first).status == "succeeded"
    assert q.task(second).status == "queued"
    assert q.db.value("select count(*) from lockgate.runner") == 0
    assert q.db.value("select count(*) from lockgate.occupied_slots()") == 0


def test_a_task_over_the_shutdown_timeout_is_given_back_uncounted(q: Contract, start: Start) -> None:
    runner = start(shutdown_timeout=0.2, kill_after=0.5)
    runner.says("slot taken")
    task = q.submit(kind="stubborn", payload={"seconds": 60})
    runner.says("taken", task=task)
    assert runner.stop() == 0
    row = q.task(task)
    assert (row.status, row.attempt) == ("queued", 0)
    assert [attempt.outcome for attempt in q.attempts(task)] == ["returned"]


def test_a_second_signal_stops_at_once(q: Contract, start: Start) -> None:
    runner = start()
    runner.says("slot taken")
    task = q.submit(kind="nap", payload={"seconds": 60})
    runner.says("taken", task=task)
    runner.signal(signal.SIGTERM)
    runner.says("stopping")
    assert runner.stop(25) == 0
    assert (q.task(task).status, q.task(task).attempt) == ("queued", 0)


def test_executors_end_with_a_killed_runner(q: Contract, start: Start) -> None:
    q.queue(grace=100)
    runner = start()
    runner.says("slot taken")
    q.submit(kind="stubborn", payload={"seconds": 100})
    runner.says("taken")
    (executor,) = runner.executors()
    runner.kill()
    until(lambda: not exists(executor), "the executor to be gone", 30)


def test_an_executor_that_hears_nothing_ends_with_a_killed_runner_all_the_same(
    q: Contract, start: Start, witness: Witness
) -> None:
    """Its handler keeps the interpreter to itself, so that nobody reads the pipe; its deadline is far away."""
    q.queue(grace=100)
    runner = start()
    runner.says("slot taken")
    task = q.submit(kind="hold_interpreter", payload={"seconds": 100})
    runner.says("taken", task=task)
    (executor,) = runner.executors()
    until(lambda: witness.current(), "the handler to begin")
    runner.kill()
    until(lambda: not exists(executor), "the executor to be gone", 30)


def test_a_runner_whose_database_stays_away_stops_all_the_same(db: Database, start: Start) -> None:
    runner = start("postgresql://nobody@127.0.0.1:1/nowhere")
    runner.says("database unreachable")
    assert runner.stop() == 0


def test_handlers_that_cannot_be_imported_end_the_runner_with_one_line(db: Database) -> None:
    runner = RunnerProcess(db.runner, handlers="no_such_module")
    try:
        assert runner.process.wait(20) == 1
        until(lambda: runner.noise, "a line")
        assert runner.noise == [
            "lockgate: the handlers cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'\n"
        ]
    finally:
        runner.close()


def test_a_database_without_the_schema_ends_the_runner_with_one_line(db: Database) -> None:
    with psycopg.connect(db.owner, autocommit=True) as owner:
        owner.execute("drop schema lockgate cascade")
    runner = RunnerProcess(db.runner)
    try:
        assert runner.process.wait(20) == 1
        until(lambda: runner.noise, "a line")
        assert runner.noise == ["lockgate: there is no Lockgate schema in this database; run `lockgate migrate`\n"]
    finally:
        runner.close()


def test_a_database_url_that_is_none_ends_the_runner_without_repeating_it() -> None:
    runner = RunnerProcess("postgresql://me:secret@[broken")
    try:
        assert runner.process.wait(20) == 1
        until(lambda: runner.noise, "a line")
        assert len(runner.noise) == 1
        assert "is not a connection string" in runner.noise[0]
        assert "secret" not in str(runner.lines) + runner.noise[0]
    finally:
        runner.close()


def test_a_runner_without_a_database_url_says_what_is_missing() -> None:
    runner = RunnerProcess("")
    try:
        assert runner.process.wait(20) == 2
        until(lambda: "DATABASE_URL" in "".join(runner.noise), "a line that names it")
        assert "Traceback" not in "".join(runner.noise)
    finally:
        runner.close()
