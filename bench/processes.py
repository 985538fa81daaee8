"""What processes cost: CPU and memory, as the kernel counts them."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """The child processes of a process, and theirs."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, read(path).split()):
            found += [child, *children(child)]
    return found


def command_line(pid: int) -> str:
    return read(Path(f"/proc/{pid}/cmdline")).replace("\0", " ")


def cpu(pid: int) -> float:
    """Seconds of CPU that a process, and those of its children that have ended, used so far; 0 when it is gone."""
    fields = read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICK


def pss(pid: int) -> int:
    """Bytes of memory, what is shared counted in parts; 0 when it is gone."""
    for line in read(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


class Meter:
    """CPU used by groups of processes since it was made. `groups`: name -> the processes of that group now."""

    def __init__(self, groups: Mapping[str, Callable[[], Iterable[int]]]) -> None:
        self._groups = groups
        self._before = self._now()
        self._begin = time.perf_counter()

    def seconds(self) -> dict[str, float]:
        """By group."""
        return {name: now - self._before[name] for name, now in self._now().items()}

    @property
    def elapsed(self) -> float:
        """Seconds since it was made."""
        return time.perf_counter() - self._begin

    def _now(self) -> dict[str, float]:
        return {name: sum(map(cpu, pids())) for name, pids in self._groups.items()}
