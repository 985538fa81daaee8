"""What is fuzzed: a service process that asks for keys, a database with some of everything in it, and a runner."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from tests.contract import Contract, until
from tests.database import Database, template
from tests.runner.process import RunnerProcess
from tests.server import embedded
from tests.service.api_keys import make_key
from tests.service.conftest import Process

START = 120.0
"""Seconds, on a machine that is busy."""

STATUSES = ("scheduled", "queued", "running", "succeeded", "failed", "cancelled")


@dataclass
class Scene:
    db: Database
    service: Process
    runner: RunnerProcess
    key: str


@contextmanager
def scene() -> Iterator[Scene]:
    with embedded() as admin, template(admin) as made, made.clone() as db:
        fill(Contract(db))
        key = make_key(db, "fuzz")
        service, runner = Process("--port", "0", DATABASE_URL=db.service), RunnerProcess(db.runner, handlers="")
        try:
            until(lambda: service.said("listening"), "the service to listen", START)
            until(lambda: httpx.get(f"{service.url}/health/ready").status_code == 200, "the service to be ready", START)
            yield Scene(db, service, runner, key)
        finally:
            runner.close()
            service.close()


def fill(q: Contract) -> None:
    """Tasks 1 to 10, one at least of every status, and the queues that schemathesis.toml names."""
    q.queue("full", depth_max=1)
    q.queue("paused", paused=True)
    q.queue("narrow", kinds=["sleep"])
    q.queue("idle", slots=0)
    for status in STATUSES:
        q.row(status)
    for queue in ("full", "paused", "idle"):
        q.submit(queue=queue, tags=["a"], metadata={"b": 1}, dedupe_key="c")
    q.submit(payload={"min": 60, "max": 60})  # for the runner
