"""A spare runner: started and loaded already, in the place of whichever runner dies first.

Starting Python twice, for the runner and for its executor, and importing the handlers takes most of the time until a
dead runner's task executes again. A spare has done all that and waits. It has no session, no slot and no row; it costs
the memory of a runner with one executor. While nobody holds a slot there is none: who stands by keeps its own executor
instead.
"""

import time
from collections.abc import Callable

import click

from lockgate.local.runner_process import RunnerProgram

LATER = 1.0
"""Seconds between the moment since when a spare is needed and its start: work comes first."""

LINGERS = 10.0
"""Seconds for which it stays when it is needed no more."""

PAUSE_MAX = 300.0
"""Seconds between two starts at most, when spares keep dying."""

STEADY = 60.0
"""Seconds a spare must have lived for the next one to be started without a longer pause."""


class Spare:
    """At most one runner process that waits for a go-ahead. Call `tend` every half second or so."""

    def __init__(self, make: Callable[[], RunnerProgram]) -> None:
        self._make = make
        self._process: RunnerProgram | None = None
        self._needed_since: float | None = None
        self._needed_until = 0.0
        self._not_before = 0.0
        self._pause = 0.0
        self._stopped = False

    def tend(self, needed: bool) -> None:
        """Starts one where there is none, when one is needed; ends it when none is."""
        now = time.monotonic()
        self._needed_since = (self._needed_since or now) if needed else None
        self._needed_until = now if needed else self._needed_until
        process = self._process
        if process and process.ended is not None:
            process.close()
            self._pause = 1.0 if process.lived >= STEADY else min(self._pause * 2 + 1, PAUSE_MAX)
            self._not_before = now + self._pause
            self._process = None
        elif process and now > self._needed_until + LINGERS:
            process.discard()
            self._process = None
        elif process is None and self._is_due(now):
            process = self._make()
            process.start()
            self._process = process

    def _is_due(self, now: float) -> bool:
        if self._stopped or self._needed_since is None:
            return False
        return now >= max(self._needed_since + LATER, self._not_before)

    def take(self) -> RunnerProgram | None:
        """The spare, to be activated; None when there is none that lives."""
        process = self._process
        if process is None or process.ended is not None:
            return None
        self._process, self._needed_since, self._pause = None, None, 0.0
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
