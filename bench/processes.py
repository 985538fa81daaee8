"""CPU and memory of processes, as the kernel counts them."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """Returns the descendants of a process."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, read(path).split()):
            found += [child, *children(child)]
    return found


def command_line(pid: int) -> str:
    return read(Path(f"/proc/{pid}/cmdline")).replace("\0", " ")


def cpu(pid: int) -> float:
    """Returns the seconds of CPU of a process and its ended children; 0 when it has ended."""
    fields = read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICK


def pss(pid: int) -> int:
    """Returns the bytes of memory (PSS); 0 when it has ended."""
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
    """CPU of groups of processes since its creation. `groups`: name -> the processes of that group now."""

    def __init__(self, groups: Mapping[str, Callable[[], Iterable[int]]]) -> None:
        self._groups = groups
        self._before = self._now()
        self._begin = time.perf_counter()

    def seconds(self) -> dict[str, float]:
        """Returns them by group."""
        return {name: now - self._before[name] for name, now in self._now().items()}

    @property
    def elapsed(self) -> float:
        """Seconds since its creation."""
        return time.perf_counter() - self._begin

    def _now(self) -> dict[str, float]:
        return {name: sum(map(cpu, pids())) for name, pids in self._groups.items()}
