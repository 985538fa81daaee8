"""A broker for all tests here and names at it for each; programs in this process or in one of their own."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any, Protocol

import pytest
from lockgate_service.amqp.commands import IntakeSettings, PublisherSettings
from lockgate_service.amqp.intake import Intake
from lockgate_service.amqp.publisher import Publisher
from lockgate_service.pool import Pool
from lockgate_service.tasks.notify import Notifier

from tests.amqp.broker import Broker, Names, NotHere, broker
from tests.contract import until
from tests.database import Database
from tests.proxy import Proxy
from tests.runner.process import RunnerProcess

NUMBERS = count(1)

INTAKE = "lockgate_service.amqp.commands intake"

IntakeStart = Callable[..., Intake]
PublisherStart = Callable[..., Publisher]
ProcessStart = Callable[..., RunnerProcess]


@pytest.fixture(scope="session")
def rabbit() -> Iterator[Broker]:
    """Skipped without one, or failed where REQUIRE_DOCKER=1."""
    try:
        with broker() as made:
            yield made
    except NotHere as why:
        if os.environ.get("REQUIRE_DOCKER") == "1":
            pytest.fail(f"REQUIRE_DOCKER=1, and there is no RabbitMQ: {why}")
        pytest.skip(f"NO RABBITMQ: {why}")


@pytest.fixture
def names(rabbit: Broker) -> Iterator[Names]:
    made = Names(f"test.{os.getpid()}.{next(NUMBERS)}")
    yield made
    rabbit.delete(made.queue, made.invalid, exchanges=(made.exchange,))


class Stoppable(Protocol):
    """A program's heart."""

    def stop(self) -> None: ...

    async def run(self) -> None: ...


@contextmanager
def in_a_thread(make: Callable[[], Awaitable[tuple[Stoppable, Callable[[], Awaitable[None]]]]]) -> Iterator[Any]:
    """Quicker to start than a process. `make` is called in its event loop, and gives how to clean up too."""
    made: list[Stoppable] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def live() -> None:
        one, close = await make()
        loops.append(asyncio.get_running_loop())
        made.append(one)
        try:
            await one.run()
        finally:
            await close()

    thread = threading.Thread(target=lambda: asyncio.run(live()), name="amqp")
    thread.start()
    try:
        until(lambda: made or not thread.is_alive(), "it to start")
        yield made[0]
    finally:
        if thread.is_alive():
            loops[0].call_soon_threadsafe(made[0].stop)
        thread.join(90)
        assert not thread.is_alive()


def settings(db: Database, rabbit: Broker, names: Names, **changed: Any) -> IntakeSettings:
    return IntakeSettings(**{"database_url": db.service, "amqp_url": rabbit.url, "queue": names.queue} | changed)


@pytest.fixture
def intake(db: Database, rabbit: Broker, names: Names) -> Iterator[IntakeStart]:
    """Starts intakes in this process, with these settings; `consuming=False`: does not wait for that."""
    with ExitStack() as stack:

        def start(consuming: bool = True, **changed: Any) -> Intake:
            chosen = settings(db, rabbit, names, **changed)

            async def make() -> tuple[Intake, Callable[[], Awaitable[None]]]:
                pool = Pool(chosen.database_url, 3)
                notifier = Notifier(pool)
                await pool.open()
                notifying = asyncio.create_task(notifier.run())

                async def close() -> None:
                    notifying.cancel()
                    await pool.close()

                return Intake(chosen, pool, notifier), close

            started: Intake = stack.enter_context(in_a_thread(make))
            if consuming:
                until(lambda: started.is_consuming, "the intake to consume")
            return started

        yield start


@pytest.fixture
def publisher(db: Database, rabbit: Broker, names: Names) -> Iterator[PublisherStart]:
    """Starts publishers in this process, with these settings; `leading=False`: does not wait for that."""
    with ExitStack() as stack:

        def start(leading: bool = True, **changed: Any) -> Publisher:
            chosen = PublisherSettings(
                **{"database_url": db.service, "amqp_url": rabbit.url, "exchange": names.exchange} | changed
            )

            async def nothing() -> None:
                pass

            async def make() -> tuple[Publisher, Callable[[], Awaitable[None]]]:
                return Publisher(chosen), nothing

            started: Publisher = stack.enter_context(in_a_thread(make))
            if leading:
                until(lambda: started.is_leading, "the publisher to lead")
            return started

        yield start


@pytest.fixture
def process(db: Database, rabbit: Broker, names: Names) -> Iterator[ProcessStart]:
    """Starts the command `intake`, or another one, with these settings."""
    started: list[RunnerProcess] = []

    def begin(command: str = INTAKE, **changed: Any) -> RunnerProcess:
        queue = {"amqp_queue": names.queue} if command == INTAKE else {}
        chosen = {"amqp_url": rabbit.url} | queue | changed
        started.append(RunnerProcess(db.service, module=command, handlers="", **chosen))
        return started[-1]

    yield begin
    for one in started:
        one.close()


@pytest.fixture
def to_database(db: Database) -> Iterator[Proxy]:
    with Proxy(db.service) as made:
        yield made


@pytest.fixture
def to_broker(rabbit: Broker) -> Iterator[Proxy]:
    with Proxy(rabbit.host_and_port) as made:
        yield made
