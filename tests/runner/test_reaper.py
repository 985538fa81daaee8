"""The reaper beside a runner: it ends what an executor leaves behind, and its own death is made good."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.contract import Contract, until
from tests.runner.conftest import Start
from tests.runner.process import RunnerProcess, children, command_line, exists


def reapers(runner: RunnerProcess) -> list[int]:
    return [pid for pid in children(runner.pid) if "reaper.py" in command_line(pid)]


def watches_an_executor(reaper: int) -> bool:
    """Whether it was told of one, of which it holds a pidfd since."""
    for link in Path(f"/proc/{reaper}/fd").iterdir():
        with suppress(OSError):
            if "pidfd" in str(link.readlink()):
                return True
    return False


def test_a_killed_reaper_is_replaced_and_knows_the_executors_there_are(q: Contract, start: Start) -> None:
    runner = start(handlers="tests.faults.chaos.handlers")
    task = q.submit(kind="use_child", payload={"seconds": 600})
    runner.says("taken", task=task)
    (executor,) = runner.executors()
    (child,) = until(lambda: children(executor), "a process of the handler's")
    (first,) = reapers(runner)
    os.kill(first, signal.SIGKILL)
    (second,) = until(lambda: (now := reapers(runner)) != [first] and now, "another reaper")
    until(lambda: watches_an_executor(second), "it to know the executor")
    assert exists(executor)
    assert q.task(task).status == "running"

    runner.signal(signal.SIGSTOP)
    os.kill(executor, signal.SIGKILL)
    until(lambda: not exists(child), "the handler's process to be dead")
    runner.signal(signal.SIGCONT)
    assert reapers(runner) == [second]
