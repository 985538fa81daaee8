"""The keeper beside a runner: what a hand leaves behind ends also when the runner cannot see to it, and so does its own
death."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.contract import Contract, until
from tests.runner.conftest import Start
from tests.runner.process import RunnerProcess, children, command_line, exists


def keepers(runner: RunnerProcess) -> list[int]:
    return [pid for pid in children(runner.pid) if "keeper.py" in command_line(pid)]


def watches_a_hand(keeper: int) -> bool:
    """Whether it was told of one, of which it holds a pidfd since."""
    for link in Path(f"/proc/{keeper}/fd").iterdir():
        with suppress(OSError):
            if "pidfd" in str(link.readlink()):
                return True
    return False


def test_a_killed_keeper_is_replaced_and_knows_the_hands_there_are(q: Contract, start: Start) -> None:
    runner = start(handlers="tests.chaos.handlers")
    task = q.submit(kind="use_child", payload={"seconds": 600})
    runner.says("taken", task=task)
    (hand,) = runner.hands()
    (child,) = until(lambda: children(hand), "a process of the handler's")
    (first,) = keepers(runner)
    os.kill(first, signal.SIGKILL)
    (second,) = until(lambda: (now := keepers(runner)) != [first] and now, "another keeper")
    until(lambda: watches_a_hand(second), "it to know the hand")
    assert exists(hand)
    assert q.task(task).status == "running"

    runner.signal(signal.SIGSTOP)
    os.kill(hand, signal.SIGKILL)
    until(lambda: not exists(child), "the handler's process to be dead")
    runner.signal(signal.SIGCONT)
    assert keepers(runner) == [second]
