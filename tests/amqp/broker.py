"""The RabbitMQ the tests run on: TEST_AMQP_URL, else a container of rabbitmq:4-management where Docker has that.

REQUIRE_DOCKER=1 allows no doing without. And what a producer and a curious person do with it, for tests that wait.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

import aiormq
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic
from yarl import URL

from lockgate.postgres.server import free_port
from tests import server
from tests.contract import until

docker: Any = import_module("docker")  # ships no types
T = TypeVar("T")

IMAGE = "rabbitmq:4-management"
START_LIMIT = 180.0
CALL_LIMIT = 30.0


class NotHere(Exception):
    """What is missing."""


class Got(NamedTuple):
    """A message as it was found in a queue."""

    body: bytes
    properties: Basic.Properties
    routing_key: str

    @property
    def headers(self) -> dict[str, Any]:
        return dict(self.properties.headers or {})


@dataclass(frozen=True)
class Names:
    """What a test's queues and exchange are called at a broker that others may use too."""

    queue: str

    @property
    def invalid(self) -> str:
        return f"{self.queue}.invalid"

    @property
    def exchange(self) -> str:
        return f"{self.queue}.exchange"


@dataclass
class Broker:
    """`restart` stops it in the middle of whatever it does and starts it again, if it may do that."""

    url: str
    container: Any | None = None

    @property
    def host_and_port(self) -> str:
        """As a DSN, for a proxy."""
        url = URL(self.url)
        return f"host={url.host} port={url.port}"

    def through(self, address: str) -> str:
        """Its URL by way of a proxy."""
        host, port = address.split(":")
        return str(URL(self.url).with_host(host).with_port(int(port)))

    def kill(self) -> None:
        assert self.container is not None, "only a container is ours to restart"
        self.container.kill()

    def start(self) -> None:
        """Returns when it takes connections."""
        assert self.container is not None
        self.container.start()
        self.wait()

    def wait(self) -> None:
        until(lambda: self.answers(), "the broker to answer", START_LIMIT, every=0.2)

    def answers(self) -> bool:
        with suppress(Exception):
            return self.with_channel(_nothing)
        return False

    # -- what people do -----------------------------------------------------------------------------------------------

    def with_channel(self, do: Callable[[AbstractChannel], Awaitable[T]]) -> T:
        async def done() -> T:
            async with asyncio.timeout(CALL_LIMIT):
                connection = aiormq.Connection(self.url)
                await connection.connect()
                try:
                    return await do(await connection.channel())
                finally:
                    await connection.close()

        return asyncio.run(done())

    def publish(
        self, queue: str, *bodies: bytes | str, exchange: str = "", each: Callable[[int], dict[str, Any]] | None = None,
        **properties: Any,
    ) -> None:  # fmt: skip
        """Confirmed when it returns. `each`: properties by the number of the body."""

        async def do(channel: AbstractChannel) -> None:
            for begin in range(0, len(bodies), 500):
                await asyncio.gather(*(send(channel, number) for number in range(begin, min(begin + 500, len(bodies)))))

        async def send(channel: AbstractChannel, number: int) -> None:
            body = bodies[number]
            own = properties | (each(number) if each else {})
            await channel.basic_publish(
                body.encode() if isinstance(body, str) else body, exchange=exchange, routing_key=queue, mandatory=True,
                properties=Basic.Properties(**({"delivery_mode": 2} | own)),
            )  # fmt: skip

        self.with_channel(do)

    def take(self, queue: str) -> list[Got]:
        """All that is there, and gone from there afterwards."""

        async def do(channel: AbstractChannel) -> list[Got]:
            found: list[Got] = []
            while True:
                message = await channel.basic_get(queue, no_ack=True)
                if isinstance(message.delivery, Basic.GetEmpty):
                    return found
                assert isinstance(message.delivery, Basic.GetOk)
                found.append(Got(message.body, message.header.properties, str(message.delivery.routing_key)))

        return self.with_channel(do)

    def give_back(self, queue: str, times: int) -> None:
        """Takes the first message and puts it back, so often."""

        async def do(channel: AbstractChannel) -> None:
            for _ in range(times):
                message = await channel.basic_get(queue)
                while isinstance(message.delivery, Basic.GetEmpty):  # not back yet
                    message = await channel.basic_get(queue)
                assert isinstance(message.delivery, Basic.GetOk)
                await channel.basic_nack(message.delivery.delivery_tag or 0)

        self.with_channel(do)

    def ready(self, queue: str) -> int | None:
        """How many messages wait there that nobody has in hand; None if there is no such queue."""

        async def do(channel: AbstractChannel) -> int:
            return (await channel.queue_declare(queue, passive=True)).message_count or 0

        try:
            return self.with_channel(do)
        except aiormq.exceptions.ChannelNotFoundEntity:
            return None

    def declare(self, queue: str, **options: Any) -> None:
        async def do(channel: AbstractChannel) -> None:
            await channel.queue_declare(queue, durable=True, **options)

        self.with_channel(do)

    def declare_exchange(self, name: str) -> None:
        async def do(channel: AbstractChannel) -> None:
            await channel.exchange_declare(name, exchange_type="topic", durable=True)

        self.with_channel(do)

    def bind(self, queue: str, exchange: str, key: str) -> None:
        async def do(channel: AbstractChannel) -> None:
            await channel.queue_bind(queue, exchange, key)

        self.with_channel(do)

    def delete(self, *queues: str, exchanges: Sequence[str] = ()) -> None:
        """Fine if they are not there."""

        async def do(channel: AbstractChannel) -> None:
            for queue in queues:
                await channel.queue_delete(queue)
            for exchange in exchanges:
                await channel.exchange_delete(exchange)

        self.with_channel(do)


async def _nothing(_: AbstractChannel) -> bool:
    return True


@contextmanager
def broker() -> Iterator[Broker]:
    """Raises NotHere."""
    if (url := os.environ.get("TEST_AMQP_URL")) and os.environ.get("REQUIRE_DOCKER") != "1":
        yield Broker(url)
        return
    if (why := missing()) is not None:
        raise NotHere(f"no TEST_AMQP_URL, and {why}")
    with container() as made:
        yield made


def missing() -> str | None:
    try:
        client = docker.from_env(timeout=10)
    except docker.errors.DockerException:
        server.forget_refused_client()
        return "Docker does not answer"
    try:
        client.images.get(IMAGE)
    except docker.errors.ImageNotFound:
        return None if server.pulled(IMAGE) else f"Docker has no image {IMAGE} and cannot pull it"
    except docker.errors.DockerException as error:
        return f"Docker does not answer: {error}"
    finally:
        client.close()
    return None


@contextmanager
def container() -> Iterator[Broker]:
    """One that can be restarted: its port, its name and its data stay."""
    from testcontainers.core.container import DockerContainer

    server.do_without_ryuk_where_it_is_not()
    port = free_port()
    made: Any = DockerContainer(IMAGE, hostname="rabbitmq").with_bind_ports(5672, port)
    with made:
        one = Broker(f"amqp://guest:guest@127.0.0.1:{port}/", made.get_wrapped_container())
        one.wait()
        yield one
    made.get_docker_client().client.close()
