"""A successor inherits only what is proved to be nobody's: nothing of the dead runner may be left."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.contract import Contract, until
from tests.runner.process import children, command_line
from tests.runner.test_outcomes import ended
from tests.system import Supervised

LIMIT = 60.0


@pytest.fixture
def run(q: Contract) -> Iterator[Supervised]:
    """A `lockgate run` whose queue has an hour of grace."""
    q.queue(grace=3600)
    run = Supervised(q.db.runner, concurrency=2)
    run.says("slot taken", LIMIT, count=2)
    yield run
    run.close()


def not_inherited(q: Contract, run: Supervised, task: int) -> None:
    """The runner is killed; its successor is at work, and has left that task alone."""
    runner = run.runner()
    os.kill(runner, signal.SIGKILL)
    run.says("connected", LIMIT, count=2)
    later = q.submit(kind="nap", payload={"seconds": 0})
    assert ended(q, later, LIMIT).status == "succeeded"
    assert (q.task(task).status, q.task(task).attempt) == ("running", 1)
    assert not run.events("adopted")


def test_a_task_is_not_inherited_while_a_process_that_a_handler_forked_may_still_execute(
    q: Contract, run: Supervised
) -> None:
    forked = ended(q, q.submit(kind="fork_away", payload={"seconds": 600})).result
    try:
        task = q.submit(kind="nap", payload={"seconds": 600})
        run.says("taken", task=task)
        not_inherited(q, run, task)
    finally:
        os.kill(forked, signal.SIGKILL)


def test_a_task_is_not_inherited_while_what_its_handler_has_started_may_still_execute(
    q: Contract, run: Supervised
) -> None:
    """The reaper, which ends that, is frozen."""
    task = q.submit(kind="start_child", payload={"seconds": 600})
    run.says("taken", task=task)
    runner = run.runner()
    (child,) = until(
        lambda: [pid for executor in children(runner) for pid in children(executor)], "the program to start"
    )
    (reaper,) = [pid for pid in children(runner) if "reaper.py" in command_line(pid)]
    os.kill(reaper, signal.SIGSTOP)
    try:
        not_inherited(q, run, task)
    finally:
        for pid in (reaper, child):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
