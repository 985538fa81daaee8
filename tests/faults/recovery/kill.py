"""SIGKILL of a runner whose supervisor lives: until the same task executes again."""

import math
import os
import random
import signal
import time

from lockgate.local.supervisor import STEADY
from tests.faults.recovery.figures import Figures, Laps
from tests.faults.recovery.ground import Ground, pause

AIM = 0.5
"""Seconds, of the median."""


def kill(rounds: int) -> Figures:
    """Two slots, two runners, both busy: nobody else has room for the task."""
    figures = Figures("A runner is killed, its supervisor lives")
    laps = measure(figures, rounds, spare=True)
    figures.times("SIGKILL → its task executes again", laps.seconds, middle=AIM)
    figures.stages(laps)
    laps = measure(figures, math.ceil(rounds / 3), spare=False)
    figures.times("the same with --no-spare", laps.seconds)
    return figures


def measure(figures: Figures, rounds: int, spare: bool) -> Laps:
    laps = Laps()
    dice = random.Random(rounds)
    with Ground(slots=2) as ground:
        ground.start(2, spare="on" if spare else "off")
        for number in range(rounds):
            ground.submit("once", times=2 if number == 0 else 1)
            for one in ground.supervised:
                ground.executing(one)
                if spare:
                    one.spare()
            pause(STEADY + dice.random())
            victim = ground.supervised[number % 2]
            task = ground.executing(victim)
            wall, killed = time.time(), time.monotonic()
            os.kill(victim.runner(), signal.SIGKILL)
            begun = ground.begins(task, killed, 60)
            laps.add(begun - killed, victim, wall)
        ground.cancel_rest()
        ground.count(figures, "with a spare" if spare else "without")
    return laps
