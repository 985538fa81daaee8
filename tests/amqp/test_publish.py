"""How tasks end is heard at an exchange: every end, after its commit, in order; whatever goes away meanwhile."""

import json
import signal
import time
from typing import Any

import pytest
from lockgate_service.amqp.publisher import POLL, Outcome, properties, routing_key

from tests.amqp.broker import Broker, Got, Names
from tests.amqp.conftest import ProcessStart, PublisherStart
from tests.contract import Contract, until
from tests.database import Database
from tests.proxy import Proxy

LIMIT = 60.0
BOOM = {"type": "Boom", "message": "m", "traceback": None}


@pytest.fixture
def ear(rabbit: Broker, names: Names) -> str:
    """A queue that gets everything; its name."""
    rabbit.declare_exchange(names.exchange)
    rabbit.declare(names.queue)
    rabbit.bind(names.queue, names.exchange, "#")
    return names.queue


def event(got: Got) -> dict[str, Any]:
    return dict(json.loads(got.body))


class Heard:
    """What has come so far, in the order in which it came."""

    def __init__(self, rabbit: Broker, queue: str) -> None:
        self._rabbit, self._queue = rabbit, queue
        self.messages: list[Got] = []

    def events(self) -> list[dict[str, Any]]:
        self.messages += self._rabbit.take(self._queue)
        return [event(got) for got in self.messages]

    def until(self, number: int) -> list[dict[str, Any]]:
        """Waits for so many different ones."""
        return until(
            lambda: (found := self.events()) and len({each["event"] for each in found}) >= number and found,
            f"{number} events", LIMIT, every=0.1,
        )  # fmt: skip


@pytest.fixture
def heard(rabbit: Broker, ear: str) -> Heard:
    return Heard(rabbit, ear)


def recording(db: Database) -> bool:
    return bool(db.value("select enabled from outbox_overview"))


def end(q: Contract, number: int = 1, **named: Any) -> list[int]:
    """Tasks that have succeeded."""
    runner = q.runner()
    tasks = [q.submit(**named) for _ in range(number)]
    for _ in tasks:
        runner.finish(runner.work(), {"answer": 42})
    runner.deregister()
    return tasks


# The message, without a broker ----------------------------------------------------------------------------------------


def outcome(**changed: Any) -> Outcome:
    return Outcome(7, "default", "mail", "failed", None, None, "{}")._replace(**changed)


def test_the_routing_key_is_queue_kind_status() -> None:
    assert routing_key(outcome()) == "default.mail.failed"
    assert routing_key(outcome(kind="billing.charge")) == "default.billing.charge.failed"


def test_a_routing_key_that_would_be_too_long_is_cut_in_the_kind() -> None:
    key = routing_key(outcome(queue="q" * 63, kind="é" * 200, status="succeeded"))
    assert len(key.encode()) in (254, 255)
    assert key.startswith("q" * 63 + ".é")
    assert key.endswith("é.succeeded")


def test_a_correlation_id_that_does_not_fit_is_left_out() -> None:
    assert properties(outcome(correlation_id="c")).correlation_id == "c"
    assert properties(outcome(correlation_id="é" * 200)).correlation_id is None


# At the broker --------------------------------------------------------------------------------------------------------


def test_each_end_is_published(rabbit: Broker, heard: Heard, q: Contract, publisher: PublisherStart) -> None:
    started = publisher()
    metadata = {"correlation_id": "c-1", "headers": {"tenant": "a"}}
    (number,) = end(q, kind="mail", metadata=metadata, tags=["t"], idempotency_key="order-17")
    (told,) = heard.until(1)
    assert (told["task"], told["queue"], told["kind"], told["status"]) == (number, "default", "mail", "succeeded")
    assert (told["result"], told["metadata"], told["idempotency_key"]) == ({"answer": 42}, metadata, "order-17")
    (got,) = heard.messages
    assert got.routing_key == "default.mail.succeeded"
    assert (got.properties.message_id, got.properties.correlation_id) == (str(told["event"]), "c-1")
    assert (got.properties.content_type, got.properties.delivery_mode) == ("application/json", 2)
    until(lambda: q.db.value("select count(*) from outbox") == 0, "it to be forgotten")
    until(lambda: started.counters.published == 1, "it to be counted")


def test_who_wants_failures_only_binds_to_them(
    rabbit: Broker, names: Names, ear: str, q: Contract, publisher: PublisherStart
) -> None:
    failures = f"{names.queue}.failures"
    try:
        rabbit.declare(failures)
        rabbit.bind(failures, names.exchange, "#.failed")
        publisher()
        end(q)
        q.submit(max_attempts=1, kind="a.b")
        runner = q.runner()
        runner.fail(runner.work(), BOOM)
        until(lambda: rabbit.ready(failures) == 1, "the failure", LIMIT)
        assert [got.routing_key for got in rabbit.take(failures)] == ["default.a.b.failed"]
    finally:
        rabbit.delete(failures)


def test_the_ends_of_one_task_come_in_order(heard: Heard, q: Contract, publisher: PublisherStart) -> None:
    number = q.submit(max_attempts=1)
    publisher()
    runner = q.runner()
    ends = 10
    for _ in range(ends):
        runner.fail(runner.work(), BOOM)
        q.service.execute("select lockgate.retry(%s)", (number,))
    runner.finish(runner.work())
    told = heard.until(ends + 1)
    assert [each["status"] for each in told] == ["failed"] * ends + ["succeeded"]
    assert [each["lease"] for each in told] == sorted(each["lease"] for each in told)


def test_what_ended_while_no_publisher_was_there_is_published_later(
    heard: Heard, q: Contract, publisher: PublisherStart
) -> None:
    first = publisher()
    first.stop()
    until(lambda: not first.is_leading, "its end")
    assert recording(q.db)
    tasks = end(q, 5)
    q.service.execute("select lockgate.delete_task(%s)", (tasks[0],))
    publisher()
    assert sorted(each["task"] for each in heard.until(5)) == tasks


def test_a_publisher_that_is_killed_before_the_broker_confirms_has_forgotten_nothing(
    rabbit: Broker, names: Names, heard: Heard, q: Contract, process: ProcessStart, to_broker: Proxy
) -> None:
    """The broker has them, perhaps, and has not said so: they come once more."""
    through = rabbit.through(to_broker.address)
    first = process("lockgate_service.amqp.commands publish", amqp_url=through, amqp_events=names.exchange)
    first.says("publishing", LIMIT)
    to_broker.strand()
    tasks = end(q, 5)
    until(lambda: q.db.value("select waiting from outbox_overview") == 5, "them to wait")
    time.sleep(10 * POLL)  # it has published them, and no answer comes
    assert q.db.value("select waiting from outbox_overview") == 5
    first.kill()
    second = process("lockgate_service.amqp.commands publish", amqp_events=names.exchange)
    assert {each["task"] for each in heard.until(5)} == set(tasks)
    until(lambda: q.db.value("select count(*) from outbox") == 0, "them to be forgotten", LIMIT)
    assert second.stop(LIMIT) == 0


def test_when_the_broker_is_away_it_comes_back_by_itself(
    rabbit: Broker, heard: Heard, q: Contract, publisher: PublisherStart, to_broker: Proxy
) -> None:
    started = publisher(amqp_url=rabbit.through(to_broker.address))
    to_broker.cut()
    tasks = end(q, 5)
    until(lambda: not started.is_leading, "it to notice", LIMIT)
    to_broker.connect()
    assert {each["task"] for each in heard.until(5)} == set(tasks)


def test_when_the_database_is_away_it_comes_back_by_itself(
    heard: Heard, q: Contract, publisher: PublisherStart, to_database: Proxy
) -> None:
    started = publisher(database_url=to_database.dsn)
    to_database.cut()
    until(lambda: not started.is_leading, "it to notice", LIMIT)
    tasks = end(q, 5)
    to_database.connect()
    assert {each["task"] for each in heard.until(5)} == set(tasks)


def test_a_forgetting_whose_answer_is_lost_is_told_again_at_most(
    heard: Heard, q: Contract, publisher: PublisherStart, to_database: Proxy
) -> None:
    publisher(database_url=to_database.dsn)
    lost = to_database.lose_answer_to(b"outbox_ack")
    tasks = end(q, 5)
    assert lost.wait(LIMIT)
    tasks += end(q, 1)
    assert {each["task"] for each in heard.until(6)} == set(tasks)
    until(lambda: q.db.value("select count(*) from outbox") == 0, "them to be forgotten", LIMIT)


def test_of_two_publishers_one_stands_by_until_the_other_is_gone(
    heard: Heard, q: Contract, publisher: PublisherStart
) -> None:
    first = publisher()
    second = publisher(leading=False)
    until(lambda: second.is_well, "it to stand by", LIMIT)
    assert not second.is_leading
    end(q, 3)
    heard.until(3)
    first.stop()
    until(lambda: second.is_leading, "it to lead", LIMIT)
    end(q, 3)
    assert len(heard.until(6)) == 6


def test_a_publisher_stops_in_order(names: Names, heard: Heard, q: Contract, process: ProcessStart) -> None:
    started = process("lockgate_service.amqp.commands publish", amqp_events=names.exchange)
    started.says("publishing", LIMIT)
    end(q, 20)
    started.signal(signal.SIGTERM)
    assert started.stop(LIMIT) == 0
    told = heard.events()
    left = q.db.value("select count(*) from outbox")
    assert len(told) + left == 20
    assert len({each["event"] for each in told}) == len(told)


def test_passive_it_declares_nothing(rabbit: Broker, names: Names, process: ProcessStart) -> None:
    started = process("lockgate_service.amqp.commands publish", amqp_events=names.exchange, amqp_passive="on")
    assert "NOT_FOUND" in started.says("broker or database lost", LIMIT)["error"]


def test_behind_a_schema_that_is_too_old_it_says_what_to_do(names: Names, db: Database, process: ProcessStart) -> None:
    db.query("update lockgate.release set version = 0")
    started = process("lockgate_service.amqp.commands publish", amqp_events=names.exchange)
    assert "lockgate migrate" in started.says("not ready", LIMIT)["why"]
