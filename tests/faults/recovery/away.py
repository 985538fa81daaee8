"""The database is away for a minute: handlers are dead in time, and everything executes afterwards."""

import time

from tests.contract import until
from tests.faults.recovery.figures import Figures
from tests.faults.recovery.ground import GRACE, ground, pause

AWAY = 60.0
"""Seconds."""


def away(rounds: int) -> Figures:
    """Two slots, both taken, and two runners that stand by."""
    dead: list[float] = []
    again: list[float] = []
    figures = Figures(f"The database is away for {AWAY:g} s")
    with ground(slots=2) as it:
        it.begin(4)
        for _ in range(rounds):
            long = it.submit("once", times=2)
            short = it.submit("brief", {"least": 0.1, "most": 0.1}, times=20)
            until(lambda: {e.task for e in it.witness.current()} == set(long), "both to execute", 60)  # noqa: B023
            stopped = time.monotonic()
            it.server.stop("fast")
            until(lambda: not it.witness.current(), "the handlers to be dead", AWAY)
            dead += [e.end - stopped for e in it.witness.executions if e.task in long and e.end is not None]
            pause(stopped + AWAY - time.monotonic())
            it.server.start()
            answers = time.monotonic()
            again += [it.begins(task, answers, 60) - answers for task in long]
            it.succeed([*long, *short], 60)
        figures.times("stopped → the handler is dead", dead, most=GRACE)
        figures.times("it answers → the task executes again", again, most=GRACE + 2)
        it.count(figures, rounds, again=2 * rounds)
    return figures
