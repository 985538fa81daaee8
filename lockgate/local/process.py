"""A program of ours as a child process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO

from lockgate.signals import with_parent

# Of the command `lockgate`, which does not hand them on to the programs it starts.
OURS = frozenset(
    {
        "LOCKGATE_DATA",
        "LOCKGATE_DEMO_MAX",
        "LOCKGATE_DEMO_MIN",
        "LOCKGATE_DEMO_TASKS",
        "LOCKGATE_LOGIN_PASSWORD",
        "LOCKGATE_LOGIN_PASSWORD_FILE",
        "LOCKGATE_LOGIN_PREFIX",
        "LOCKGATE_RUNNERS",
        "LOCKGATE_SLOTS",
        "LOCKGATE_SPARE",
    }
)
SHORT_LIFE = 5.0  # seconds; what ends sooner than this after its start would do so again


def environment(**settings: str) -> dict[str, str]:
    """Return the environment of a program: ours, without what is meant for this command only, with these settings."""
    return {name: value for name, value in os.environ.items() if name not in OURS} | settings


class Program:
    """`python -P -m <module>`, out of reach of the terminal's Ctrl-C, killed by the kernel when we are gone.

    `output`: where its words go; None = where ours go.
    """

    def __init__(self, module: str, environment: Mapping[str, str], output: IO[bytes] | None = None) -> None:
        self.module = module
        self.environment = environment
        self.output = output
        self.pass_fds: tuple[int, ...] = ()
        self.started = 0.0  # of time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # -P: what lies in the current folder is not to be taken for a module of ours.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", self.module],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.output,
            pass_fds=self.pass_fds,
            start_new_session=True,
            preexec_fn=with_parent(signal.SIGKILL),
        )
        self.started = time.monotonic()

    @property
    def pid(self) -> int:
        """Its process id; 0 when it was never started."""
        return self._process.pid if self._process else 0

    @property
    def exit_code(self) -> int | None:
        """As of a Popen: None while it runs, or when it was never started; negative = killed by that signal."""
        return self._process.poll() if self._process else None

    @property
    def ended(self) -> str | None:
        """How it ended, in words; None while it runs, or when it was never started."""
        code = self.exit_code
        if code is None:
            return None
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    @property
    def lived(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self.started

    def ask(self) -> None:
        """Ask it to stop."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        if self._process:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def wait(self, limit: float) -> bool:
        """Wait for its end, at most `limit` seconds; whether it has ended."""
        if self._process:
            try:
                self._process.wait(limit)
            except subprocess.TimeoutExpired:
                return False
        return True

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self.wait(10)
