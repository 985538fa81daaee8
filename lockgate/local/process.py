"""Programs of ours as child processes; a runner is known to be dead when nothing of it is left."""

import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
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


class RunnerProgram(Program):
    """One runner process under a name that no other ever has. It loads its handlers, and waits for a go-ahead."""

    def __init__(self, environment: Mapping[str, str], output: IO[bytes] | None = None) -> None:
        super().__init__("lockgate_runner", environment, output)
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.lifeline: int
        """From the start on. Reads its end of file when the runner and its executors are all dead."""
        self.activation: socket.socket
        """From the start on. Takes the go-ahead, and tells whether the runner holds slots."""
        self._said = b""
        self._asked = False

    def start(self) -> None:
        self.lifeline, theirs = os.pipe()
        self.activation, activation = socket.socketpair()
        self.activation.setblocking(False)
        self.pass_fds = (theirs, activation.fileno())
        self.environment = {
            **self.environment,
            "LOCKGATE_RUNNER_NAME": self.name,
            "LOCKGATE_LIFELINE": str(theirs),
            "LOCKGATE_ACTIVATION": str(activation.fileno()),
        }
        try:
            super().start()
        finally:
            os.close(theirs)
            activation.close()

    def go(self, inherit: Sequence[str] = (), keep_executor: bool = False, metrics: str | None = None) -> None:
        """Sends the go-ahead: the runner starts to take tasks.

        `inherit`: names of dead runners whose tasks it may adopt at once; `keep_executor`: whether it is to have an
        executor loaded also when it stands by; `metrics`: where it is to serve them, None = where its environment says.
        """
        self.started = time.monotonic()
        with suppress(OSError):  # it is dead, and that is seen to like any death
            go_ahead = {"inherit": list(inherit), "keep_executor": keep_executor, "metrics": metrics}
            self.activation.send(json.dumps(go_ahead).encode() + b"\n")

    def ask(self) -> None:
        """Asks it to stop; the second time, at once."""
        # Two signals of one number may reach it as one.
        self._signal(signal.SIGINT if self._asked else signal.SIGTERM)
        self._asked = True

    @property
    def serving(self) -> bool:
        """Whether it has had a session, and thus could start."""
        return self._hear() != b""

    @property
    def holding(self) -> bool:
        """Whether it holds slots; a spare and a standby do not."""
        return self._hear() == b"+"

    def _hear(self) -> bytes:
        with suppress(OSError):
            self._said = self.activation.recv(4096)[-1:] or self._said
        return self._said

    @property
    def is_gone(self) -> bool:
        """Whether the kernel has proved that it and its executors are all dead."""
        return bool(select.select([self.lifeline], [], [], 0)[0])

    def close(self) -> None:
        """Forgets one that is dead."""
        os.close(self.lifeline)
        self.activation.close()

    def discard(self) -> None:
        """Ends one that nobody needs: it holds nothing, and has nothing to give back."""
        self.kill()
        select.select([self.lifeline], [], [], 1)  # its executor dies with it, a moment later
        self.close()
