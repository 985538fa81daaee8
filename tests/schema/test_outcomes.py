"""Each end of a task, written down in the transaction that ends it, until it is published; nothing while it is off."""

import json
from typing import Any

import psycopg
import pytest

from tests.contract import BOOM, Contract, until


def switch(q: Contract, enabled: bool) -> bool:
    row = q.service.execute("select lockgate.set_outbox(%s)", (enabled,)).fetchone()
    return bool(row and row[0])


@pytest.fixture
def on(q: Contract) -> Contract:
    assert switch(q, True)
    return q


class Publisher:
    """A session that publishes, or would like to."""

    def __init__(self, q: Contract) -> None:
        self.conn = q.db.connect("service")

    def value(self, text: str, *args: object) -> Any:
        row = self.conn.execute(text.encode(), args).fetchone()
        return row[0] if row else None

    def leads(self) -> bool:
        return bool(self.value("select lockgate.outbox_lock()"))

    def next(self, batch: int = 500) -> list[dict[str, Any]]:
        """The events."""
        rows = self.conn.execute("select body from lockgate.outbox_next(%s)", (batch,)).fetchall()
        return [json.loads(row[0]) for row in rows]

    def forget(self, *ids: int) -> int:
        return int(self.value("select lockgate.outbox_ack(%s::bigint[])", list(ids)))


def publisher(q: Contract) -> Publisher:
    made = Publisher(q)
    assert made.leads()
    return made


def written(q: Contract) -> list[tuple[int, str]]:
    """Task and status of each outcome, oldest first."""
    return [(task, status) for task, status in q.db.query("select task, status::text from outbox order by id")]


def test_while_it_is_off_nothing_is_written_and_there_is_no_trigger(q: Contract) -> None:
    triggers = "select count(*) from pg_trigger where tgrelid = 'task'::regclass and tgtype & 16 <> 0"  # of updates
    assert q.db.value(triggers) == 0
    q.submit()
    runner = q.runner()
    runner.finish(runner.work())
    assert written(q) == []
    assert switch(q, True)
    assert q.db.value(triggers) == 1
    assert switch(q, False)
    assert q.db.value(triggers) == 0


def test_switching_it_again_changes_nothing(on: Contract) -> None:
    assert not switch(on, True)
    assert switch(on, False)
    assert not switch(on, False)


def test_each_way_to_end_is_written_once(on: Contract) -> None:
    tasks = [on.submit(max_attempts=1, kind=kind) for kind in "abcde"]
    runner = on.runner()
    runner.finish(runner.work())
    runner.fail(runner.work())
    adopted = runner.work()
    seen = on.task(adopted.task)
    runner.die()
    rescuer = on.runner()
    rescuer.take(1)
    assert rescuer.adopt(seen) == "failed"
    asked = rescuer.work()
    on.cancel(asked.task)
    assert rescuer.return_task(asked) == "cancelled"
    on.cancel(tasks[4])
    ends = ["succeeded", "failed", "failed", "cancelled", "cancelled"]
    assert written(on) == list(zip(tasks, ends, strict=True))


def test_what_does_not_end_a_task_is_not_written(on: Contract) -> None:
    on.submit()
    runner = on.runner()
    runner.return_task(runner.work())
    runner.fail(runner.work(), retry_after=0)
    runner.work()
    assert written(on) == []


def test_the_event_has_all_there_is_to_know(on: Contract) -> None:
    number = on.submit(
        "mail", payload={"a": 1}, tags=["t"], metadata={"correlation_id": "c", "headers": {"h": 1}}, idempotency_key="k"
    )
    runner = on.runner()
    claimed = runner.work()
    runner.finish(claimed, {"answer": 42}, exec_time=1.5)
    (event,) = publisher(on).next()
    task = on.task(number)
    for name in ("create_time", "start_time", "finish_time"):
        time = getattr(task, name)
        assert event.pop(name) == time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert event == {
        "event": event["event"], "task": number, "queue": "default", "kind": "mail", "status": "succeeded",
        "exec_time": 1.5, "attempt": 1, "lease": claimed.lease, "error": None, "result": {"answer": 42},
        "result_left_out": False, "tags": ["t"], "metadata": {"correlation_id": "c", "headers": {"h": 1}},
        "idempotency_key": "k",
    }  # fmt: skip


def test_what_is_too_large_is_left_out(on: Contract) -> None:
    on.submit(max_attempts=1)
    on.submit(max_attempts=1)
    runner = on.runner()
    runner.finish(runner.work(), "x" * 70000)
    runner.fail(runner.work(), {"type": "Boom", "message": "x" * 70000, "traceback": "long"})
    first, second = publisher(on).next()
    assert (first["result"], first["result_left_out"]) == (None, True)
    assert (second["error"]["type"], len(second["error"]["message"])) == ("Boom", 1000)


def test_an_end_that_is_not_committed_is_not_seen(on: Contract) -> None:
    on.submit()
    runner = on.runner()
    claimed = runner.work()
    leader = publisher(on)
    with runner.conn.transaction():
        runner.finish(claimed)
        assert leader.next() == []
    assert len(leader.next()) == 1
    on.submit()
    again = runner.claim()
    assert again
    with runner.conn.transaction(force_rollback=True):
        runner.finish(again)
    assert len(leader.next()) == 1


def test_the_ends_of_a_task_come_one_after_the_other(on: Contract) -> None:
    number = on.submit(max_attempts=1)
    runner = on.runner()
    runner.fail(runner.work())
    on.service.execute("select lockgate.retry(%s)", (number,))
    other = on.submit()
    for _ in range(2):
        runner.finish(runner.work())
    leader = publisher(on)
    batch = leader.next()
    assert [(event["task"], event["status"]) for event in batch] == [(number, "failed"), (other, "succeeded")]
    assert leader.next() == batch
    leader.forget(batch[1]["event"])
    assert [event["status"] for event in leader.next()] == ["failed"]
    leader.forget(batch[0]["event"])
    assert [(event["task"], event["status"]) for event in leader.next()] == [(number, "succeeded")]


@pytest.mark.parametrize("how", ["delete_task", "purge", "retry"])
def test_what_becomes_of_the_task_afterwards_does_not_change_the_event(on: Contract, how: str) -> None:
    number = on.submit(max_attempts=1)
    runner = on.runner()
    runner.fail(runner.work())
    on.service.execute(
        {
            "delete_task": b"select lockgate.delete_task(%s)",
            "purge": b"select lockgate.purge('default') from (select %s) s",
            "retry": b"select lockgate.retry(%s)",
        }[how],
        (number,),
    )
    (event,) = publisher(on).next()
    assert (event["task"], event["status"], event["error"]) == (number, "failed", BOOM)


def test_one_session_publishes_and_when_it_is_gone_another(on: Contract) -> None:
    on.cancel(on.submit())
    first, second = publisher(on), Publisher(on)
    assert first.leads()
    assert not second.leads()
    with pytest.raises(psycopg.Error) as refused:
        second.next()
    assert refused.value.sqlstate == "LG004"
    assert len(first.next()) == 1
    first.conn.close()
    until(second.leads, "the lock to be free")
    assert len(second.next()) == 1


def test_a_batch_is_bounded_by_number_and_by_bytes(on: Contract) -> None:
    for _ in range(5):
        on.cancel(on.submit())
    leader = publisher(on)
    assert len(leader.next(3)) == 3
    on.db.query("update outbox set body = json_build_object('event', id, 'x', repeat('x', 5000000)) where id <= 3")
    assert [event["event"] for event in leader.next()] == [1]


def test_people_see_what_waits_and_can_drop_it(on: Contract) -> None:
    def overview() -> tuple[Any, ...]:
        return on.service.execute("select enabled, publishing, waiting from lockgate.outbox_overview").fetchall()[0]

    for _ in range(3):
        on.cancel(on.submit())
    assert overview() == (True, False, 3)
    leader = publisher(on)
    assert overview() == (True, True, 3)
    assert on.db.value("select oldest_wait >= 0 from outbox_overview")
    assert leader.forget(1) == 1
    switch(on, False)
    assert on.service.execute("select lockgate.outbox_purge(1), lockgate.outbox_purge()").fetchall() == [(1, 1)]
    assert overview() == (False, True, 0)


def test_switching_it_on_waits_for_who_is_ending_a_task_and_not_for_long(q: Contract) -> None:
    """Or an end could be committed after it was said to be on, and not be written."""
    q.submit()
    runner = q.runner()
    claimed = runner.work()
    with runner.conn.transaction():
        runner.finish(claimed)
        with q.refused("55P03"):
            switch(q, True)
    assert switch(q, True)


def test_a_claim_does_not_so_much_as_look_at_it(on: Contract) -> None:
    """The trigger is one of updates of finish_time, which a claim does not write."""
    columns = on.db.value(
        "select array_agg(attname::text) from pg_trigger t join pg_attribute a on a.attrelid = t.tgrelid"
        " and a.attnum = any (t.tgattr) where t.tgname = 'an_end_goes_into_the_outbox'"
    )
    assert columns == ["finish_time"]
