"""SIGKILL of a runner whose supervisor lives: until the same task executes again."""

import math
import os
import random
import signal
import time

from lockgate.local.supervisor import STEADY
from tests.faults.recovery.figures import Figures, Laps
from tests.faults.recovery.ground import ground, pause

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
    with ground(slots=2) as it:
        it.begin(2, spare="on" if spare else "off")
        for number in range(rounds):
            it.submit("once", times=2 if number == 0 else 1)
            for one in it.runners:
                it.executing(one)
                if spare:
                    one.spare()
            pause(STEADY + dice.random())
            victim = it.runners[number % 2]
            task = it.executing(victim)
            wall, killed = time.time(), time.monotonic()
            os.kill(victim.runner(), signal.SIGKILL)
            begun = it.begins(task, killed, 60)
            laps.add(begun - killed, victim, wall)
        it.cancel_rest()
        it.count(figures, rounds, "with a spare" if spare else "without")
    return laps
