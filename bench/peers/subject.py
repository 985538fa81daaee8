"""The interface of a measured queue: a peer by its adapter, or Lockgate by its programs."""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psycopg

from bench.peers.journal import Journal
from bench.testbed import Testbed

Kind = Literal["noop", "nap"]
Shape = Literal["free", "cap", "batches"]
"""One worker at concurrency two; three workers under a cap of two; one worker that claims and ends in batches."""

Submit = Callable[[], int]
"""Submits a no-op; returns the monotonic clock just before, in nanoseconds."""


@dataclass
class Queue:
    """One database of a subject: the shape of its workers, the kind of its tasks, and their counts."""

    database: str
    shape: Shape
    kind: Kind
    filled: int = 0
    executed: int = 0

    @property
    def waiting(self) -> int:
        return max(0, self.filled - self.executed)


@dataclass
class Subject(ABC):
    """A task queue. Raises RuntimeError or TimeoutError where it fails."""

    name: str
    testbed: Testbed
    shapes: Sequence[Shape]
    queues: dict[str, Queue] = field(default_factory=dict)

    def queue(self, use: str, shape: Shape = "free", kind: Kind = "noop") -> Queue:
        """Returns the database for this use; makes it at the first call."""
        database = f"{self.name}_{use}_{shape}_{kind}".lower().replace("-", "_")
        if database not in self.queues:
            self.create(database)
            self.queues[database] = Queue(database, shape, kind)
        return self.queues[database]

    def top_up(self, queue: Queue, count: int) -> None:
        """Adds waiting tasks up to `count` by the subject's own bulk call, then vacuums."""
        if queue.waiting < count:
            missing = count - queue.waiting
            self.fill(queue, missing)
            queue.filled += missing
        with psycopg.connect(self.testbed.server.dsn(database=queue.database), autocommit=True) as owner:
            owner.execute("vacuum (analyze)")
            owner.execute("checkpoint")

    @contextmanager
    def work(self, queue: Queue) -> Iterator[Journal]:
        """Runs the workers of the queue's shape, and stops them at the end."""
        journal = Journal(Path(tempfile.mkdtemp(prefix="journal-", dir=self.testbed.folder)))
        with self.workers(queue, journal.folder):
            yield journal
        queue.executed += journal.count()

    @abstractmethod
    def create(self, database: str) -> None:
        """Makes a database with the subject's own tables."""

    @abstractmethod
    def fill(self, queue: Queue, count: int) -> None:
        """Adds tasks."""

    @abstractmethod
    def workers(self, queue: Queue, journal: Path) -> AbstractContextManager[None]:
        """Starts worker processes, and stops them at the end."""

    @abstractmethod
    def submitter(self, queue: Queue) -> AbstractContextManager[Submit]:
        """Opens a connection that submits one task at a time."""
