"""Lockgate as its peers are measured: three runners under its cap of two, or one that takes both slots."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from bench.peers.subject import Queue, Subject, Submit
from bench.testbed import Database, Testbed


class Lockgate(Subject):
    """Runs Lockgate with default settings but for the concurrency of the one runner."""

    def __init__(self, testbed: Testbed) -> None:
        super().__init__("Lockgate", testbed, ("cap", "free"))
        self._databases: dict[str, Database] = {}

    def create(self, database: str) -> None:
        self._databases[database] = self.testbed.database(database)

    def fill(self, queue: Queue, count: int) -> None:
        self._databases[queue.database].add(count, queue.kind)

    @contextmanager
    def workers(self, queue: Queue, journal: Path) -> Iterator[None]:
        processes, concurrency = (3, 1) if queue.shape == "cap" else (1, 2)
        settings = {
            "LOCKGATE_HANDLERS": "bench.peers.handlers",
            "LOCKGATE_CONCURRENCY": str(concurrency),
            "JOURNAL": str(journal),
        }
        with self.testbed.runners(processes, self._databases[queue.database], **settings):
            yield

    @contextmanager
    def submitter(self, queue: Queue) -> Iterator[Submit]:
        with psycopg.connect(self._databases[queue.database].urls["service"], autocommit=True) as connection:

            def submit() -> int:
                sent = time.monotonic_ns()
                connection.execute("select lockgate.submit('default', 'noop')", prepare=True)
                return sent

            yield submit
