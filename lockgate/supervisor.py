"""A supervised runner: when it dies, a successor takes over its slots without waiting out the grace.

That is safe only once the runner and every hand of it are dead, and the kernel says so: all of them, and nobody else,
hold the writing end of a pipe, the lifeline. Its end of file is the proof. A successor told the dead runner's name may
then adopt its tasks at once. Without the proof (a handler forked a child that still holds the pipe) the successor
starts all the same, and waits out the grace like everybody else.
"""

import os
import secrets
import select
import socket
import time
from collections.abc import Mapping
from typing import IO

from lockgate.program import Program

PROOF_LIMIT = 5.0
"""Seconds a dead runner's lifeline may stay open before a successor starts without inheriting."""

STEADY = 10.0
"""Seconds a runner must have lived for the next one to start without a pause."""


class Supervisor(Program):
    """One runner, and its successors. Call `tend` whenever `fileno` is readable, and every half second."""

    def __init__(self, environment: Mapping[str, str], output: IO[bytes] | None = None) -> None:
        super().__init__("runner", environment, output)
        self.name = ""
        self.replaced = 0
        """How many died and were replaced."""
        self._settings = dict(environment)
        self._lifeline = -1
        self._died: float | None = None
        self._pause = 0.0
        self._stopping = False

    def fileno(self) -> int:
        """Readable when the runner and its hands are all dead."""
        return self._lifeline

    def start(self) -> None:
        self._start(inherit="")

    def _start(self, inherit: str) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._lifeline, theirs = os.pipe()
        self.pass_fds = (theirs,)
        self.environment = self._settings | {
            "LOCKGATE_RUNNER_NAME": self.name,
            "LOCKGATE_LIFELINE": str(theirs),
            "LOCKGATE_INHERIT": inherit,
        }
        try:
            super().start()
        finally:
            os.close(theirs)

    def tend(self) -> str | None:
        """Replaces a runner that has died; what it died of, in words, or None if nothing happened."""
        ended = self.ended
        if ended is None or self._stopping:
            return None
        now = time.monotonic()
        if self._died is None:
            self._died = now
            self._pause = (
                0.0 if now - self.started >= STEADY or self.replaced == 0 else min(self._pause * 2 + 0.1, 10.0)
            )
        proven = bool(select.select([self._lifeline], [], [], 0)[0])
        if now < self._died + (self._pause if proven else max(self._pause, PROOF_LIMIT)):
            return None
        predecessor = self.name if proven else ""
        os.close(self._lifeline)
        self._died = None
        self.replaced += 1
        self._start(inherit=predecessor)
        return ended

    def ask(self) -> None:
        """Asks it to stop, for good."""
        self._stopping = True
        super().ask()

    def kill(self) -> None:
        self._stopping = True
        super().kill()
