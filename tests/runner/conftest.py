"""Runner processes that end with their test, and the witness that counts their handlers."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lockgate.witness import Witness
from tests.database import Database
from tests.runner.process import RunnerProcess

Start = Callable[..., RunnerProcess]


@pytest.fixture
def witness() -> Iterator[Witness]:
    with Witness() as it:
        yield it


@pytest.fixture
def start(db: Database, witness: Witness) -> Iterator[Start]:
    """``start(**settings)`` starts a runner on the test's database; its log is shown when the test fails."""
    started: list[RunnerProcess] = []

    def one(url: str = "", **settings: Any) -> RunnerProcess:
        process = RunnerProcess(url or db.runner, witness.address, **settings)
        started.append(process)
        return process

    yield one
    for process in started:
        process.close()
        print(f"--- runner {process.pid}:")  # noqa: T201 - pytest shows it when the test failed
        for line in process.lines:
            print(*(f"{k}={v}" for k, v in line.items() if k not in ("level", "runner")))  # noqa: T201
        print(*process.noise)  # noqa: T201
