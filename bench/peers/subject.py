"""What is measured, whether a peer by its adapter or Lockgate by its programs: the same verbs for all."""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psycopg

from bench.ground import Ground
from bench.peers.journal import Journal

Kind = Literal["noop", "nap"]
Shape = Literal["free", "cap", "batches"]
"""One worker at concurrency two; three workers under a cap of two; one worker that claims and ends in batches."""

Submit = Callable[[], int]
"""Submits a no-op. What the monotonic clock said just before, in nanoseconds."""


@dataclass
class Queue:
    """One database of a subject: how it is worked on, with what, and how much was put in and taken out."""

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
    """Something that executes tasks. What goes wrong in it is a RuntimeError or a TimeoutError."""

    name: str
    ground: Ground
    shapes: Sequence[Shape]
    queues: dict[str, Queue] = field(default_factory=dict)

    def queue(self, use: str, shape: Shape = "free", kind: Kind = "noop") -> Queue:
        """The database for this use, made when it is first asked for."""
        database = f"{self.name}_{use}_{shape}_{kind}".lower().replace("-", "_")
        if database not in self.queues:
            self.create(database)
            self.queues[database] = Queue(database, shape, kind)
        return self.queues[database]

    def top_up(self, queue: Queue, count: int) -> None:
        """So many waiting tasks at least, by the subject's own bulk call, and tables as they are after a vacuum."""
        if queue.waiting < count:
            missing = count - queue.waiting
            self.fill(queue, missing)
            queue.filled += missing
        with psycopg.connect(self.ground.server.dsn(database=queue.database), autocommit=True) as owner:
            owner.execute("vacuum (analyze)")
            owner.execute("checkpoint")

    @contextmanager
    def work(self, queue: Queue) -> Iterator[Journal]:
        """Workers on it, as its shape asks for, each told to stop at the end and given time to."""
        journal = Journal(Path(tempfile.mkdtemp(prefix="journal-", dir=self.ground.folder)))
        with self.workers(queue, journal.folder):
            yield journal
        queue.executed += journal.count()

    @abstractmethod
    def create(self, database: str) -> None:
        """A database with the subject's own tables in it."""

    @abstractmethod
    def fill(self, queue: Queue, count: int) -> None:
        """So many more tasks."""

    @abstractmethod
    def workers(self, queue: Queue, journal: Path) -> AbstractContextManager[None]:
        """Processes that execute what is in the queue while the context is entered."""

    @abstractmethod
    def submitter(self, queue: Queue) -> AbstractContextManager[Submit]:
        """Something with an open connection that submits one task at a time."""
