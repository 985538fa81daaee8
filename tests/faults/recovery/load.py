"""A steady load, and how many tasks of it ended per second: before a fault, under it, and afterwards."""

import statistics
import time
from dataclasses import dataclass

from tests.faults.recovery.ground import Ground

AHEAD = 14_000
"""Tasks that are submitted before it begins; more than two slots can do in the time."""

LEAST, MOST = 0.005, 0.020
"""Seconds a task takes."""

WARM_UP = 3.0
"""Seconds before anything is counted."""

SPAN = 12.0
"""Seconds that are counted before a fault, and after what it takes to recover."""

WINDOW = 2.0
"""Seconds of one window; a rate is the median of some of them, so that a stall of the machine does not decide."""

RECOVERED = 0.9
"""Share of the rate before, at which a second counts as one in which work goes on as before."""


@dataclass(frozen=True)
class Rates:
    """Tasks ended per second."""

    before: float
    during: float
    after: float
    back: float
    """Seconds from the end of the fault until the rate is what it was."""


def rates(ends: list[float], since: float, fault: tuple[float, float], recovery: float) -> Rates:
    """Work out the rates.

    Args:
        ends: when tasks ended, of time.time().
        since: when to begin to count.
        fault: when it began and ended.
        recovery: seconds after the fault from which all has to be as before.
    """
    began, over = fault
    hit = max(over, began + WINDOW)  # a kill lasts no time
    before = rate(ends, since, began)
    seconds = int(max(ends) - over)
    good = [n for n in range(seconds) if rate(ends, over + n, over + n + 1, 1.0) >= RECOVERED * before]
    return Rates(
        before=before,
        during=sum(began <= end < hit for end in ends) / (hit - began),
        after=rate(ends, over + recovery, over + recovery + SPAN),
        back=float(good[0]) if good else float("inf"),
    )


def rate(ends: list[float], begin: float, end: float, window: float = WINDOW) -> float:
    """The median over the whole windows between two times."""
    counts = [0] * int((end - begin) / window)
    for each in ends:
        if begin <= each < begin + len(counts) * window:
            counts[int((each - begin) / window)] += 1
    return statistics.median(counts) / window


def submit(it: Ground) -> list[int]:
    """Submits all of it, and has the table looked through, so that autovacuum does not do it in between."""
    tasks = it.submit("brief", {"least": LEAST, "most": MOST}, times=AHEAD)
    with it.owner() as owner:
        owner.execute("vacuum analyze lockgate.task")
    return tasks


def ended(it: Ground) -> list[float]:
    """When tasks succeeded, of time.time(): the server has the clock of this machine."""
    with it.owner() as owner:
        rows = owner.execute(
            "select extract(epoch from finish_time)::float8 from lockgate.task where status = 'succeeded'"
        )
        return [row[0] for row in rows]


def wait_until(moment: float) -> None:
    """Of time.time()."""
    time.sleep(max(0.0, moment - time.time()))
