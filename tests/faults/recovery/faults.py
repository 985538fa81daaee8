"""The faults of public benchmarks of queues, under a steady load: is the rate afterwards what it was before?"""

import os
import random
import signal
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

import psycopg

from tests.contract import until
from tests.faults.recovery.figures import Figures
from tests.faults.recovery.ground import GRACE, Ground, ground, pause
from tests.faults.recovery.load import SPAN, WARM_UP, ended, rates, submit, wait_until

LASTS = 10.0
"""Seconds, of those faults that last."""

EVERY = 0.5
"""Seconds between two sessions that are ended."""

KILL_EVERY = 1.0
"""Seconds between two runners that are killed."""

IDLE = 300
"""Connections that somebody takes and does nothing with; the server allows a few more."""

SETTLES = GRACE + 2
"""Seconds after a fault in which all has to be as before."""

SHARE = 0.95
"""Of the rate before, that is to be reached afterwards."""

COLUMNS = ("fault", "tasks/s before", "during", "after", "after / before", "as before after", "bound")


def restart(it: Ground) -> None:
    """Postgres is restarted"""
    it.server.restart("fast")


def end_sessions(it: Ground) -> None:
    """two sessions a second are ended"""
    for _ in range(int(LASTS / EVERY)):
        with suppress(psycopg.Error), it.owner() as owner:
            owner.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
                " and backend_type = 'client backend' order by random() limit 1"
            )
        pause(EVERY)


def take_connections(it: Ground) -> None:
    """300 idle connections are taken"""
    with ExitStack() as held:
        for _ in range(IDLE):
            held.enter_context(it.owner())
        pause(LASTS)


def kill_one(it: Ground) -> None:
    """one of two runners is killed"""
    os.kill(it.runners[0].runner(), signal.SIGKILL)


def kill_again_and_again(it: Ground) -> None:
    """one of two runners is killed, every second"""
    for _ in range(int(LASTS / KILL_EVERY)):
        with suppress(ProcessLookupError):
            os.kill(random.choice(it.runners).runner(), signal.SIGKILL)
        pause(KILL_EVERY)


FAULTS: list[Callable[[Ground], None]] = [restart, end_sessions, take_connections, kill_one, kill_again_and_again]


def faults(rounds: int) -> Figures:
    """Two slots, two runners, and tasks of 5 to 20 ms, submitted ahead."""
    figures = Figures("Tasks per second around a fault", COLUMNS)
    for fault in FAULTS:
        measured = []
        for _ in range(rounds):
            with ground(slots=2, settings={"max_connections": str(IDLE + 30)}) as it:
                it.begin(2)
                for one in it.runners:
                    one.spare()
                submit(it)
                until(lambda: it.witness.executions, "the first task", 30)
                since = time.time() + WARM_UP
                wait_until(since + SPAN)
                began = time.time()
                fault(it)
                over = time.time()
                wait_until(over + SETTLES + SPAN)
                measured.append(rates(ended(it), since, (began, over), SETTLES))
                it.cancel_rest()
                it.count(figures, 1, name=str(fault.__doc__))
        before, during, after = (
            statistics.median(getattr(each, name) for each in measured) for name in ("before", "during", "after")
        )
        share = statistics.median(each.after / each.before for each in measured)
        back = max(each.back for each in measured)
        cells = f"{before:.0f}", f"{during:.0f}", f"{after:.0f}", f"{share:.0%}", f"{back:.0f} s", f"≥ {SHARE:.0%}"
        figures.rows.append([str(fault.__doc__), *cells])
        figures.hold(share >= SHARE, f"{fault.__doc__}: {share:.1%} of the rate before")
    return figures
