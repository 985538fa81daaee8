"""SIGKILL of a supervisor, its runner and all below, while another stands by: until the same task executes again."""

import os
import random
import signal
import time
from contextlib import suppress

from tests.faults.recovery.figures import Figures, Laps
from tests.faults.recovery.ground import GRACE, ground, pause
from tests.lockgate.up import descendants


def tree(rounds: int) -> Figures:
    """Two slots, both taken; the third runner has no executor, and no proof of anybody's death."""
    laps = Laps()
    figures = Figures("A whole tree is killed, another runner stands by")
    dice = random.Random(rounds)
    with ground(slots=2) as it:
        it.begin(2)
        for number in range(rounds):
            it.submit("once", times=2 if number == 0 else 1)
            busy = list(it.runners)
            for one in busy:
                it.executing(one)
            (standby,) = it.begin(1)
            pause(1 + dice.random())  # a moment of its own between two polls
            victim = busy[number % 2]
            task = it.executing(victim)
            below = list(descendants(victim.pid))
            wall, killed = time.time(), time.monotonic()
            for pid in (victim.pid, *below):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            begun = it.begins(task, killed, GRACE + 30)
            laps.add(begun - killed, standby, wall)
            it.close(victim)
        it.cancel_rest()
        it.count(figures, rounds)
    figures.times("SIGKILL → its task executes again", laps.seconds, most=GRACE + 2)
    figures.stages(laps)
    return figures
