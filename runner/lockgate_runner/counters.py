"""What a runner counts of its own work; read by whoever serves its metrics."""

from collections import Counter


class Tally:
    """Numbers that only grow, and a few that tell how it is now. Written by the runner's one thread."""

    def __init__(self) -> None:
        self.claims = 0
        self.attempts: Counter[str] = Counter()
        """Recorded ones, by the status of the task afterwards."""
        self.adoptions = 0
        self.sessions_lost = 0
        self.executors_died: Counter[str] = Counter()
        """By reason: deadline, cancel, timeout, memory, stop, crash."""
        self.slots_held = 0
        self.slots_busy = 0
        self.connected = False
        self.draining = False
