"""SIGKILL of a runner whose supervisor lives: until the same task executes again."""

import os
import random
import signal
import time

from lockgate.supervisor import STEADY
from tests.recovery.figures import Figures, Laps
from tests.recovery.ground import Ground, pause

AIM = 0.5
"""Seconds, of the median."""


def kill(rounds: int) -> Figures:
    """Two slots, two runners, both busy: nobody else has room for the task."""
    laps = Laps()
    figures = Figures("A runner is killed, its supervisor lives")
    dice = random.Random(rounds)
    with Ground(slots=2) as ground:
        ground.start(2)
        for number in range(rounds):
            ground.submit("once", times=2 if number == 0 else 1)
            for one in ground.supervised:
                ground.executing(one)
                one.spare()
            pause(STEADY + dice.random())
            victim = ground.supervised[number % 2]
            task = ground.executing(victim)
            wall, killed = time.time(), time.monotonic()
            os.kill(victim.runner(), signal.SIGKILL)
            begun = ground.begins(task, killed, 30)
            laps.add(begun - killed, victim, wall)
        ground.cancel_rest()
        ground.count(figures)
    figures.times("SIGKILL → its task executes again", laps.seconds, middle=AIM)
    figures.stages(laps)
    return figures
