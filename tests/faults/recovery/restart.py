"""A restart of the database under running tasks: nothing stops, nothing executes twice, nothing is lost."""

import time

from tests.contract import until
from tests.faults.recovery.figures import Figures
from tests.faults.recovery.ground import ground, pause

AWAY = 3.0
"""Seconds from the order to stop until the server answers again, about."""

STARTING = 0.5
"""Seconds of these that the server takes to start."""

SHORT = 20
"""Tasks that wait their turn meanwhile."""


def restart(rounds: int) -> Figures:
    """Two slots, both taken, and two runners that stand by: all four reconnect at once, and want the same slots."""
    away: list[float] = []
    kept: list[float] = []
    figures = Figures(f"The database is restarted, and away for {AWAY:g} s")
    with ground(slots=2) as it:
        it.begin(4)
        for _ in range(rounds):
            long = it.submit("brief", {"least": 8, "most": 8}, times=2)
            short = it.submit("brief", {"least": 0.1, "most": 0.1}, times=SHORT)
            until(lambda: {e.task for e in it.witness.current()} == set(long), "both to execute", 60)  # noqa: B023
            pause(1)
            stopped = time.monotonic()
            it.server.stop("fast")
            pause(stopped + AWAY - STARTING - time.monotonic())
            it.server.start()
            away.append(time.monotonic() - stopped)
            answers = time.time()
            it.succeed([*long, *short], 60)
            kept += [later for one in it.runners for event, later in one.told(answers) if event == "slot kept"]
        figures.times("stopped → it answers again", away)
        figures.times("it answers → a runner has its slot back", kept)
        it.count(figures, rounds, again=0)
    return figures
