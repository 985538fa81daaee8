"""The database is away for a minute: handlers are dead in time, and everything executes afterwards."""

import time

from tests.contract import until
from tests.faults.recovery.figures import Figures
from tests.faults.recovery.ground import GRACE, Ground, pause

AWAY = 60.0
"""Seconds."""


def away(rounds: int) -> Figures:
    """Two slots, both taken, and two runners that stand by."""
    dead: list[float] = []
    again: list[float] = []
    figures = Figures(f"The database is away for {AWAY:g} s")
    with Ground(slots=2) as ground:
        ground.start(4)
        for _ in range(rounds):
            long = ground.submit("once", times=2)
            short = ground.submit("brief", {"least": 0.1, "most": 0.1}, times=20)
            until(lambda: {e.task for e in ground.witness.current()} == set(long), "both to execute", 60)  # noqa: B023
            stopped = time.monotonic()
            ground.server.stop("fast")
            until(lambda: not ground.witness.current(), "the handlers to be dead", AWAY)
            dead += [e.end - stopped for e in ground.witness.executions if e.task in long and e.end is not None]
            pause(stopped + AWAY - time.monotonic())
            ground.server.start()
            answers = time.monotonic()
            again += [ground.begins(task, answers, 60) - answers for task in long]
            ground.ends([*long, *short], 60)
        figures.times("stopped → the handler is dead", dead, most=GRACE)
        figures.times("it answers → the task executes again", again, most=GRACE + 2)
        ground.count(figures, again=2 * rounds)
    return figures
