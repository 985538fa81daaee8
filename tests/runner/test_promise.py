"""What the queue is for: never more than the slots, whatever dies, and nothing lost."""

import signal
import threading
import time
from datetime import timedelta

import psycopg
import pytest

from lockgate.postgres.server import Server
from lockgate.schema import apply
from lockgate.witness import Witness
from tests.contract import Contract, until
from tests.database import Database
from tests.runner.conftest import Start
from tests.runner.process import children, exists

GRACE = 2.0


@pytest.fixture
def quick(q: Contract) -> Contract:
    """The default queue with a short grace, so that waiting it out is short too."""
    q.db.query("update lockgate.queue set grace = %s", GRACE)
    return q


def test_three_runners_never_execute_more_than_two_tasks_and_the_third_stands_by_without_an_executor(
    q: Contract, start: Start, witness: Witness
) -> None:
    runners = [start() for _ in range(3)]
    for runner in runners:
        runner.says("connected")
    q.db.value("select count(lockgate.submit('default', 'nap', '{\"seconds\": 0.05}')) from generate_series(1, 200)")
    until(lambda: q.db.value("select count(*) = 200 from lockgate.task where status = 'succeeded'"), "200 ends")
    assert witness.most == {"default": 2}
    assert len(witness.executions) == 200
    (standby,) = [runner for runner in runners if not runner.events("slot taken")]
    assert standby.executors() == []
    assert sorted(len(runner.executors()) for runner in runners) == [0, 1, 1]
    assert q.db.value("select count(*) from lockgate.attempt") == 0


@pytest.mark.parametrize("busy", [False, True], ids=["the other idles", "the other works through a backlog"])
def test_the_task_of_a_killed_runner_executes_again_once_the_grace_is_over(
    quick: Contract, start: Start, witness: Witness, busy: bool
) -> None:
    runners = [start(), start()]
    for runner in runners:
        runner.says("slot taken")
    task = quick.submit(kind="nap", payload={"seconds": 6})
    victim = until(lambda: next((runner for runner in runners if runner.events("taken", task=task)), None), "a start")
    (other,) = (runner for runner in runners if runner is not victim)
    lease = victim.says("taken", task=task)["lease"]
    if busy:
        quick.db.value(
            "select count(lockgate.submit('default', 'nap', '{\"seconds\": 0.1}')) from generate_series(1, 200)"
        )
        other.says("finished")
    killed = quick.now()
    victim.kill()

    row = until(lambda: (r := quick.task(task)).attempt == 2 and r, "the second attempt", GRACE + 20)
    assert row.start_time is not None
    assert row.start_time - killed >= timedelta(seconds=GRACE)
    assert row.runner == other.name
    with psycopg.connect(quick.db.runner, autocommit=True) as late, pytest.raises(psycopg.Error) as refused:
        late.execute("select lockgate.finish(%s, %s, %s, 1, '\"stale\"')", (task, lease, victim.name))
    assert refused.value.sqlstate == "LG002"
    ended = until(lambda: (r := quick.task(task)).status == "succeeded" and r, "its end")
    assert (ended.result, ended.attempt) == ("rested", 2)
    assert witness.most["default"] <= 2


def test_a_runner_without_room_puts_the_task_of_a_killed_one_back_for_others(quick: Contract, start: Start) -> None:
    victim = start()
    victim.says("slot taken")
    task = quick.submit(kind="nap", payload={"seconds": 60})
    victim.says("taken", task=task)
    full = start()
    full.says("slot taken")
    long = quick.submit(kind="nap", payload={"seconds": 60})
    full.says("taken", task=long)
    victim.kill()
    full.says("adopted", task=task, status="queued", limit=GRACE + 20)
    assert quick.task(task).status == "queued"
    held = "select count(*) from lockgate.occupied_slots() where pid is not null"
    until(lambda: quick.db.value(held) == 1, "the adopter to let the slot go")
    assert quick.task(long).status == "running"


def test_the_executor_of_a_frozen_runner_is_dead_before_its_slot_is_used_again(
    quick: Contract, start: Start, witness: Witness
) -> None:
    quick.db.query("update lockgate.queue set slots = 1")
    frozen = start()
    frozen.says("slot taken")
    standby = start()
    standby.says("connected")
    task = quick.submit(kind="nap", payload={"seconds": 30})
    lease = frozen.says("taken", task=task)["lease"]
    until(lambda: witness.current(), "the handler to begin")
    (executor,) = frozen.executors()
    frozen.signal(signal.SIGSTOP)
    try:
        until(lambda: not exists(executor), "the kernel to kill the executor", GRACE + 10)
        standby.says("silent holder ended")
        until(lambda: quick.task(task).attempt == 2, "the second attempt")
        second = quick.task(task)
    finally:
        frozen.signal(signal.SIGCONT)
    frozen.says("lease lost", lease=lease)
    assert quick.task(task) == second
    assert witness.most == {"default": 1}


def test_a_short_freeze_stops_nothing(quick: Contract, start: Start, witness: Witness) -> None:
    quick.queue(grace=8)
    runner, other = start(), start()
    runner.says("connected")
    other.says("connected")
    task = quick.submit(kind="nap", payload={"seconds": 5})
    busy = until(lambda: next((r for r in (runner, other) if r.events("taken")), None), "a start")
    busy.signal(signal.SIGSTOP)
    time.sleep(2)  # the length of the freeze, not a wait for anything
    busy.signal(signal.SIGCONT)
    ended = until(lambda: (r := quick.task(task)).status == "succeeded" and r, "its end")
    assert ended.attempt == 1
    assert len(witness.executions) == 1


def test_ending_the_slot_session_of_a_busy_runner_stops_nothing(
    quick: Contract, start: Start, witness: Witness
) -> None:
    quick.queue(grace=8)
    runners = [start() for _ in range(3)]
    for runner in runners:
        runner.says("connected")
    tasks = [quick.submit(kind="nap", payload={"seconds": 5}) for _ in range(2)]
    until(lambda: len(witness.current()) == 2, "two at once")
    quick.db.query(
        "select pg_terminate_backend(pid) from lockgate.occupied_slots() where task is not null",
    )
    for runner in runners:
        if runner.events("taken"):
            runner.says("slot kept")
    for task in tasks:
        ended = until(lambda task=task: (r := quick.task(task)).status == "succeeded" and r, "its end")  # type: ignore[misc]
        assert ended.attempt == 1
    assert len(witness.executions) == 2
    assert witness.most == {"default": 2}


def test_a_restart_of_postgres_stops_executes_twice_and_loses_nothing(
    own_server: Server, start: Start, witness: Witness
) -> None:
    with psycopg.connect(own_server.dsn("lockgate"), autocommit=True) as owner:
        owner.execute("update lockgate.queue set grace = 15")
        owner.execute("select lockgate.submit('default', 'nap', '{\"seconds\": 4}') from generate_series(1, 2)")
        owner.execute("select lockgate.submit('default', 'nap', '{\"seconds\": 0.1}') from generate_series(1, 20)")
    runners = [start(own_server.dsn("lockgate")) for _ in range(4)]
    until(lambda: len(witness.current()) == 2, "two at once")
    own_server.stop("fast")
    time.sleep(2)  # how long the database is away
    own_server.start()
    with psycopg.connect(own_server.dsn("lockgate"), autocommit=True) as owner:
        until(
            lambda: (
                owner.execute("select count(*) = 22 from lockgate.task where status = 'succeeded'").fetchone()
                == (True,)
            ),
            "22 ends",
        )
        assert owner.execute("select count(*) from lockgate.attempt").fetchone() == (0,)
        assert owner.execute("select max(attempt) from lockgate.task").fetchone() == (1,)
    assert sum(len(runner.events("slot kept")) for runner in runners) == 2
    assert len(witness.executions) == 22
    assert witness.most == {"default": 2}


def test_applying_the_schema_again_beside_a_long_reader_stalls_nothing(q: Contract, db: Database, start: Start) -> None:
    runners = [start(), start()]
    for runner in runners:
        runner.says("slot taken")
    reader = psycopg.connect(db.owner)
    reader.execute("select count(*) from lockgate.task")
    stop = threading.Event()
    submitted: list[int] = []

    def feed() -> None:
        while not stop.wait(0.01):
            submitted.append(q.submit(kind="nap", payload={"seconds": 0}))

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        until(lambda: len(submitted) > 20, "some load")
        for _ in range(5):
            apply(db.owner)
        until(lambda: len(submitted) > 60, "more load")
    finally:
        stop.set()
        feeder.join()
        reader.close()
    until(lambda: q.db.value("select count(*) from lockgate.task where status <> 'succeeded'") == 0, "every end")
    slowest = q.db.value("select max(extract(epoch from start_time - create_time)) from lockgate.task")
    assert slowest < 10  # behind the reader, `apply` would wait for its lock and all others behind that


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_a_program_that_a_handler_has_started_ends_with_it_when_the_runner_is(
    quick: Contract, start: Start, number: signal.Signals
) -> None:
    runner = start()
    runner.says("slot taken")
    quick.submit(kind="start_child", payload={"seconds": 600})
    runner.says("taken")
    (executor,) = runner.executors()
    (child,) = until(lambda: children(executor), "the program to start")
    runner.signal(number)
    until(lambda: not exists(child), "the program to be gone", GRACE + 15)
