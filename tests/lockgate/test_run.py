"""`lockgate run`: a runner that is replaced when it dies."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract import until
from tests.database import Database
from tests.lockgate.up import LIMIT, descendants, environment, is_running, lockgate


@pytest.fixture
def run(db: Database) -> Iterator[subprocess.Popen[str]]:
    """Serves the queue `default` with two slots; its variables say otherwise, but options win."""
    command = [sys.executable, "-m", "lockgate", "run", "--queue", "default", "--concurrency", "2"]
    settings = environment(DATABASE_URL=db.runner, LOCKGATE_QUEUES="other", LOCKGATE_CONCURRENCY="1")
    with subprocess.Popen(command, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        until(lambda: alive(db), "the runner to register", LIMIT)
        yield run
        if run.poll() is None:
            run.kill()


def alive(db: Database) -> list[tuple[str, int, int]]:
    found = db.query("select runner, pid, concurrency from lockgate.runner_overview where alive")
    return [(str(name), int(pid), int(concurrency)) for name, pid, concurrency in found]


def submit(db: Database, seconds: int) -> int:
    payload = f'{{"min": {seconds}, "max": {seconds}}}'
    return int(db.value("select lockgate.submit('default', 'sleep', %s::jsonb)", payload))


def status(db: Database, task: int) -> object:
    return db.value("select status from lockgate.task where id = %s", task)


def test_a_killed_runner_has_a_successor_that_takes_its_task_over_without_the_grace(
    db: Database, run: subprocess.Popen[str]
) -> None:
    db.query("update lockgate.queue set grace = 600")
    [(name, pid, concurrency)] = alive(db)
    assert concurrency == 2
    task = submit(db, 6)
    until(lambda: status(db, task) == "running", "the task to run", LIMIT)
    os.kill(pid, signal.SIGKILL)
    until(lambda: status(db, task) == "succeeded", "the successor to have executed it", LIMIT)
    [(successor, _, _)] = alive(db)
    assert successor != name
    assert db.value("select attempt from lockgate.task where id = %s", task) == 2
    run.terminate()
    assert run.wait(LIMIT) == 0
    assert run.stderr
    assert run.stderr.read() == "lockgate: the runner died (killed by SIGKILL); another has its place\n"


def test_term_lets_the_task_finish_and_leaves_no_process(db: Database, run: subprocess.Popen[str]) -> None:
    task = submit(db, 6)
    until(lambda: status(db, task) == "running", "the task to run", LIMIT)
    started = descendants(run.pid)
    run.terminate()
    assert run.wait(LIMIT) == 0
    assert status(db, task) == "succeeded"
    until(lambda: not [pid for pid in started if is_running(pid)], "all of them to be gone", LIMIT)


def test_a_second_ctrl_c_hurries(db: Database, run: subprocess.Popen[str]) -> None:
    task = submit(db, 300)
    until(lambda: status(db, task) == "running", "the task to run", LIMIT)
    run.send_signal(signal.SIGINT)
    run.send_signal(signal.SIGTERM)
    assert run.wait(20) == 0
    assert status(db, task) == "queued"


def pending(pid: int) -> set[signal.Signals]:
    """Signals that were sent to a process and have not reached it."""
    mask = re.search(r"^ShdPnd:\s*([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert mask
    return {number for number in signal.Signals if int(mask[1], 16) >> (number - 1) & 1}


def test_a_second_ctrl_c_hurries_a_runner_that_had_no_time_for_the_first(
    db: Database, run: subprocess.Popen[str]
) -> None:
    """Two signals of one number would reach it as one."""
    db.query("update lockgate.queue set grace = 600")
    task = submit(db, 300)
    until(lambda: status(db, task) == "running", "the task to run", LIMIT)
    [(_, pid, _)] = alive(db)
    os.kill(pid, signal.SIGSTOP)
    run.send_signal(signal.SIGINT)
    run.send_signal(signal.SIGTERM)
    until(lambda: len(pending(pid)) == 2, "both to be on their way", LIMIT)
    os.kill(pid, signal.SIGCONT)
    assert run.wait(20) == 0
    assert status(db, task) == "queued"


def test_term_in_the_middle_of_a_fork_is_not_lost(db: Database) -> None:
    """Python drops what a signal handler raises there, and would say so."""
    once = """
import os, signal
from lockgate.__main__ import main
signals = [signal.SIGTERM]
os.register_at_fork(after_in_parent=lambda: signals and os.kill(os.getpid(), signals.pop()))
main()
"""
    told = subprocess.run(
        [sys.executable, "-c", once, "run"],
        env=environment(DATABASE_URL=db.runner), capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert (told.returncode, told.stderr) == (0, "")


def test_a_runner_that_cannot_start_is_not_started_again(db: Database) -> None:
    refused = lockgate("run", DATABASE_URL=db.runner, LOCKGATE_HANDLERS="no_such_module")
    assert refused.returncode == 1
    assert refused.stderr.count("no_such_module") == 1, "said once, also with a spare"
    assert "Traceback" not in refused.stderr
