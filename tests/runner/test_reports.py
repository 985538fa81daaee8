"""Reports of handlers, what wears their processes out, and chores beside the work."""

from datetime import timedelta

import pytest

from tests.contract import Contract, until
from tests.runner.conftest import Start
from tests.runner.process import RunnerProcess
from tests.runner.test_outcomes import ended


@pytest.fixture
def runner(start: Start) -> RunnerProcess:
    runner = start()
    runner.says("slot taken")
    return runner


def test_progress_shows_while_the_task_runs_and_its_last_value_stays(q: Contract, runner: RunnerProcess) -> None:
    task = q.submit(kind="count_to", payload={"total": 30, "pause": 0.2})
    seen = until(lambda: (row := q.task(task)).progress and row, "some progress")
    assert seen.status == "running"
    assert seen.progress["total"] == 30
    assert ended(q, task).progress == {"done": 30, "total": 30}


def test_progress_reported_faster_than_it_can_be_stored_costs_no_time(q: Contract, runner: RunnerProcess) -> None:
    row = ended(q, q.submit(kind="count_to", payload={"total": 20000, "pause": 0}))
    assert row.progress == {"done": 20000, "total": 20000}
    assert row.exec_time is not None
    assert row.exec_time < 10


def test_what_a_handler_prints_can_be_read_beside_its_task(q: Contract, runner: RunnerProcess) -> None:
    first = q.submit(kind="say", payload={"text": "one ☃"})
    second = q.submit(kind="say", payload={"text": "two"})
    for task, text in ((first, "one ☃\n"), (second, "two\n")):
        until(lambda task=task, text=text: q.db.value("select text from output where task = %s", task) == text)  # type: ignore[misc]


def test_a_handler_may_print_a_gigabyte(q: Contract, runner: RunnerProcess) -> None:
    row = ended(q, q.submit(kind="print_much", payload={"megabytes": 1024}), 60)
    assert row.status == "succeeded"
    text = until(
        lambda: (t := q.db.value("select text from output where task = %s", row.id)) and t.endswith("the end\n") and t
    )
    assert len(text) == 65536
    assert len(runner.events("output")) < 20000


def test_a_set_up_function_runs_once_in_each_executor(q: Contract, runner: RunnerProcess) -> None:
    first, second = (ended(q, q.submit(kind="loaded")).result for _ in range(2))
    assert first == second
    assert first[0] == first[1]


def test_an_executor_is_replaced_after_its_share_of_tasks(q: Contract, start: Start) -> None:
    start(recycle_tasks=2).says("slot taken")
    pids = [ended(q, q.submit(kind="loaded")).result[0] for _ in range(6)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4] == pids[5]


def test_an_executor_over_the_memory_limit_is_killed_and_the_attempt_says_why(q: Contract, start: Start) -> None:
    start(memory_limit=200).says("slot taken")
    row = ended(q, q.submit(kind="eat", payload={"megabytes": 400}, max_attempts=1))
    assert (row.status, row.error["type"]) == ("failed", "MemoryExceeded")
    assert ended(q, q.submit(kind="nap", payload={"seconds": 0})).status == "succeeded"


def test_ended_tasks_are_removed_when_their_time_is_over(q: Contract, start: Start) -> None:
    q.db.query("update lockgate.queue set retention = 1")
    start().says("slot taken")
    ended(q, q.submit(kind="say", payload={"text": "gone soon"}))
    until(lambda: q.db.value("select count(*) from task") == 0, "the task to be removed")
    assert q.db.value("select count(*) from output") == 0


def test_a_runner_counts_what_has_ended_and_removes_what_is_kept_no_longer(q: Contract, start: Start) -> None:
    kept = q.row("succeeded", finish_time=q.now() - timedelta(minutes=5))
    q.queue("short", retention=0)
    q.row("failed", queue="short", finish_time=q.now() - timedelta(minutes=5))

    start()

    totals = "select queue, succeeded, failed from lockgate.stats_total order by queue"
    until(lambda: q.db.query(totals) == [("default", 1, 0), ("short", 0, 1)], "both to be counted")
    until(lambda: [task.id for task in q.tasks()] == [kept], "the old one to be gone")


def test_a_task_submitted_for_later_starts_when_its_time_has_come_and_not_at_the_next_look(
    q: Contract, start: Start
) -> None:
    start(poll=60).says("slot taken")
    for delay in (0.3, 1.7):
        row = ended(q, q.submit(kind="nap", payload={"seconds": 0}, delay=delay))
        late = q.db.value("select extract(epoch from start_time - run_at)::float8 from task where id = %s", row.id)
        assert 0 <= late < 20
