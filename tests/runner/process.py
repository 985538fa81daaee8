"""A real runner process under test."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.contract import until

CHECKOUT = Path(__file__).resolve().parents[2]


class RunnerProcess:
    """``python -P -m lockgate_runner``, its log lines, and the signals it may get. ``prefix``: of the command."""

    def __init__(
        self,
        url: str,
        witness: str | None = None,
        *,
        module: str = "lockgate_runner",
        cwd: Path = CHECKOUT,
        prefix: Sequence[str] = (),
        **settings: Any,
    ) -> None:
        environment = {
            **({"DATABASE_URL": url} if url else {}),
            "LOCKGATE_HANDLERS": "tests.runner.handlers",
            "LOCKGATE_LOG_FORMAT": "json",
            **({"LOCKGATE_WITNESS": witness} if witness else {}),
            **{f"LOCKGATE_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self.lines: list[dict[str, Any]] = []
        self.noise: list[str] = []
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-P", "-m", *module.split()],
            env={k: v for k, v in os.environ.items() if not k.startswith("LOCKGATE_")} | environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def name(self) -> str:
        """As in the column runner of its tasks."""
        return str(until(lambda: next((line["runner"] for line in self.lines if "runner" in line), None), "a log line"))

    def _read(self) -> None:
        assert self.process.stdout
        for text in self.process.stdout:
            try:
                self.lines.append(json.loads(text))
            except ValueError:
                self.noise.append(text)

    def events(self, event: str, **having: object) -> list[dict[str, Any]]:
        return [x for x in list(self.lines) if x["event"] == event and having.items() <= x.items()]

    def says(self, event: str, limit: float = 60, count: int = 1, **having: object) -> dict[str, Any]:
        """Waits for the ``count``-th such line."""
        found: list[dict[str, Any]] = until(
            lambda: (e := self.events(event, **having)) and len(e) >= count and e,
            f"{count} of {event!r} {having or ''} among {[line['event'] for line in self.lines]} {self.noise}",
            limit,
        )
        return found[count - 1]

    def executors(self) -> list[int]:
        """The processes below it."""
        return [child for child in children(self.pid) if "lockgate_runner.executor.child" in command_line(child)]

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        self.process.kill()
        self.process.wait(10)

    def stop(self, limit: float = 20) -> int:
        """SIGTERM, and waits for its end."""
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(limit)
        self._reader.join(5)
        return code

    def close(self) -> None:
        """Ends it in any case; its executors end with it."""
        self.kill()
        self._reader.join(5)
        if self.process.stdout:
            self.process.stdout.close()


def children(pid: int) -> list[int]:
    """The live child processes of a process."""
    lists = list(Path(f"/proc/{pid}/task").glob("*/children"))
    if not lists and exists(pid):
        return _children_of_all(pid)  # a kernel that keeps no such lists
    found: list[int] = []
    for path in lists:
        with suppress(OSError):  # that thread has ended
            found += [int(child) for child in path.read_text().split()]
    return [child for child in found if exists(child)]


def _children_of_all(pid: int) -> list[int]:
    """The same from a look at every process there is, which takes its time where there are many."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def runners_of(supervisor: int) -> list[int]:
    """The runners below a `lockgate run`, the one that serves first: a spare is only started beside that."""
    found = [pid for pid in children(supervisor) if "-m lockgate_runner" in command_line(pid)]
    return sorted(found, key=lambda pid: (_started(pid), pid))


def _started(pid: int) -> int:
    """When a process was started, in ticks since the boot; a great number when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return sys.maxsize


def exists(pid: int) -> bool:
    """Whether that process lives; a dead one that nobody has reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
