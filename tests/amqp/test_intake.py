"""Messages become tasks: once each, after the commit, and the bad ones out of the way; whatever goes away meanwhile."""

import asyncio
import json
import signal
import socket
import struct
from collections import Counter
from typing import Any

import httpx
import pytest
from aiormq.abc import AbstractChannel
from aiormq.channel import Channel
from lockgate_service.amqp.intake import Counters, Families
from lockgate_service.http.body import TASKS_MAX
from prometheus_client.parser import text_string_to_metric_families

from tests.amqp.broker import Broker, Names
from tests.amqp.conftest import IntakeStart, ProcessStart
from tests.contract import Contract, until
from tests.database import Database
from tests.docs.markdown import table
from tests.proxy import Proxy

SLEEP = '{"kind":"sleep"}'
LIMIT = 60.0


def tasks(db: Database) -> int:
    number: int = db.value("select count(*) from task")
    return number


def stored(db: Database, number: int) -> None:
    until(lambda: tasks(db) == number, f"{number} tasks", LIMIT)


def is_all_acknowledged(rabbit: Broker, names: Names) -> bool:
    """True once whoever consumes is gone and nothing came back."""
    return rabbit.ready(names.queue) == 0


def blocked(db: Database) -> int:
    """How many submissions wait for a lock."""
    number: int = db.value(
        "select count(*) from pg_stat_activity where datname = current_database() "
        "and query like '%%submit_batch%%' and wait_event_type = 'Lock'"
    )
    return number


class Locked:
    """The table, so that nothing can be stored: a context."""

    def __init__(self, db: Database) -> None:
        self._connection = db.connect("owner")

    def __enter__(self) -> None:
        self._connection.execute("begin")
        self._connection.execute("lock table lockgate.task in share mode")

    def __exit__(self, *_: object) -> None:
        self._connection.execute("rollback")


# The good ------------------------------------------------------------------------------------------------------------


def test_a_message_becomes_a_task(rabbit: Broker, names: Names, q: Contract, intake: IntakeStart) -> None:
    started = intake()
    body = {"kind": "sleep", "payload": {"max": 1}, "tags": ["a"], "metadata": {"tenant": "body"}}
    rabbit.publish(
        names.queue, json.dumps(body), message_id="m-1", correlation_id="c-1", priority=7,
        headers={"tenant": "header", "run_at": "2060-01-01T00:00:00Z"},
    )  # fmt: skip
    stored(q.db, 1)
    task = q.task(q.db.value("select id from task"))
    assert (task.kind, task.payload, task.tags, task.priority) == ("sleep", {"max": 1}, ["a"], 7)
    assert (task.status, task.run_at.year) == ("scheduled", 2060)
    assert task.metadata == {"tenant": "body", "correlation_id": "c-1", "headers": {"tenant": "header"}}
    assert (task.idempotency_scope, task.idempotency_key) == (f"amqp:{names.queue}", "m-1")
    until(lambda: started.counters.created == 1, "it to be counted")


def test_what_the_body_says_about_itself_is_not_overwritten(
    rabbit: Broker, names: Names, db: Database, intake: IntakeStart
) -> None:
    intake()
    rabbit.publish(
        names.queue, '{"kind":"x","metadata":{"correlation_id":"mine"}}', correlation_id="theirs", headers={"a": 1}
    )
    stored(db, 1)
    assert db.value("select metadata from task") == {"correlation_id": "mine", "headers": {"a": 1}}


def test_a_second_copy_is_acknowledged_and_makes_no_second_task(
    rabbit: Broker, names: Names, db: Database, intake: IntakeStart
) -> None:
    """Also with other headers: a trace, or what a shovel adds, is not the request."""
    started = intake()
    for trace in ("a", "b", "c"):
        rabbit.publish(names.queue, SLEEP, SLEEP, message_id="same", headers={"trace": trace}, correlation_id=trace)
    until(lambda: started.counters.duplicate == 5, "the copies", LIMIT)
    assert tasks(db) == 1
    started.stop()
    until(lambda: not started.is_consuming, "its end")
    assert (rabbit.ready(names.queue), rabbit.ready(names.invalid)) == (0, 0)


def test_without_a_message_id_every_copy_is_a_task(
    rabbit: Broker, names: Names, db: Database, intake: IntakeStart
) -> None:
    intake()
    # Our client gives every message an id, so it is the empty one that stands for none.
    rabbit.publish(names.queue, SLEEP, SLEEP, message_id=" ")
    stored(db, 1)
    bare(rabbit, names.queue, SLEEP.encode(), 2)
    stored(db, 3)


def test_a_message_id_counts_within_its_queue(rabbit: Broker, names: Names, db: Database, intake: IntakeStart) -> None:
    other = Names(f"{names.queue}.other")
    try:
        intake()
        intake(queue=other.queue)
        for queue in (names.queue, other.queue):
            rabbit.publish(queue, SLEEP, message_id="same")
        stored(db, 2)
    finally:
        rabbit.delete(other.queue, other.invalid)


def test_messages_that_wait_go_into_few_statements(
    rabbit: Broker, names: Names, db: Database, intake: IntakeStart
) -> None:
    started = intake()
    with Locked(db):
        rabbit.publish(names.queue, SLEEP)
        until(lambda: blocked(db) == 1, "the first to be under way")
        rabbit.publish(names.queue, *[SLEEP] * 300)
        until(lambda: len(started._inbox._messages) == 300, "the rest to be delivered")
    stored(db, 301)
    statements = Counter(row[0] for row in db.query("select xmin::text from task"))
    assert len(statements) <= 3
    until(lambda: started.counters.created == 301, "them to be counted")


def test_no_more_is_in_hand_than_the_prefetch(rabbit: Broker, names: Names, db: Database, intake: IntakeStart) -> None:
    intake(prefetch=10)
    with Locked(db):
        rabbit.publish(names.queue, *[SLEEP] * 25)
        until(lambda: blocked(db) == 1, "one to be under way")
        until(lambda: rabbit.ready(names.queue) == 15, "the rest to stay")
    stored(db, 25)


def test_a_queue_can_be_bound_to_an_exchange(rabbit: Broker, names: Names, db: Database, intake: IntakeStart) -> None:
    intake(exchange=names.exchange, bindings=("orders.*", "bills.#"))
    rabbit.publish("orders.new", SLEEP, exchange=names.exchange)
    rabbit.publish("bills.a.b", SLEEP, exchange=names.exchange)
    with pytest.raises(Exception, match="NO_ROUTE"):
        rabbit.publish("orders", SLEEP, exchange=names.exchange)
    stored(db, 2)


def test_an_idle_runner_is_told(rabbit: Broker, names: Names, db: Database, intake: IntakeStart) -> None:
    intake()
    listening = db.connect("runner")
    listening.execute("listen lockgate")
    rabbit.publish(names.queue, SLEEP)
    rabbit.publish(names.queue, '{"kind":"sleep","delay":30}')
    heard = {note.payload for note in listening.notifies(timeout=LIMIT, stop_after=2)}
    assert heard == {"queue default", "later default"}


# The bad -------------------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "not JSON": ("hello", {}, "body: JSON is malformed: invalid character (byte 0)"),
    "an unknown field": ('{"kind":"x","colour":1}', {}, "colour: Object contains unknown field `colour`"),
    "a wrong type": ('{"kind":1}', {}, "kind: Expected `str`, got `int`"),
    "too large": (b" " * (TASKS_MAX + 1), {}, "the message has 4194305 bytes, more than 4194304"),
    "too large a payload": (
        json.dumps({"kind": "x", "payload": "x" * 1024 * 1024}), {}, "payload: payload is larger than 1 MiB",
    ),
    "headers too large": (SLEEP, {"headers": {"a": "x" * 20000}}, "metadata: metadata is larger than 16 KiB"),
    "an unknown queue": ('{"kind":"x","queue":"nowhere"}', {}, 'queue: there is no queue "nowhere"'),
    "a kind that is not taken": (
        '{"kind":"x","queue":"picky"}', {}, 'kind: queue "picky" does not take tasks of kind "x"',
    ),
    "an id of another body": (
        '{"kind":"another"}', {"message_id": "good-0"},
        "task 1 was created with this idempotency key by another request",
    ),
    "a number Postgres cannot take": (
        '{"kind":"x","payload":' + "1" * 140_000 + "}", {}, "payload: value overflows numeric format",
    ),
}  # fmt: skip


def test_bad_messages_go_to_the_invalid_queue_with_the_reason_and_hold_nobody_up(
    rabbit: Broker, names: Names, q: Contract, intake: IntakeStart
) -> None:
    """All in one batch, the good between them."""
    q.db.connect("service").execute("""select lockgate.create_queue('picky', '{"kinds": ["y"]}')""")
    started = intake()
    rabbit.publish(names.queue, SLEEP, message_id="good-0")
    stored(q.db, 1)
    with Locked(q.db):
        rabbit.publish(names.queue, SLEEP, message_id="good-1")
        until(lambda: blocked(q.db) == 1, "the first to be under way")
        for number, (body, properties, _) in enumerate(BAD.values()):
            rabbit.publish(names.queue, body, **{"message_id": f"bad-{number}"} | properties)
            rabbit.publish(names.queue, SLEEP, message_id=f"good-{number + 2}")
    until(lambda: started.counters.invalid == len(BAD), "all of them to be refused", LIMIT)
    stored(q.db, len(BAD) + 2)
    refused = rabbit.take(names.invalid)
    assert sorted(str(got.headers["lockgate-reason"]) for got in refused) == sorted(why for _, _, why in BAD.values())
    by_reason = {got.headers["lockgate-reason"]: got for got in refused}
    for body, properties, why in BAD.values():
        got = by_reason[why]
        assert got.body == (body if isinstance(body, bytes) else body.encode())
        assert got.headers["lockgate-routing-key"] == names.queue
        assert str(got.headers["lockgate-problem"]).startswith("/problems/")
        assert properties.get("headers", {}).items() <= got.headers.items()
        if "message_id" in properties:
            assert got.properties.message_id == properties["message_id"]
    started.stop()
    until(lambda: not started.is_consuming, "its end")
    assert rabbit.ready(names.queue) == 0


def test_what_the_broker_would_act_upon_is_not_taken_over(
    rabbit: Broker, names: Names, db: Database, intake: IntakeStart
) -> None:
    """An expiration would have it vanish from the invalid queue, a CC send it round again for ever."""
    started = intake()
    rabbit.publish(
        names.queue, "bad", expiration="60000", headers={"CC": [names.queue], "tenant": "a"}, user_id="guest",
        correlation_id="c-1", message_type="t", timestamp=None, delivery_mode=1,
    )  # fmt: skip
    until(lambda: started.counters.invalid == 1, "it to be refused", LIMIT)
    (got,) = rabbit.take(names.invalid)
    assert got.headers["tenant"] == "a"
    assert "CC" not in got.headers
    assert (got.properties.expiration, got.properties.user_id) == (None, None)
    assert (got.properties.correlation_id, got.properties.delivery_mode) == ("c-1", 2)
    rabbit.publish(names.queue, SLEEP)
    stored(db, 1)
    assert started.counters.received == 2


def test_properties_that_our_client_cannot_read_are_refused_like_others(
    rabbit: Broker, names: Names, db: Database, intake: IntakeStart
) -> None:
    """It would end the connection, and the broker deliver the same message again, and again."""
    started = intake()
    bare(rabbit, names.queue, SLEEP.encode(), 1, message_id=b"caf\xe9")
    until(lambda: started.counters.invalid == 1, "it to be refused", LIMIT)
    bare(rabbit, names.queue, b"bad", 1, timestamp=2**63 - 1)
    until(lambda: started.counters.invalid == 2, "it to be refused", LIMIT)
    bare(rabbit, names.queue, SLEEP.encode(), 1, table=b"\x06run_atT" + struct.pack(">Q", 2**62))
    until(lambda: started.counters.invalid == 3, "it to be refused", LIMIT)
    bare(rabbit, names.queue, b"bad", 1, table=b"\x02\xff\xfet\x01")
    until(lambda: started.counters.invalid == 4, "it to be refused", LIMIT)
    assert len(rabbit.take(names.invalid)) == 4
    rabbit.publish(names.queue, SLEEP)
    stored(db, 1)
    assert started.counters.received == 5


def test_a_bad_message_stays_until_the_invalid_queue_has_it(
    rabbit: Broker, names: Names, db: Database, intake: IntakeStart
) -> None:
    """And the good go on meanwhile, also those of its own batch."""
    started = intake()
    rabbit.delete(names.invalid)
    rabbit.publish(names.queue, "bad", SLEEP, SLEEP)
    stored(db, 2)
    rabbit.publish(names.queue, *[SLEEP] * 20)
    stored(db, 22)
    assert started.counters.invalid == 0
    started.stop()
    until(lambda: not started.is_consuming, "its end")
    until(lambda: rabbit.ready(names.queue) == 1, "it alone to be back")
    intake()
    until(lambda: rabbit.ready(names.invalid) == 1, "it to be refused")


# What goes away ------------------------------------------------------------------------------------------------------


def test_nothing_is_acknowledged_before_it_is_committed(
    rabbit: Broker, names: Names, db: Database, process: ProcessStart
) -> None:
    """Killed while the insert is under way, and while it is not."""
    first = process()
    first.says("consuming", LIMIT)
    with Locked(db):
        rabbit.publish(names.queue, *[SLEEP] * 20, each=lambda n: {"message_id": f"m-{n}"})
        until(lambda: blocked(db) == 1, "the first to be under way", LIMIT)
        first.kill()
        until(lambda: rabbit.ready(names.queue) == 20, "all of them to be back", LIMIT)
    second = process()
    second.says("consuming", LIMIT)
    rabbit.publish(names.queue, SLEEP, message_id="last")  # behind the others, which the killed one may have stored
    stored(db, 21)
    assert second.stop(LIMIT) == 0
    assert (tasks(db), rabbit.ready(names.queue)) == (21, 0)


def test_an_intake_that_is_told_to_stop_finishes_its_batch_and_leaves_the_rest(
    rabbit: Broker, names: Names, db: Database, process: ProcessStart
) -> None:
    started = process(amqp_prefetch=5)
    started.says("consuming", LIMIT)
    with Locked(db):
        rabbit.publish(names.queue, SLEEP)
        until(lambda: blocked(db) == 1, "it to be under way", LIMIT)
        rabbit.publish(names.queue, *[SLEEP] * 10)
        until(lambda: rabbit.ready(names.queue) == 6, "some to be delivered", LIMIT)
        started.signal(signal.SIGTERM)
    assert started.stop(LIMIT) == 0
    done = tasks(db)  # its batch, and one more if the end of the first was there before the signal
    assert 1 <= done <= 5
    until(lambda: rabbit.ready(names.queue) == 11 - done, "the rest to be back", LIMIT)
    assert started.says("counted", created=done)
    assert started.says("stopped")


def test_while_the_database_is_away_nothing_is_acknowledged_and_it_goes_on_by_itself(
    rabbit: Broker, names: Names, db: Database, intake: IntakeStart, to_database: Proxy
) -> None:
    started = intake(database_url=to_database.dsn)
    rabbit.publish(names.queue, SLEEP)
    stored(db, 1)
    until(lambda: started.counters.created == 1, "it to be told so")
    to_database.cut()
    rabbit.publish(names.queue, *[SLEEP] * 10, each=lambda n: {"message_id": f"m-{n}"})
    until(lambda: not started.is_consuming, "it to notice", LIMIT)
    assert (tasks(db), started.counters.created) == (1, 1)
    to_database.connect()
    stored(db, 11)
    until(lambda: started.is_consuming, "it to be well", LIMIT)
    started.stop()
    until(lambda: not started.is_consuming, "its end")
    assert rabbit.ready(names.queue) == 0


def test_what_finds_its_queue_full_waits_until_there_is_room(
    rabbit: Broker, names: Names, q: Contract, intake: IntakeStart
) -> None:
    q.service.execute("""select lockgate.change_queue('default', '{"depth_max": 2}')""")
    started = intake()
    rabbit.publish(names.queue, *[SLEEP] * 3)
    stored(q.db, 2)
    q.service.execute("""select lockgate.change_queue('default', '{"depth_max": null}')""")
    stored(q.db, 3)
    assert (started.counters.invalid, started.is_consuming) == (0, True)


def test_a_commit_whose_answer_is_lost_is_no_second_task(
    rabbit: Broker, names: Names, db: Database, intake: IntakeStart, to_database: Proxy
) -> None:
    started = intake(database_url=to_database.dsn)
    lost = to_database.lose_answer_to(b"submit_batch")
    rabbit.publish(names.queue, *[SLEEP] * 10, each=lambda n: {"message_id": f"m-{n}"})
    assert lost.wait(LIMIT)
    until(lambda: started.counters.created + started.counters.duplicate == 10, "all of them", LIMIT)
    assert tasks(db) == 10


def test_it_starts_without_a_database_and_without_a_broker(
    rabbit: Broker, names: Names, db: Database, intake: IntakeStart, to_database: Proxy, to_broker: Proxy
) -> None:
    to_database.cut()
    to_broker.cut()
    rabbit.declare(names.queue, arguments={"x-queue-type": "quorum", "x-delivery-limit": -1})
    rabbit.publish(names.queue, SLEEP)
    intake(False, database_url=to_database.dsn, amqp_url=rabbit.through(to_broker.address))
    to_database.connect()
    to_broker.connect()
    stored(db, 1)


def test_a_message_is_delivered_as_often_as_it_takes(
    rabbit: Broker, names: Names, db: Database, intake: IntakeStart
) -> None:
    """RabbitMQ 4 would drop it after 20 times."""
    intake().stop()
    rabbit.publish(names.queue, SLEEP)
    rabbit.give_back(names.queue, 30)
    until(lambda: rabbit.ready(names.queue) == 1, "it to be back", LIMIT)
    intake()
    stored(db, 1)


def test_when_the_broker_is_away_it_comes_back_by_itself(
    rabbit: Broker, names: Names, db: Database, intake: IntakeStart, to_broker: Proxy
) -> None:
    started = intake(amqp_url=rabbit.through(to_broker.address))
    to_broker.cut()
    until(lambda: not started.is_consuming, "it to notice", LIMIT)
    rabbit.publish(names.queue, SLEEP)
    to_broker.connect()
    stored(db, 1)


def test_a_broker_that_falls_silent_is_given_up(
    rabbit: Broker, names: Names, db: Database, intake: IntakeStart, to_broker: Proxy
) -> None:
    started = intake(amqp_url=rabbit.through(to_broker.address))
    to_broker.strand()
    until(lambda: not started.is_consuming, "it to notice", LIMIT)
    rabbit.publish(names.queue, SLEEP)
    stored(db, 1)


def test_a_queue_that_is_deleted_is_declared_again(
    rabbit: Broker, names: Names, db: Database, intake: IntakeStart
) -> None:
    intake()
    rabbit.delete(names.queue)
    until(lambda: rabbit.ready(names.queue) is not None, "the queue", LIMIT)
    rabbit.publish(names.queue, SLEEP)
    stored(db, 1)


def test_passive_it_declares_nothing_and_waits_for_the_queues(
    rabbit: Broker, names: Names, db: Database, process: ProcessStart
) -> None:
    started = process(amqp_passive="true")
    assert "NOT_FOUND" in started.says("broker lost", LIMIT)["error"]
    assert rabbit.ready(names.queue) is None
    for queue in (names.queue, names.invalid):
        rabbit.declare(queue)  # a classic one: not what we would declare
    rabbit.publish(names.queue, SLEEP)
    stored(db, 1)


def test_a_queue_of_another_kind_is_left_as_it_is_and_the_log_says_so(
    rabbit: Broker, names: Names, process: ProcessStart
) -> None:
    rabbit.declare(names.queue)
    assert "x-queue-type" in process().says("broker lost", LIMIT)["error"]


# Bytes as other clients write them ------------------------------------------------------------------------------------


def bare(
    rabbit: Broker,
    queue: str,
    body: bytes,
    number: int,
    *,
    message_id: bytes | None = None,
    timestamp: int | None = None,
    table: bytes | None = None,
) -> None:
    """Publishes with properties that our own client would not write, or would add to."""
    flags, properties = 0, b""
    if table is not None:
        flags, properties = flags | 0x2000, properties + struct.pack(">I", len(table)) + table
    if message_id is not None:
        flags, properties = flags | 0x0080, properties + bytes([len(message_id)]) + message_id
    if timestamp is not None:
        flags, properties = flags | 0x0040, properties + struct.pack(">Q", timestamp)
    header = struct.pack(">HHQH", 60, 0, len(body), flags) + properties
    publish = struct.pack(">HHH", 60, 40, 0) + b"\0" + bytes([len(queue)]) + queue.encode() + b"\0"

    async def do(channel: AbstractChannel) -> None:
        assert isinstance(channel, Channel)
        for _ in range(number):
            frames = [(1, publish), (2, header), (3, body)]
            written = b"".join(
                struct.pack(">BHI", kind, channel.number, len(frame)) + frame + b"\xce" for kind, frame in frames
            )
            confirmed = asyncio.get_running_loop().create_future()
            channel.delivery_tag += 1
            channel.confirmations[channel.delivery_tag] = confirmed
            await channel.connection.write_queue.put(Written(written))
            await confirmed

    rabbit.with_channel(do)


class Written:
    """What our client's writer takes: bytes as they are."""

    should_close = False
    should_drain = False

    def __init__(self, payload: bytes) -> None:
        self.payload = payload


# Metrics -------------------------------------------------------------------------------------------------------------


def test_its_numbers_are_there_for_prometheus(rabbit: Broker, names: Names, q: Contract, process: ProcessStart) -> None:
    started = process(metrics="127.0.0.1:0")
    url = f"http://127.0.0.1:{started.says('metrics served', LIMIT)['port']}/metrics"
    started.says("consuming", LIMIT)
    with socket.create_connection((httpx.URL(url).host, httpx.URL(url).port or 0)):  # who says nothing is given up
        for number in ("m-1", "m-1", "m-2"):
            rabbit.publish(names.queue, SLEEP, message_id=number)
        rabbit.publish(names.queue, "no json")
        stored(q.db, 2)

        def counted() -> dict[str, float]:
            families = text_string_to_metric_families(httpx.get(url, timeout=30).text)
            return {
                " ".join([each.name, *each.labels.values()]): each.value
                for family in families
                for each in family.samples
                if each.name.startswith("lockgate")
            }

        expected = {
            "lockgate_intake_received_total": 4,
            "lockgate_intake_messages_total created": 2,
            "lockgate_intake_messages_total duplicate": 1,
            "lockgate_intake_messages_total invalid": 1,
            "lockgate_intake_waiting": 0,
            "lockgate_intake_consuming": 1,
        }
        until(lambda: counted() == expected, "all to be counted", LIMIT)


def test_the_table_of_its_metrics_has_them_all() -> None:
    written = {row[0].removesuffix("_total") for row in table("docs/metrics-and-logs.md", "## Metrics of an intake")}
    assert written == {family.name for family in Families(Counters(), bool).collect()}
