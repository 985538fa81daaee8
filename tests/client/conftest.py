"""One service process for all these tests, and a client in each of its two forms."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from lockgate import AsyncClient, Client
from tests.contract import Contract, Session
from tests.database import Database, Template
from tests.proxy import Proxy
from tests.service.conftest import Process, process, start, until_ready

__all__ = ["process", "start"]


class Synchronous:
    """Calls the sync client."""

    def __init__(self, url: str, **named: Any) -> None:
        self.url, self.named = url, named
        self.seen: list[Any] = []
        """What the latest `all` has brought so far."""

    def call(self, name: str, *args: Any, **named: Any) -> Any:
        with Client(self.url, **self.named) as client:
            return getattr(client, name)(*args, **named)

    def all(self, name: str, *args: Any, **named: Any) -> list[Any]:
        self.seen = []
        with Client(self.url, **self.named) as client:
            for one in getattr(client, name)(*args, **named):
                self.seen.append(one)
        return self.seen


class Asynchronous(Synchronous):
    """Calls the async client, in a loop of its own."""

    def call(self, name: str, *args: Any, **named: Any) -> Any:
        async def calling() -> Any:
            async with AsyncClient(self.url, **self.named) as client:
                return await getattr(client, name)(*args, **named)

        return asyncio.run(calling())

    def all(self, name: str, *args: Any, **named: Any) -> list[Any]:
        async def calling() -> None:
            async with AsyncClient(self.url, **self.named) as client:
                async for one in getattr(client, name)(*args, **named):
                    self.seen.append(one)

        self.seen = []
        asyncio.run(calling())
        return self.seen


Calling = Callable[..., Synchronous]


@pytest.fixture(scope="session")
def served(pg_template: Template) -> Iterator[tuple[Database, str]]:
    """A service process and its database."""
    with pg_template.clone() as db:
        one = Process("--port", "0", DATABASE_URL=db.service)
        try:
            until_ready(one)
            yield db, one.url
        finally:
            one.close()


@pytest.fixture
def url(served: tuple[Database, str]) -> str:
    return served[1]


@pytest.fixture
def q(served: tuple[Database, str]) -> Iterator[Contract]:
    db, _ = served
    contract = Contract(db)
    yield contract
    contract.service.close()
    db.query("update lockgate.queue set slots = 2, paused = false, depth_max = null")
    db.query("truncate lockgate.task, lockgate.attempt, lockgate.output")


@pytest.fixture
def runner(q: Contract) -> Iterator[Session]:
    """In slot 1 of `default`."""
    session = q.runner()
    yield session
    session.die()


@pytest.fixture
def between(served: tuple[Database, str]) -> Iterator[Proxy]:
    """Between client and service."""
    where = httpx.URL(served[1])
    with Proxy(f"host={where.host} port={where.port}") as made:
        yield made


@pytest.fixture(params=[Synchronous, Asynchronous])
def calling(request: pytest.FixtureRequest) -> Calling:
    """Makes clients of either form."""
    form: Calling = request.param
    return form


@pytest.fixture
def client(calling: Calling, url: str) -> Synchronous:
    return calling(url)


@pytest.fixture
def later() -> Iterator[Callable[..., Any]]:
    """Calls something beside the test."""
    with ThreadPoolExecutor(4) as pool:
        yield pool.submit
