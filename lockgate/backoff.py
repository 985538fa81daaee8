"""The pauses between tries."""

import random


class Backoff:
    """Pauses that double from `first` to `most` seconds, each varied by up to the share `jitter` of itself."""

    def __init__(self, first: float, most: float, jitter: float = 0.5) -> None:
        self.first = first
        self.most = most
        self.jitter = jitter
        self._next = first

    def next(self) -> float:
        """Return how many seconds to wait before the next try."""
        pause, self._next = self._next, min(2 * self._next, self.most)
        return pause * random.uniform(1 - self.jitter, 1 + self.jitter)  # noqa: S311  it keeps rivals apart, no secret

    def reset(self) -> None:
        """Begin with the first pause again: a try succeeded."""
        self._next = self.first
