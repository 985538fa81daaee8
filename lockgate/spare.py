"""A spare runner: started and loaded already, in the place of whichever runner dies first.

Starting Python twice, for the runner and for its hand, and importing the handlers takes most of the time until a dead
runner's task executes again. A spare has done all that and waits. It has no session, no slot and no row; it costs the
memory of a runner with one hand.
"""

import time
from collections.abc import Callable

import click

from lockgate.runner_program import RunnerProgram

LATER = 1.0
"""Seconds between the moment since when all runners serve and the start of a spare: work comes first."""

PAUSE_MAX = 300.0
"""Seconds between two starts at most, when spares keep dying."""

STEADY = 60.0
"""Seconds a spare must have lived for the next one to be started without a longer pause."""


class Spare:
    """At most one runner process that waits for its cue. Call `tend` every half second or so."""

    def __init__(self, make: Callable[[], RunnerProgram]) -> None:
        self._make = make
        self._process: RunnerProgram | None = None
        self._settled: float | None = None
        self._not_before = 0.0
        self._pause = 0.0
        self._stopped = False

    def tend(self, settled: bool) -> None:
        """Starts one where there is none. `settled`: whether all runners serve."""
        now = time.monotonic()
        self._settled = (self._settled or now) if settled else None
        if self._process and self._process.ended is not None:
            self._process.close()
            self._pause = 1.0 if self._process.lived >= STEADY else min(self._pause * 2 + 1, PAUSE_MAX)
            self._not_before = now + self._pause
            self._process = None
        due = self._settled is not None and now >= max(self._settled + LATER, self._not_before)
        if self._process is None and due and not self._stopped:
            self._process = self._make()
            self._process.start()

    def take(self) -> RunnerProgram | None:
        """The spare, for its cue; None when there is none that lives."""
        process = self._process
        if process is None or process.ended is not None:
            return None
        self._process, self._settled, self._pause = None, None, 0.0
        return process

    def stop(self) -> None:
        """Ends it, for good."""
        self._stopped = True
        if self._process:
            self._process.discard()
            self._process = None


spare_option = click.option(
    "--spare/--no-spare",
    envvar="LOCKGATE_SPARE",
    default=True,
    show_default="on",
    show_envvar=True,
    help="Keep one runner more, loaded and waiting, to take the place of one that dies.",
)
