"""One supervised runner of the field: its processes, and the pipe that takes its output."""

import fcntl
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lockgate.signals import with_parent
from tests.runner.process import CHECKOUT, children, command_line, runners_of

PIPE = 4096
"""Bytes that fit into the pipe: few, so that it is full soon once nobody reads."""

FULL = PIPE - 512
"""Bytes in the pipe from which the next line or two do not fit."""


class Supervised:
    """One ``lockgate run``. Whoever holds ``lock`` may do something to its processes."""

    def __init__(self, number: int, environment: dict[str, str], log: Path) -> None:
        self.number = number
        self.lock = threading.Lock()
        self.reading = threading.Event()
        """Cleared, nobody takes in what it says."""
        self.process: subprocess.Popen[bytes] | None = None
        self._environment = environment
        self._log = log
        self._out, self._in = os.pipe()
        fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, PIPE)
        self.reading.set()
        self._reader = threading.Thread(target=self._read, name=f"output of {number}", daemon=True)
        self._reader.start()

    def __str__(self) -> str:
        return f"runner {self.number}"

    def _read(self) -> None:
        with self._log.open("ab", buffering=0) as log:
            while self.reading.wait() and (data := os.read(self._out, PIPE)):
                log.write(data)

    def start(self) -> None:
        """Starts it. Call it in a thread that lives as long as the run: the kernel ends it when that thread ends."""
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "lockgate", "run"],
            env=self._environment,
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=self._in,
            stderr=self._in,
            start_new_session=True,
            preexec_fn=with_parent(signal.SIGKILL),
        )

    @property
    def pid(self) -> int:
        """The supervisor's process id; 0 when it does not run."""
        return self.process.pid if self.process and self.process.poll() is None else 0

    def runner(self) -> int | None:
        """The process id of its runner now."""
        return next(iter(runners_of(self.pid)), None)

    def spares(self) -> list[int]:
        """Runners that wait to take its place."""
        return runners_of(self.pid)[1:]

    def executors(self) -> list[int]:
        return self._below("lockgate_runner.executor.child")

    def reapers(self) -> list[int]:
        return self._below("reaper.py")

    def tree(self) -> list[int]:
        """All of its processes that are ours, the supervisor first."""
        runner = self.runner()
        return [pid for pid in (self.pid, runner, *self.executors(), *self.reapers(), *self.spares()) if pid]

    def _below(self, program: str) -> list[int]:
        runner = self.runner()
        return [pid for pid in children(runner) if program in command_line(pid)] if runner else []

    def unread(self) -> int:
        """Bytes of output that wait in the pipe."""
        answer = bytearray(4)
        fcntl.ioctl(self._out, termios.FIONREAD, answer)
        return int.from_bytes(answer, sys.byteorder)

    def ask(self) -> None:
        """Tells it to stop."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def wait(self, limit: float) -> bool:
        """Waits for the supervisor's end; whether it has ended."""
        with suppress(subprocess.TimeoutExpired):
            if self.process:
                self.process.wait(limit)
            return True
        return False

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait(10)

    def close(self) -> None:
        """Ends it in any case, and takes in the last it has said."""
        self.kill()
        os.close(self._in)
        self.reading.set()
        self._reader.join(2)


def state(pid: int) -> str:
    """What the kernel says of a process: R, S, T (stopped), Z, … or nothing when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def group(pid: int) -> int:
    """Its process group; 0 when it is gone."""
    with suppress(ProcessLookupError):
        return os.getpgid(pid)
    return 0


def send(pids: list[int], number: signal.Signals) -> list[int]:
    """Sends a signal to each; those that were there to get it."""
    reached = []
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            reached.append(pid)
    return reached


def soon(condition: Callable[[], bool], limit: float = 2.0) -> bool:
    """Whether it becomes true within the limit, in seconds."""
    end = time.monotonic() + limit
    while not (held := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return held


def left_behind(mark: str) -> list[str]:
    """Live processes with this text in the environment they were started with: pid and command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            pid = int(path.name)
            if mark.encode() in (path / "environ").read_bytes() and state(pid) not in ("", "Z"):
                found.append(f"{pid} {command_line(pid)}")
    return found
