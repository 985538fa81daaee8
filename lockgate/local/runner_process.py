"""A runner as a child process: kept waiting until its turn, and known to be dead when nothing of it is left."""

import json
import os
import secrets
import select
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

from lockgate.local.process import Program


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
