"""SIGKILL of a supervisor, its runner and all below, while another stands by: until the same task executes again."""

import os
import random
import signal
import time
from contextlib import suppress

from tests.faults.recovery.figures import Figures, Laps
from tests.faults.recovery.ground import GRACE, Ground, pause
from tests.lockgate.up import descendants


def tree(rounds: int) -> Figures:
    """Two slots, both taken; the third runner has no executor, and no proof of anybody's death."""
    laps = Laps()
    figures = Figures("A whole tree is killed, another runner stands by")
    dice = random.Random(rounds)
    with Ground(slots=2) as ground:
        ground.start(2)
        for number in range(rounds):
            ground.submit("once", times=2 if number == 0 else 1)
            busy = list(ground.supervised)
            for one in busy:
                ground.executing(one)
            (standby,) = ground.start(1)
            pause(1 + dice.random())  # a moment of its own between two polls
            victim = busy[number % 2]
            task = ground.executing(victim)
            below = list(descendants(victim.pid))
            wall, killed = time.time(), time.monotonic()
            for pid in (victim.pid, *below):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            begun = ground.begins(task, killed, GRACE + 30)
            laps.add(begun - killed, standby, wall)
            ground.close(victim)
        ground.cancel_rest()
        ground.count(figures)
    figures.times("SIGKILL → its task executes again", laps.seconds, most=GRACE + 2)
    figures.stages(laps)
    return figures
