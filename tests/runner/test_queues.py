"""Several queues, changed while runners work."""

import os
from pathlib import Path

import psycopg

from lockgate.schema import VERSION
from lockgate.witness import Witness
from tests.contract import Contract, until
from tests.database import Database
from tests.runner.conftest import Start
from tests.runner.process import RunnerProcess
from tests.runner.test_outcomes import ended


def test_a_standby_gets_in_when_the_slots_are_raised_and_leaves_when_they_are_lowered(
    q: Contract, start: Start, witness: Witness
) -> None:
    q.db.query("select set_slots('default', 1)")
    runners = [start(), start()]
    for runner in runners:
        runner.says("connected")
    tasks = [q.submit(kind="nap", payload={"seconds": 1.5}) for _ in range(6)]
    until(lambda: len(witness.current()) == 1, "one at work")
    q.db.query("select set_slots('default', 2)")
    until(lambda: len(witness.current()) == 2, "two at work")
    q.db.query("select set_slots('default', 1)")
    until(lambda: q.db.value("select count(*) from task where status = 'running'") == 1, "one to end")
    for task in tasks:
        assert ended(q, task).attempt == 1
    until(lambda: sum(len(runner.executors()) for runner in runners) == 1, "the executor of the second to be gone")


def test_a_paused_queue_starts_nothing_and_goes_on_when_resumed(q: Contract, start: Start) -> None:
    start().says("slot taken")
    q.db.query("select pause('default')")
    task = q.submit(kind="nap", payload={"seconds": 0})
    other = q.submit(kind="nap", payload={"seconds": 0})
    q.db.query("select create_queue('marker')")
    marker = q.submit(kind="nap", queue="marker", payload={"seconds": 0})
    ended(q, marker)
    assert [q.task(t).status for t in (task, other)] == ["queued", "queued"]
    q.db.query("select resume('default')")
    assert ended(q, task).status == "succeeded"


def test_one_runner_serves_two_busy_queues_without_starving_either(q: Contract, start: Start) -> None:
    q.db.query("select create_queue('other')")
    for queue in ("default", "other"):
        q.db.value("select count(submit(%s, 'nap', '{\"seconds\": 0.05}')) from generate_series(1, 100)", queue)
    start().says("slot taken")
    until(
        lambda: (
            q.db.value(
                "select count(distinct queue) = 2 from (select queue from task where status = 'succeeded') ended"
            )
            and q.db.value("select count(*) > 100 from task where status = 'queued'")
        ),
        "both to get on",
    )


def test_a_runner_serves_only_the_queues_it_is_told_to(q: Contract, start: Start) -> None:
    q.db.query("select create_queue('mine')")
    start(queues="mine").says("slot taken", queue="mine")
    not_mine = q.submit(kind="nap", payload={"seconds": 0})
    assert ended(q, q.submit(kind="nap", queue="mine", payload={"seconds": 0})).status == "succeeded"
    assert q.task(not_mine).status == "queued"


def test_an_idle_slot_is_let_go_for_a_queue_that_has_work(q: Contract, start: Start) -> None:
    runner = start()
    runner.says("slot taken", queue="default")
    q.db.query("select create_queue('new')")
    assert ended(q, q.submit(kind="nap", queue="new", payload={"seconds": 0})).status == "succeeded"
    assert q.db.value("select count(*) from occupied_slots()") == 1


def test_a_runner_with_concurrency_holds_that_many_slots_on_one_session(
    q: Contract, start: Start, witness: Witness
) -> None:
    q.db.query("select set_slots('default', 4)")
    runner = start(concurrency=3)
    runner.says("slot taken", count=3)
    runner.says("executor started", count=3)
    tasks = [q.submit(kind="nap", payload={"seconds": 0.3}) for _ in range(9)]
    for task in tasks:
        ended(q, task)
    assert witness.most == {"default": 3}
    assert len(runner.executors()) == 3
    assert q.db.value("select count(distinct pid) from occupied_slots()") == 1


def test_a_module_in_the_working_directory_cannot_take_the_place_of_ours(db: Database, tmp_path: Path) -> None:
    (tmp_path / "runner.py").write_text("raise SystemExit('taken in')")
    (tmp_path / "lockgate.py").write_text("raise SystemExit('taken in')")
    (tmp_path / "work.py").write_text("from lockgate import handler\n@handler\ndef hello() -> str:\n    return 'hi'\n")
    runner = RunnerProcess(db.runner, handlers="work", cwd=tmp_path)
    try:
        assert runner.says("executor started")["kinds"] == ["hello", "sleep"]
    finally:
        runner.close()


def test_the_database_url_can_come_from_a_file(db: Database, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(db.runner + "\n")
    os.environ["DATABASE_URL_FILE"] = str(tmp_path / "url")
    runner = RunnerProcess("")
    try:
        runner.says("slot taken")
    finally:
        del os.environ["DATABASE_URL_FILE"]
        runner.close()


def test_a_schema_of_an_earlier_version_ends_the_runner_with_one_line(db: Database) -> None:
    with psycopg.connect(db.owner, autocommit=True) as owner:
        owner.execute("update lockgate.release set version = 0")
    runner = RunnerProcess(db.runner)
    try:
        assert runner.process.wait(20) == 1
        until(lambda: runner.noise, "a line")
        assert runner.noise == [
            f"lockgate: the schema has version 0, this runner needs {VERSION}; run `lockgate migrate`\n"
        ]
    finally:
        runner.close()


def test_a_newer_schema_is_remarked_on_and_served(q: Contract, start: Start) -> None:
    q.db.query("update lockgate.release set version = 99")
    runner = start()
    runner.says("the schema is newer than this runner", version=99)
    assert ended(q, q.submit(kind="nap", payload={"seconds": 0})).status == "succeeded"
