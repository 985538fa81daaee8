"""`lockgate up` as a user starts it, for tests."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self

from lockgate.postgres.server import free_port
from tests.contract import until

LIMIT = 60.0  # seconds; a start takes about 4


def environment(**settings: str) -> dict[str, str]:
    """Of a process in which Lockgate is told nothing but these settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LOCKGATE_") and k != "DATABASE_URL"}
    return kept | settings


def lockgate(*arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """What `lockgate ...` says and how it ends."""
    return subprocess.run(
        [sys.executable, "-m", "lockgate", *map(str, arguments)],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def is_running(pid: int) -> bool:
    """Whether it executes anything; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


def descendants(pid: int) -> dict[int, str]:
    """The processes that a process started, and those that these started: pid -> command line."""
    shown = subprocess.run(["/bin/ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
    rows = [line.split(maxsplit=2) for line in shown.stdout.splitlines()]
    found: dict[int, str] = {pid: ""}
    for _ in range(4):
        found |= {int(row[0]): row[2] for row in rows if int(row[1]) in found}
    del found[pid]
    return found


def listening(port: int) -> list[int]:
    """The processes that listen on a port of 127.0.0.1."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[1] == f"0100007F:{port:04X}" and row[3] == "0A"}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is not ours to look at
            if sockets & {str(file.readlink()) for file in (process / "fd").iterdir()}:
                found.append(int(process.name))
    return found


class Up:
    """`lockgate up` in a process group of its own, as a shell would start it. On exit it is killed if need be."""

    def __init__(self, folder: Path, *arguments: str, port: int = 0, **settings: str) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data = folder / "data"
        self._output = folder / f"output-{self.port}"
        where = ["--data", str(self.data), "--port", str(self.port)]
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lockgate", "up", *where, *arguments],
                env=environment(**settings), stdout=output, stderr=output, process_group=0,
            )  # fmt: skip

    @property
    def output(self) -> str:
        return self._output.read_text()

    def says(self, words: str, times: int = 1) -> None:
        """Wait until it says so."""

        def said() -> bool:
            assert self.process.poll() is None or self.output.count(words) >= times, self.output
            return self.output.count(words) >= times

        until(said, f"{words!r} {times} times", LIMIT)

    def line(self, begin: str) -> str:
        """The rest of the line of its greeting that begins like this."""
        return next(line.strip().removeprefix(begin).strip() for line in self.output.splitlines() if begin in line)

    def child(self, words: str) -> int:
        """The pid of the child with these words in its command line."""
        return until(
            lambda: next((p for p, command in descendants(self.process.pid).items() if words in command), 0),
            words,
            LIMIT,
        )

    def interrupt(self) -> None:
        """Ctrl-C: the terminal sends it to the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def __enter__(self) -> Self:
        self.says("lockgate: up")
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
