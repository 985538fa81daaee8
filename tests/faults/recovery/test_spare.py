"""The spare: a runner that waits for another one's death, and until then is nobody's business."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from lockgate.local.process import RunnerProgram, environment
from tests.contract import Contract, until
from tests.database import Database
from tests.lockgate.up import descendants
from tests.runner.process import CHECKOUT, children, command_line, exists
from tests.system import Supervised

Run = Callable[..., Supervised]
LIMIT = 60.0
DIED = "lockgate: the runner died (killed by SIGKILL); another has its place\n"


@pytest.fixture
def run(db: Database) -> Iterator[Run]:
    """Starts a `lockgate run`, and waits until it has a session. Nobody waits out the grace here: it is an hour."""
    db.query("update lockgate.queue set grace = 3600")
    started: list[Supervised] = []

    def one(cwd: Path = CHECKOUT, **settings: str) -> Supervised:
        started.append(Supervised(db.runner, cwd=cwd, **settings))
        started[-1].says("connected", limit=LIMIT)
        return started[-1]

    yield one
    for each in started:
        each.close()
        print(f"--- {each.pid}:", *each.lines, *each.noise, sep="\n")  # noqa: T201 - pytest shows it when the test failed


@pytest.fixture
def program(db: Database, tmp_path: Path) -> Iterator[RunnerProgram]:
    """A runner that waits for a go-ahead; its words are in `words`."""
    with (tmp_path / "words").open("wb") as words:
        one = RunnerProgram(environment(DATABASE_URL=db.runner, LOCKGATE_LOG_FORMAT="json"), words)
        one.start()
        until(lambda: "spare ready" in (tmp_path / "words").read_text(), "it to be loaded", LIMIT)
        yield one
        one.kill()
        one.close()


def busy(q: Contract, run: Supervised, seconds: float = 600) -> int:
    """A task that its runner executes."""
    task = q.submit(kind="nap", payload={"seconds": seconds})
    run.says("taken", task=task)
    return task


def names(db: Database) -> set[str]:
    """Of all runners that ever registered."""
    return {str(name) for (name,) in db.query("select runner from lockgate.runner")}


def test_a_spare_takes_the_place_of_a_killed_runner_and_another_spare_is_made(
    q: Contract, db: Database, run: Run
) -> None:
    supervised = run()
    first, spare = supervised.runner(), supervised.spare()
    assert first != spare
    name = supervised.events("spare ready")[0]["runner"]
    task = busy(q, supervised)
    os.kill(first, signal.SIGKILL)
    supervised.says("taken", task=task, runner=name, attempt=2)
    assert supervised.runner() == spare
    [takes_over] = supervised.events("takes over")
    assert (takes_over["runner"], takes_over["predecessor"]) == (name, supervised.events("connected")[0]["runner"])
    assert len(supervised.events("executor started", runner=name)) == 1, "the hand it had, and no other"
    assert supervised.spare() not in (first, spare)
    assert supervised.noise == [DIED]


def test_a_spare_has_no_row_no_connection_and_no_slot(db: Database, run: Run) -> None:
    supervised = run()
    supervised.says("slot taken")
    supervised.spare()
    name = supervised.events("connected")[0]["runner"]
    assert names(db) == {name}
    assert [row[0] for row in db.query("select runner from lockgate.runner_overview")] == [name]
    connected = db.query(
        "select application_name from pg_stat_activity"
        " where application_name ~ '^lockgate' and datname = current_database()"
    )
    assert sorted(row[0] for row in connected) == [f"lockgate-runner {name}"[:63], f"lockgate-wake {name}"[:63]]


def test_a_successor_that_dies_before_it_adopts_leaves_it_to_the_next(q: Contract, db: Database, run: Run) -> None:
    supervised = run()
    supervised.spare()
    task = busy(q, supervised)
    with psycopg.connect(db.owner) as blocker:
        blocker.execute("lock table lockgate.task in access exclusive mode")  # nobody adopts now
        os.kill(supervised.runner(), signal.SIGKILL)
        supervised.says("takes over", limit=LIMIT)
        os.kill(supervised.runner(), signal.SIGKILL)
        supervised.says("takes over", count=2, limit=LIMIT)
    third = supervised.events("takes over")[1]["runner"]
    supervised.says("taken", task=task, runner=third, attempt=2, limit=LIMIT)


def test_a_dead_spare_is_replaced_and_is_no_runners_death(q: Contract, run: Run) -> None:
    supervised = run()
    task = busy(q, supervised)
    runner, spare = supervised.runner(), supervised.spare()
    os.kill(spare, signal.SIGKILL)
    supervised.says("spare ready", count=2, limit=LIMIT)
    assert supervised.runner() == runner
    assert q.task(task).attempt == 1
    assert supervised.noise == []


def test_a_spare_whose_executor_dies_is_of_no_use_and_replaced(run: Run) -> None:
    supervised = run()
    spare = supervised.spare()
    (executor,) = children_named("executor.child", spare)
    os.kill(executor, signal.SIGKILL)
    supervised.says("spare ready", count=2, limit=LIMIT)
    assert not exists(spare)
    assert len(supervised.events("executor died", executor=executor)) == 1
    assert supervised.noise == []


def test_a_killed_supervisor_takes_its_spare_along(db: Database, run: Run) -> None:
    supervised = run()
    supervised.spare()
    below = descendants(supervised.pid)
    assert sum("-m lockgate_runner" in command for command in below.values()) == 2 + 2, (
        "two runners with an executor each"
    )
    supervised.kill()
    until(lambda: not [pid for pid in below if exists(pid)], "all of them to be gone")
    assert len(names(db)) == 1


def test_the_end_of_its_supervisor_is_no_go_ahead(db: Database, program: RunnerProgram) -> None:
    program.activation.close()
    assert program.wait(LIMIT)
    assert program.exit_code == 0
    assert names(db) == set()


def test_a_spare_that_is_told_to_stop_ends_without_a_word(db: Database, program: RunnerProgram, tmp_path: Path) -> None:
    said = (tmp_path / "words").read_text()
    program.ask()
    assert program.wait(LIMIT)
    assert program.exit_code == 0
    assert (tmp_path / "words").read_text() == said
    assert names(db) == set()


def test_term_ends_runner_and_spare_and_leaves_no_process(q: Contract, run: Run) -> None:
    supervised = run()
    task = busy(q, supervised, seconds=1)
    supervised.spare()
    below = descendants(supervised.pid)
    assert supervised.stop(LIMIT) == 0
    until(lambda: not [pid for pid in below if exists(pid)], "all of them to be gone", LIMIT)
    assert q.task(task).status == "succeeded"
    assert supervised.noise == []


@pytest.mark.parametrize(("spare", "executors"), [("on", 1), ("off", 0)])
def test_a_runner_that_stands_by_has_an_executor_instead_of_a_spare(
    q: Contract, db: Database, run: Run, spare: str, executors: int
) -> None:
    db.query("update lockgate.queue set slots = 1, grace = 10")
    holder = run(spare=spare)
    task = busy(q, holder)
    standby = run(spare=spare)
    runner = standby.runner()
    until(lambda: len(children_named("executor.child", runner)) == executors, f"{executors} executors", LIMIT)
    holder.kill()
    taken = standby.says("taken", task=task, attempt=2, limit=LIMIT)
    assert len(standby.events("executor started", runner=taken["runner"])) == 1 + (1 - executors)
    if spare == "on":
        assert standby.spare() != runner


def children_named(program: str, parent: int) -> list[int]:
    return [pid for pid in children(parent) if program in command_line(pid)]


def test_a_spare_ends_when_its_runner_has_no_slot_any_more(db: Database, run: Run) -> None:
    supervised = run()
    spare = supervised.spare()
    db.query("select lockgate.set_slots('default', 0)")
    supervised.says("slot released")
    until(lambda: not exists(spare), "the spare to end", LIMIT)
    assert supervised.noise == []


def test_without_a_spare_a_successor_is_started_when_it_is_needed(q: Contract, db: Database, run: Run) -> None:
    db.query("update lockgate.queue set slots = 1")
    supervised = run(spare="off")
    task = busy(q, supervised)
    os.kill(supervised.runner(), signal.SIGKILL)
    supervised.says("taken", task=task, attempt=2, limit=LIMIT)
    assert len(supervised.events("takes over")) == 1
    assert supervised.events("spare ready") == []
    assert len(supervised.events("executor started")) == 2, (
        "one for each: the successor's first is not let go before it adopts"
    )


def test_a_runner_that_was_killed_before_its_spare_was_loaded_has_a_successor_all_the_same(
    q: Contract, run: Run
) -> None:
    supervised = run()
    task = busy(q, supervised)
    os.kill(supervised.runner(), signal.SIGKILL)
    supervised.says("taken", task=task, attempt=2, limit=LIMIT)
    supervised.spare()


def test_handlers_that_are_broken_by_now_are_said_by_the_spare_and_the_runner_goes_on(
    q: Contract, run: Run, tmp_path: Path
) -> None:
    handlers = tmp_path / "mended.py"
    handlers.write_text("")
    supervised = run(cwd=tmp_path, handlers="mended")
    runner = supervised.runner()
    spare = supervised.spare()
    handlers.write_text("import no_such_module")
    os.kill(spare, signal.SIGKILL)
    complaint = "lockgate: no spare runner: the handlers cannot be loaded: ModuleNotFoundError"
    until(lambda: any(line.startswith(complaint) for line in supervised.noise), "a complaint", LIMIT)
    assert supervised.runner() == runner
    assert q.submit(kind="sleep", payload={"max": 0}) == supervised.says("finished")["task"]
