"""The whole of it under faults: the intake and the publisher are killed, the broker and Postgres crash.

Afterwards it is counted: tasks by message_id, invalid messages with their reasons, ends that were heard.
"""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiormq
from aiormq.abc import AbstractChannel
from lockgate_service.amqp.broker import TROUBLE
from pamqp.commands import Basic

from lockgate.postgres.server import Server
from lockgate.witness import Witness
from tests.amqp.broker import Broker, Names
from tests.contract import until
from tests.runner.process import RunnerProcess
from tests.system import LIMIT, System

SLOTS = 4
CALL_LIMIT = 30.0
SETTLED_LIMIT = 600.0
BAD = (
    b"no JSON", b'{"kind":"echo","colour":"red"}', b'{"kind":1}', b'{"kind":"echo","queue":"nowhere"}',
    b'{"kind":"echo","priority":1000}', b"[]",
)  # fmt: skip


@dataclass
class Plan:
    """How much of what."""

    messages: int = 20_000
    bad: int = 200
    failing: int = 100  # of the messages: tasks that fail at first and are retried, so that they end twice
    kill_every: float = 2.0  # seconds
    rate: float = 400  # messages a second, so that there is something to kill
    restart_broker: bool = True
    restart_database: bool = True


@dataclass
class Report:
    """What came of it. `breaches` is empty when all held."""

    plan: Plan
    seconds: float = 0.0
    publishing: float = 0.0  # seconds until all messages were published, while there were faults
    intake_kills: int = 0
    publisher_kills: int = 0
    confirmed: int = 0  # publishes: more than there are messages when some were published again
    tasks: int = 0
    message_ids: int = 0
    invalid: int = 0  # different message_ids in the invalid queue
    invalid_copies: int = 0
    ends: int = 0
    events: int = 0  # different ones heard
    event_copies: int = 0
    breaches: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        yield f"{self.plan.messages} messages, {self.plan.bad} bad ones among them, in {self.seconds:.0f} s"
        yield (
            f"killed: the intake {self.intake_kills} times, the publisher {self.publisher_kills} times, "
            f"in the {self.publishing:.0f} s in which they were published"
        )
        yield f"published: {self.confirmed} confirmed"
        yield f"tasks: {self.tasks}, message_ids: {self.message_ids}"
        yield f"invalid: {self.invalid} ({self.invalid_copies} copies in all)"
        yield f"ends: {self.ends}, heard: {self.events} ({self.event_copies} copies in all)"
        yield f"breaches: {len(self.breaches)}"
        yield from self.breaches[:20]


class Field(System[Server]):
    """A system with a broker."""

    def __init__(self, server: Server, rabbit: Broker, names: Names, plan: Plan, witness: Witness) -> None:
        super().__init__(server, witness, handlers="tests.runner.handlers", patience=5)
        self.rabbit, self.names, self.plan = rabbit, names, plan
        self.report = Report(plan)
        self.producing = threading.Event()
        self.enough = threading.Event()
        self.heard: dict[int, dict[str, Any]] = {}
        self.copies = 0
        self.threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []

    def value(self, text: str) -> Any:
        return self.insist(text)[0][0]

    def intake(self) -> RunnerProcess:
        address = {"amqp_url": self.rabbit.url, "amqp_queue": self.names.queue}
        return self.start("lockgate_service.amqp.commands intake", use="service", **address)

    def publisher(self) -> RunnerProcess:
        address = {"amqp_url": self.rabbit.url, "amqp_events": self.names.exchange}
        return self.start("lockgate_service.amqp.commands publish", use="service", **address)

    @contextmanager
    def beside(self, *jobs: Any) -> Iterator[None]:
        """Runs these in threads until the block is over."""

        def kept(job: Any) -> None:
            try:
                job()
            except BaseException as error:
                self.errors.append(error)

        self.threads = [threading.Thread(target=kept, args=(job,), name=job.__name__) for job in jobs]
        for thread in self.threads:
            thread.start()
        try:
            yield
        finally:
            self.enough.set()
            for thread in self.threads:
                thread.join(60)
        if self.errors:
            raise self.errors[0]

    # -- who does something meanwhile ---------------------------------------------------------------------------------

    def kill_intakes(self) -> None:
        """Every some seconds the oldest of four, so that some have begun to consume where a start takes long."""
        self.report.intake_kills = self._kill(self.intake, 4, self.plan.kill_every, "starting")

    def kill_publishers(self) -> None:
        """The one that publishes, every few seconds; the other stands by."""
        self.report.publisher_kills = self._kill(self.publisher, 2, 2 * self.plan.kill_every, "publishing")

    def _kill(self, start: Callable[[], RunnerProcess], number: int, every: float, event: str) -> int:
        """Kills the oldest that has said this, and starts another; how often."""
        programs = [start() for _ in range(number)]
        kills = 0
        due = time.monotonic() + every
        while not self.enough.wait(0.05):
            found = [program for program in programs if program.events(event)]
            if time.monotonic() > due and found and self.producing.is_set():
                found[0].kill()
                programs.remove(found[0])
                programs.append(start())
                kills, due = kills + 1, max(due + every, time.monotonic())
        if died := [program.noise for program in programs if program.process.poll() is not None]:
            raise RuntimeError(f"ended by itself: {died}")
        return kills

    def produce(self) -> None:
        """Publishes what is not confirmed again, as a careful producer does."""
        asyncio.run(self._produce())

    async def _produce(self) -> None:
        left = list(range(self.plan.messages + self.plan.bad))
        while left:
            try:
                connection = aiormq.Connection(f"{self.rabbit.url}?heartbeat=5")
                async with asyncio.timeout(CALL_LIMIT):
                    await connection.connect()
                channel = await connection.channel()
                while left:
                    begin = time.monotonic()
                    now = left[:50]
                    done = await asyncio.gather(*(self._send(channel, n) for n in now), return_exceptions=True)
                    failed = [n for n, result in zip(now, done, strict=True) if isinstance(result, BaseException)]
                    self.report.confirmed += len(now) - len(failed)
                    left[: len(now)] = failed
                    if failed:
                        break
                    await asyncio.sleep(max(0, len(now) / self.plan.rate - (time.monotonic() - begin)))
                await connection.close()
            except (*TROUBLE, RuntimeError):
                await asyncio.sleep(0.5)
        self.producing.clear()

    async def _send(self, channel: AbstractChannel, number: int) -> None:
        step = max(1, (self.plan.messages + self.plan.bad) // max(1, self.plan.bad))
        body = b'{"kind":"echo","payload":{"number":%d}}' % number
        kind = "good"
        if number % step == 0 and number // step < self.plan.bad:
            body, kind = BAD[number // step % len(BAD)], "bad"
        elif number % step == 1 and number // step < self.plan.failing:
            body = b'{"kind":"never","payload":{"reason":"%d"}}' % number
        await channel.basic_publish(
            body, routing_key=self.names.queue, mandatory=True, timeout=CALL_LIMIT,
            properties=Basic.Properties(message_id=f"{kind}-{number}", delivery_mode=2),
        )  # fmt: skip

    def listen(self) -> None:
        """Takes every event as it comes, and asks the table whether it is true; retries what has failed, once."""
        asyncio.run(self._listen())

    async def _listen(self) -> None:
        while not self.enough.is_set():
            with suppress(*TROUBLE, RuntimeError):
                connection = aiormq.Connection(f"{self.rabbit.url}?heartbeat=5")
                async with asyncio.timeout(CALL_LIMIT):
                    await connection.connect()
                channel = await connection.channel()
                while not self.enough.is_set():
                    got: list[dict[str, Any]] = []
                    tag = None
                    while len(got) < 500:
                        message = await channel.basic_get(self.names.invalid + ".ear", timeout=CALL_LIMIT)
                        if isinstance(message.delivery, Basic.GetEmpty):
                            break
                        assert isinstance(message.delivery, Basic.GetOk)
                        tag = message.delivery.delivery_tag
                        got.append(json.loads(message.body))
                    if tag is None:
                        await asyncio.sleep(0.1)
                        continue
                    await asyncio.to_thread(self._note, got)
                    await channel.basic_ack(tag, multiple=True)
                await connection.close()
            await asyncio.sleep(0.2)

    def _note(self, events: list[dict[str, Any]]) -> None:
        self.copies += len(events)
        new = [event for event in events if event["event"] not in self.heard]
        latest: dict[int, int] = {}
        for event in self.heard.values():
            latest[event["task"]] = max(latest.get(event["task"], 0), event["event"])
        for event in new:
            if event["event"] in self.heard:
                continue
            self.heard[event["event"]] = event
            if latest.get(event["task"], 0) > event["event"]:
                self.report.breaches.append(f"an end of task {event['task']} was first heard after a later one")
            latest[event["task"]] = event["event"]
        if not new:
            return
        tasks = ",".join(str(event["task"]) for event in new)
        ended = dict(
            self.insist(f"select id, coalesce(lease, 0) || ' ' || status from lockgate.task where id in ({tasks})")
        )
        attempts = {row[0] for row in self.insist(f"select task from lockgate.attempt where task in ({tasks})")}
        for event in new:
            said = f"{event['lease']} {event['status']}"
            if ended.get(event["task"]) != said and event["task"] not in attempts:
                self.report.breaches.append(f"heard of task {event['task']}: {said}; it is {ended.get(event['task'])}")
            if event["status"] == "failed":
                self.insist(
                    f"select lockgate.retry(id) from lockgate.task where id = {event['task']} and status = 'failed'"
                    f" and attempt = 1 and lease = {event['lease']}"
                )


def run(server: Server, rabbit: Broker, names: Names, plan: Plan, say: Any = lambda _: None) -> Report:
    """Raises AssertionError if it does not come to an end."""
    begin = time.monotonic()
    ear = names.invalid + ".ear"
    quorum = {"x-queue-type": "quorum", "x-delivery-limit": -1}
    for queue in (names.queue, names.invalid, ear):
        rabbit.declare(queue, arguments=quorum)
    rabbit.declare_exchange(names.exchange)
    rabbit.bind(ear, names.exchange, "#")
    try:
        with Witness() as witness, Field(server, rabbit, names, plan, witness) as here:
            here.producing.set()
            here.insist("select lockgate.change_queue('default', %s)", f'{{"slots": {SLOTS}}}')
            here.insist("select lockgate.set_outbox(true)")
            here.start("lockgate_runner", concurrency=SLOTS).says("slot taken", LIMIT)
            producing = time.monotonic()
            with here.beside(here.produce, here.kill_intakes, here.kill_publishers, here.listen):
                faults(here, say)
                until(lambda: not here.producing.is_set(), "all to be published", SETTLED_LIMIT, every=0.2)
                here.report.publishing = time.monotonic() - producing
                say("published; now until all is done")
                settled(here)
            here.clear()
            judge(here)
    finally:
        rabbit.delete(ear)
    here.report.seconds = time.monotonic() - begin
    return here.report


def faults(here: Field, say: Any) -> None:
    """The broker crashes after a third of the tasks, Postgres after two."""
    count = "select count(*) from lockgate.task"
    if here.plan.restart_broker:
        until(lambda: here.value(count) > here.plan.messages / 3, "a third", SETTLED_LIMIT, every=0.2)
        say("the broker crashes")
        here.rabbit.kill()
        here.rabbit.start()
        say("and is back")
    if here.plan.restart_database:
        until(lambda: here.value(count) > here.plan.messages * 2 / 3, "two thirds", SETTLED_LIMIT, every=0.2)
        say("Postgres crashes")
        here.server.restart("immediate")
        say("and is back")


def settled(here: Field) -> None:
    """All stored, all ended, all heard, or no progress any more."""
    goal = here.plan.messages + min(here.plan.failing, here.plan.bad or here.plan.failing)

    def done() -> bool:
        unfinished, waiting = here.insist(
            "select (select count(*) from lockgate.task where finish_time is null), "
            "(select count(*) from lockgate.outbox)"
        )[0]
        return not unfinished and not waiting and here.rabbit.ready(here.names.queue) == 0 and len(here.heard) >= goal

    until(done, f"{goal} ends to be heard", SETTLED_LIMIT, every=0.5)


def judge(here: Field) -> None:
    report, plan = here.report, here.plan
    if (most := max(here.witness.most.values())) > SLOTS:
        report.breaches.append(f"{most} executed at once, on {SLOTS} slots")
    keys = Counter(row[0] for row in here.insist("select idempotency_key from lockgate.task"))
    report.tasks, report.message_ids = sum(keys.values()), len(keys)
    if report.tasks != plan.messages or report.message_ids != plan.messages:
        report.breaches.append(f"{report.tasks} tasks of {report.message_ids} messages, not {plan.messages}")
    if any(not str(key).startswith("good-") for key in keys):
        report.breaches.append("a bad message became a task")
    refused = here.rabbit.take(here.names.invalid)
    report.invalid_copies = len(refused)
    report.invalid = len({got.properties.message_id for got in refused})
    if report.invalid != plan.bad or any(not str(got.properties.message_id).startswith("bad-") for got in refused):
        report.breaches.append(f"{report.invalid} messages are in the invalid queue, not {plan.bad}")
    if any(not got.headers.get("lockgate-reason") for got in refused):
        report.breaches.append("a message is in the invalid queue without a reason")
    ended = here.insist("select id, status::text, coalesce(lease, 0) from lockgate.task")
    again = here.insist("select task, lease from lockgate.attempt where outcome = 'failed'")
    heard = {(event["task"], event["lease"] or 0) for event in here.heard.values()}
    report.ends, report.events, report.event_copies = len(ended) + len(again), len(here.heard), here.copies
    for task, status, lease in ended:
        if (task, lease) not in heard:
            report.breaches.append(f"the end of task {task} ({status}) was not heard")
    for task, lease in again:
        if (task, lease) not in heard:
            report.breaches.append(f"the first end of task {task} was not heard")
