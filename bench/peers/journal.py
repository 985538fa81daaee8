"""The start and end of each execution, written by handlers from the machine's monotonic clock."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Journal:
    """A folder in which each process that executes keeps a file, with a line `begin end` (nanoseconds) a task."""

    folder: Path

    def count(self) -> int:
        """Returns the number of ended executions."""
        return len(self.executions())

    def size(self) -> int:
        """Returns the bytes of all files, which grow with each execution."""
        return sum(file.stat().st_size for file in self.folder.iterdir())

    def executions(self) -> list[tuple[int, int]]:
        """Returns all executions, sorted by their end. An incomplete line does not count yet."""
        lines = (line for file in self.folder.iterdir() for line in file.read_text().splitlines(keepends=True))
        pairs = (line.split() for line in lines if line.endswith("\n"))
        return sorted(((int(begin), int(end)) for begin, end in pairs), key=lambda one: one[1])

    def most_at_once(self) -> int:
        """Returns the most executions at any moment."""
        # At the same nanosecond an end comes first: -1 sorts before 1.
        steps = sorted(step for begin, end in self.executions() for step in ((begin, 1), (end, -1)))
        now = most = 0
        for _, step in steps:
            now += step
            most = max(most, now)
        return most
