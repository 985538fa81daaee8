"""``python -m bench.intake``: tasks from RabbitMQ a second, against the same rows over HTTP, and acknowledgements only.

Needs a RabbitMQ, as the tests do: TEST_AMQP_URL, else a container.
"""

import asyncio
import http.client
import json
import os
import time
from collections.abc import Iterator

import aiormq
from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.channel import Channel
from lockgate_service.amqp.broker import QUEUE_ARGUMENTS
from lockgate_service.amqp.commands import IntakeSettings
from lockgate_service.tasks.group_commit import ITEMS_MAX
from pamqp.commands import Basic

from bench.processes import Meter
from bench.report import Report, middle, ratios
from bench.script import progress, run
from bench.testbed import Program, Scale, Testbed, until
from bench.wakeup import serve
from tests.amqp.broker import Broker, Names, broker

MESSAGES = 20_000
PREFETCH = IntakeSettings(database_url="", amqp_url="").prefetch
TASK = {"kind": "noop", "payload": {"to": "somebody@example.org", "subject": "Hello"}}
RATE = """
select count(*) filter (where create_time > first) / extract(epoch from max(create_time) - min(first))
from lockgate.task, (select min(create_time) as first from lockgate.task) f
"""
BODY = json.dumps(TASK).encode()


def measure(scale: Scale) -> Report:
    """Measures tasks from RabbitMQ a second. Raises NotHere without a broker."""
    report = Report(
        "9. Tasks from RabbitMQ",
        "python -m bench.intake",
        f"{scale(MESSAGES, 2000):,} messages, each with a message_id, wait in a quorum queue when one `lockgate "
        "intake` with default settings starts. The rate is taken from its first commit to its last, without the first "
        f"batch. References: the same rows with the same keys by `POST /tasks/batch`, {ITEMS_MAX} in a request, on one "
        f"connection; and a consumer with the same prefetch ({PREFETCH}) that only acknowledges. Rounds take turns; "
        "the broker runs on the same machine.",
    )
    with broker() as rabbit, Testbed(scale) as testbed:
        report.environment = testbed.describe()
        table = report.table(
            "messages", "intake, tasks/s", "POST /tasks/batch, tasks/s", "ratio", "acks only, messages/s", "ratio",
            "CPU intake, ms per task",
        )  # fmt: skip
        _, port = serve(testbed)
        number = scale(MESSAGES, 2000)
        taken, posted, acked, cpu = [], [], [], []
        for round_ in range(scale(5, 1)):
            progress(f"round {round_ + 1}")
            names = Names(f"bench.{os.getpid()}.{round_}")
            try:
                rate, used = intake(testbed, rabbit, names, number)
                taken.append(rate)
                cpu.append(1000 * used / number)
                posted.append(over_http(testbed, port, number))
                acked.append(acks(rabbit, names, number))
            finally:
                rabbit.delete(names.queue, names.invalid)
        table.add(
            f"{number:,} a round", middle(taken), middle(posted), middle(ratios(taken, posted)), middle(acked),
            middle(ratios(taken, acked)), middle(cpu),
        )  # fmt: skip
    return report


def intake(testbed: Testbed, rabbit: Broker, names: Names, number: int) -> tuple[float, float]:
    """Returns tasks a second, and the process's seconds of CPU without its start."""
    fill(rabbit, names, number)
    testbed.main.refill(0)
    program: Program = testbed.start(
        "lockgate_service.amqp.commands intake", DATABASE_URL=testbed.main.urls["service"],
        LOCKGATE_AMQP_URL=rabbit.url, LOCKGATE_AMQP_QUEUE=names.queue,
    )  # fmt: skip
    stored = "select count(*) from lockgate.task"
    until(lambda: testbed.main.value(stored) > 0, lambda: f"the first task: {program.log_tail()}", 60, every=0.002)
    meter = Meter({"intake": lambda: [program.pid]})
    until(lambda: testbed.main.value(stored) == number, lambda: f"all tasks: {program.log_tail()}", 300)
    used = meter.seconds()["intake"]
    program.stop()
    return float(testbed.main.value(RATE)), used


def over_http(testbed: Testbed, port: int, number: int) -> float:
    testbed.main.refill(0)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    bodies = list(batches(number))
    begin = time.perf_counter()
    for body in bodies:
        connection.request("POST", "/tasks/batch", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 202:
            raise RuntimeError(f"POST /tasks/batch answered {answer.status}")
    rate = number / (time.perf_counter() - begin)
    connection.close()
    return rate


def batches(number: int) -> Iterator[bytes]:
    for begin in range(0, number, ITEMS_MAX):
        numbers = range(begin, min(begin + ITEMS_MAX, number))
        yield json.dumps({"items": [TASK | {"idempotency_key": f"message-{n}"} for n in numbers]}).encode()


def acks(rabbit: Broker, names: Names, number: int) -> float:
    """Returns messages a second from the first to the last."""
    fill(rabbit, names, number)
    done = 0
    newest = 0
    some = asyncio.Event()
    begin = end = 0.0

    async def note(message: DeliveredMessage) -> None:
        nonlocal done, newest, begin
        assert isinstance(message.delivery, Basic.Deliver)
        begin = begin or time.perf_counter()
        done, newest = done + 1, int(message.delivery.delivery_tag or 0)
        some.set()

    async def consume(channel: AbstractChannel) -> None:
        nonlocal end
        await channel.basic_qos(prefetch_count=PREFETCH)
        await channel.basic_consume(names.queue, note)
        while done < number:
            await some.wait()
            some.clear()
            await channel.basic_ack(newest, multiple=True, wait=False)
        end = time.perf_counter()

    rabbit.with_channel(consume)
    return number / (end - begin)


def fill(rabbit: Broker, names: Names, number: int) -> None:
    """Replaces the content of the queue by a number of messages."""
    rabbit.delete(names.queue)
    rabbit.declare(names.queue, arguments=QUEUE_ARGUMENTS)

    async def publish() -> None:
        connection = aiormq.Connection(rabbit.url)
        await connection.connect()
        channel = await connection.channel(publisher_confirms=False)
        assert isinstance(channel, Channel)
        for n in range(number):
            await channel.basic_publish(
                BODY, routing_key=names.queue, wait=n % 500 == 0,
                properties=Basic.Properties(message_id=f"message-{n}", delivery_mode=2),
            )  # fmt: skip
        await channel.queue_declare(names.queue, passive=True)  # answered after what was sent before; a close is not
        await connection.close()

    asyncio.run(publish())
    until(lambda: rabbit.ready(names.queue) == number, lambda: f"{number} messages in the queue", 300, every=0.2)


if __name__ == "__main__":
    run(measure)
