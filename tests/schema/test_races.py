"""Two or three sessions at once, in an order that pg_blocking_pids tells, so that none of it is left to luck."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import psycopg
import pytest

from lockgate import schema
from tests.contract import Contract, Outcome, Session, Threads

T = TypeVar("T")


class Race(Protocol):
    def __call__(
        self, rival: psycopg.Connection[Any], holder: psycopg.Connection[Any], call: Callable[..., T], *args: Any
    ) -> Future[T]: ...


@pytest.fixture
def race(threads: Threads, blocked_by: Callable[..., None]) -> Race:
    """Starts a call on the rival's connection, and returns once it waits for the holder's transaction."""

    def start(
        rival: psycopg.Connection[Any], holder: psycopg.Connection[Any], call: Callable[..., T], *args: Any
    ) -> Future[T]:
        future = threads.start(call, *args)
        blocked_by(rival, holder)
        return future

    return start


@contextmanager
def settled(conn: psycopg.Connection[Any], how: str) -> Iterator[None]:
    """A transaction that is committed or rolled back."""
    with conn.transaction(force_rollback=how == "rollback"):
        yield


def answer(future: Future[T]) -> T:
    return future.result(timeout=10)


# Submitting ----------------------------------------------------------------------------------------------------------

KEYS = [{"idempotency_key": "k"}, {"dedupe_key": "k"}, {"idempotency_key": "k", "dedupe_key": "k"}]


@pytest.mark.parametrize("key", KEYS)
def test_two_who_submit_the_same_at_once_get_the_same_task(q: Contract, race: Race, key: dict[str, str]) -> None:
    rival = q.db.connect("service")
    with q.service.transaction():
        first = q.submit(**key)
        second = race(rival, q.service, lambda: q.submit_by(rival, **key))
    assert answer(second) == first
    assert len(q.tasks()) == 1


@pytest.mark.parametrize("key", KEYS)
def test_whoever_waited_for_a_submission_that_was_rolled_back_submits(
    q: Contract, race: Race, key: dict[str, str]
) -> None:
    rival = q.db.connect("service")
    with q.service.transaction(force_rollback=True):
        first = q.submit(**key)
        second = race(rival, q.service, lambda: q.submit_by(rival, **key))
    assert answer(second) != first
    assert [task.id for task in q.tasks()] == [second.result()]


def test_two_who_submit_different_things_under_one_key_are_told_apart(q: Contract, race: Race) -> None:
    rival = q.db.connect("service")
    with q.service.transaction():
        q.submit(payload=1, idempotency_key="k")
        second = race(rival, q.service, lambda: q.submit_by(rival, payload=2, idempotency_key="k"))
    with q.refused("LG003"):
        answer(second)


def test_whoever_waited_for_a_dedupe_key_until_its_task_ended_submits(q: Contract, race: Race) -> None:
    """The row that was in the way is not in the way any more when one looks at it: another round."""
    first = q.submit(dedupe_key="k")
    rival, canceller = q.db.connect("service"), q.db.connect("service")
    with canceller.transaction():
        canceller.execute("select lockgate.cancel(%s)", (first,))
        second = race(rival, canceller, lambda: q.submit_by(rival, dedupe_key="k"))
    assert answer(second) != first
    assert [task.status for task in q.tasks()] == ["cancelled", "queued"]


@pytest.mark.parametrize(("field", "again"), [("idempotency_key", "replayed"), ("dedupe_key", "deduplicated")])
def test_two_batches_with_the_same_keys_in_opposite_order_do_not_deadlock(
    q: Contract, threads: Threads, race: Race, field: str, again: str
) -> None:
    """Each is held up half way, by a gate, with its first key stored."""
    gates = [q.db.connect("service") for _ in range(2)]
    first, second = q.db.connect("service"), q.db.connect("service")

    def item(key: str) -> dict[str, str]:
        return {"kind": "sleep", field: key}

    def batch(conn: psycopg.Connection[Any], *keys: str) -> list[Outcome]:
        return q.submit_batch([item(key) for key in keys], conn=conn)

    with gates[0].transaction(force_rollback=True), gates[1].transaction(force_rollback=True):
        batch(gates[0], "gate 0")
        batch(gates[1], "gate 1")
        there = race(first, gates[0], batch, first, "a", "gate 0", "z")
        back = threads.start(batch, second, "z", "gate 1", "a")
        q.until_waiting(second)
    there_and_back = [row.outcome for future in (there, back) for row in answer(future)]
    assert sorted(there_and_back) == ["created"] * 4 + [again] * 2
    assert len(q.tasks()) == 4


# Claiming ------------------------------------------------------------------------------------------------------------


def test_a_claim_does_not_wait_for_another_and_takes_the_next(q: Contract) -> None:
    first, second = q.submit(), q.submit()
    holder, rival = q.runner(), q.runner()
    rival.conn.execute("set lock_timeout = '5s'")  # or it would wait for us for ever
    with holder.conn.transaction():
        assert holder.work(slot=1).task == first
        assert rival.work(slot=2).task == second


def test_one_task_is_claimed_once(q: Contract) -> None:
    number = q.submit()
    holder, rival = q.runner(), q.runner()
    with holder.conn.transaction():
        holder.work(slot=1)
        rival.take(2)
        assert rival.claim(slot=2) is None
    assert rival.claim(slot=2) is None
    assert (q.task(number).slot, q.task(number).attempt) == (1, 1)


def test_what_two_promote_at_once_is_claimed_once(q: Contract) -> None:
    for _ in range(2):
        q.row("scheduled", run_at="2000-01-01")
    holder, rival = q.runner(), q.runner()
    with holder.conn.transaction():
        mine = holder.work(slot=1)
        rival.take(2)
        assert rival.claim(slot=2) is None  # both are promoted by the other, who has not committed
    theirs = rival.claim(slot=2)
    assert theirs is not None
    assert {mine.task, theirs.task} == {task.id for task in q.tasks()}


def test_a_claim_does_not_wait_for_a_change_of_slots(q: Contract) -> None:
    q.submit()
    runner = q.runner()
    with q.service.transaction():
        q.set_slots(0)
        assert runner.work(slot=1)
    runner.take(2)
    assert runner.claim(slot=2) is None


def test_many_who_take_slots_at_once_get_one_each_and_no_more_than_there_are(q: Contract, threads: Threads) -> None:
    q.set_slots(5)
    runners = [q.runner() for _ in range(12)]
    taken = [answer(future) for future in [threads.start(runner.take) for runner in runners]]
    got = sorted(slot for slot in taken if slot)
    assert len(set(got)) == len(got)
    # Two may have tried the same one, and the loser goes on to the next, so none stays free that somebody wanted.
    assert got == [1, 2, 3, 4, 5]


# Ending --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def lost(q: Contract) -> tuple[Session, Session, Any]:
    """An owner cut off from its slot, which another has taken: the owner, the adopter, what the owner claimed."""
    q.submit()
    owner, adopter = q.runner("owner"), q.runner("adopter")
    claimed = owner.work()
    owner.reconnect()
    adopter.take(1)
    return owner, adopter, claimed


@pytest.mark.parametrize("how", ["commit", "rollback"])
def test_an_adopter_waits_for_the_finish_of_the_owner(
    q: Contract, race: Race, lost: tuple[Session, Session, Any], how: str
) -> None:
    owner, adopter, claimed = lost
    seen = q.task(claimed.task)
    with settled(owner.conn, how):
        assert owner.finish(claimed)
        adoption = race(adopter.conn, owner.conn, adopter.adopt, seen)
    assert answer(adoption) == (None if how == "commit" else "queued")
    assert q.task(claimed.task).status == ("succeeded" if how == "commit" else "queued")
    assert len(q.attempts(claimed.task)) == (0 if how == "commit" else 1)


@pytest.mark.parametrize("how", ["commit", "rollback"])
@pytest.mark.parametrize("end", ["finish", "fail", "return_task"])
def test_an_owner_waits_for_its_adopter(
    q: Contract, race: Race, lost: tuple[Session, Session, Any], end: str, how: str
) -> None:
    owner, adopter, claimed = lost
    with settled(adopter.conn, how):
        assert adopter.adopt(q.task(claimed.task)) == "queued"
        ending = race(owner.conn, adopter.conn, getattr(owner, end), claimed)
    if how == "commit":
        with q.refused("LG002"):
            answer(ending)
        assert (q.task(claimed.task).status, len(q.attempts(claimed.task))) == ("queued", 1)
    else:
        assert answer(ending) == {"finish": True, "fail": "scheduled", "return_task": "queued"}[end]


def test_two_finishes_at_once_are_one(q: Contract, race: Race, lost: tuple[Session, Session, Any]) -> None:
    owner, adopter, claimed = lost
    adopter.die()
    ghost = q.runner("ghost")
    ghost.name = owner.name
    with owner.conn.transaction():
        assert owner.finish(claimed, result=1)
        second = race(ghost.conn, owner.conn, ghost.finish, claimed, 2)
    assert answer(second) is False
    assert q.task(claimed.task).result == 1


# Cancelling ----------------------------------------------------------------------------------------------------------


def test_a_cancel_waits_for_a_claim_and_then_asks(q: Contract, race: Race) -> None:
    number = q.submit()
    runner = q.runner()
    with runner.conn.transaction():
        runner.work()
        cancel = race(q.service, runner.conn, q.cancel, number)
    assert answer(cancel) == "running"
    assert q.task(number).cancel_requested == "graceful"


def test_a_claim_passes_by_what_is_being_cancelled(q: Contract) -> None:
    first, second = q.submit(), q.submit()
    with q.service.transaction():
        q.cancel(first)
        assert q.runner().work().task == second


@pytest.mark.parametrize(
    ("end", "status"), [("finish", "succeeded"), ("fail", "cancelled"), ("return_task", "cancelled")]
)
def test_an_end_that_waited_for_a_cancel_knows_of_it(q: Contract, race: Race, end: str, status: str) -> None:
    number = q.submit()
    runner = q.runner()
    claimed = runner.work()
    with q.service.transaction():
        q.cancel(number)
        ending = race(runner.conn, q.service, getattr(runner, end), claimed)
    answer(ending)
    assert (q.task(number).status, q.task(number).cancel_requested) == (status, "graceful")


@pytest.mark.parametrize(
    ("end", "status"), [("finish", "succeeded"), ("fail", "cancelled"), ("return_task", "cancelled")]
)
def test_a_cancel_that_waited_for_the_end_of_an_attempt_goes_by_what_came_of_it(
    q: Contract, race: Race, end: str, status: str
) -> None:
    number = q.submit()
    runner = q.runner()
    claimed = runner.work()
    with runner.conn.transaction():
        getattr(runner, end)(claimed)
        cancel = race(q.service, runner.conn, q.cancel, number)
    assert answer(cancel) == status
    assert (q.task(number).status, q.task(number).cancel_requested) == (status, None)


def test_an_adoption_that_waited_for_a_cancel_ends_the_task(
    q: Contract, race: Race, lost: tuple[Session, Session, Any]
) -> None:
    _, adopter, claimed = lost
    with q.service.transaction():
        assert q.cancel(claimed.task) == "running"
        adoption = race(adopter.conn, q.service, adopter.adopt, q.task(claimed.task))
    assert answer(adoption) == "cancelled"


def test_a_cancel_that_waited_for_an_adoption_ends_the_task(
    q: Contract, race: Race, lost: tuple[Session, Session, Any]
) -> None:
    _, adopter, claimed = lost
    with adopter.conn.transaction():
        assert adopter.adopt(q.task(claimed.task)) == "queued"
        cancel = race(q.service, adopter.conn, q.cancel, claimed.task)
    assert answer(cancel) == "cancelled"
    assert q.task(claimed.task).status == "cancelled"


def test_a_promotion_passes_by_what_is_being_cancelled(q: Contract) -> None:
    number = q.row("scheduled", run_at="2000-01-01")
    with q.service.transaction():
        assert q.cancel(number) == "cancelled"
        assert q.db.value("select lockgate.promote('default')") == 0
    assert q.task(number).status == "cancelled"


def test_a_cancel_waits_for_a_promotion_and_cancels_all_the_same(q: Contract, race: Race) -> None:
    number = q.row("scheduled", run_at="2000-01-01")
    owner = q.db.connect("owner")
    with owner.transaction():
        owner.execute("select lockgate.promote('default')")
        cancel = race(q.service, owner, q.cancel, number)
    assert answer(cancel) == "cancelled"


# Retrying and deleting -----------------------------------------------------------------------------------------------


def call(conn: psycopg.Connection[Any], function: str, task: int) -> Any:
    row = conn.execute(f"select lockgate.{function}(%s)", (task,)).fetchone()
    return row and row[0]


@pytest.mark.parametrize(
    ("first", "second", "sqlstate"),
    [
        ("retry", "retry", "LG007"),
        ("retry", "cancel", None),
        ("retry", "delete_task", None),
        ("delete_task", "retry", "LG006"),
        ("delete_task", "cancel", "LG006"),
        ("delete_task", "delete_task", "LG006"),
    ],
)
def test_of_two_who_act_on_an_ended_task_the_second_goes_by_what_the_first_left(
    q: Contract, race: Race, first: str, second: str, sqlstate: str | None
) -> None:
    number = q.row("failed")
    rival = q.db.connect("service")
    with q.service.transaction():
        call(q.service, first, number)
        waiting = race(rival, q.service, call, rival, second, number)
    if sqlstate:
        with q.refused(sqlstate):
            answer(waiting)
    else:
        answer(waiting)


def test_a_claim_passes_by_what_is_being_deleted(q: Contract) -> None:
    first, second = q.submit(), q.submit()
    with q.service.transaction():
        call(q.service, "delete_task", first)
        assert q.runner().work().task == second


def test_a_deletion_that_waited_for_a_claim_is_refused(q: Contract, race: Race) -> None:
    number = q.submit()
    runner = q.runner()
    with runner.conn.transaction():
        runner.work()
        deletion = race(q.service, runner.conn, call, q.service, "delete_task", number)
    with q.refused("LG007"):
        answer(deletion)
    assert q.task(number).status == "running"


def test_output_that_comes_while_its_task_is_deleted_goes_with_it(q: Contract, race: Race) -> None:
    number = q.submit()
    runner = q.runner()
    claimed = runner.work()
    runner.finish(claimed)
    write = ("select lockgate.write_output(%s, %s, 'text')", number, claimed.lease)
    with q.service.transaction():
        call(q.service, "delete_task", number)
        late = race(runner.conn, q.service, runner.value, *write)
    answer(late)
    assert q.db.query("select from lockgate.output") == []


def test_a_deletion_waits_for_output_and_takes_it_along(q: Contract, race: Race) -> None:
    number = q.submit()
    runner = q.runner()
    claimed = runner.work()
    runner.finish(claimed)
    with runner.conn.transaction():
        runner.value("select lockgate.write_output(%s, %s, 'text')", number, claimed.lease)
        deletion = race(q.service, runner.conn, call, q.service, "delete_task", number)
    answer(deletion)
    assert q.db.query("select from lockgate.output") == []


def test_output_holds_up_no_end_and_no_claim_of_its_task(q: Contract) -> None:
    number = q.submit()
    runner, writer = q.runner(), q.runner()
    claimed = runner.work()
    with writer.conn.transaction():
        writer.value("select lockgate.write_output(%s, %s, 'text')", number, claimed.lease)
        assert runner.fail(claimed, retry_after=0) == "queued"
        again = runner.claim()
    assert again is not None
    assert again.task == number


def test_a_purge_passes_by_what_is_being_retried(q: Contract) -> None:
    number, old = q.row("failed"), q.row("failed")
    with q.service.transaction():
        call(q.service, "retry", number)
        assert q.db.value("select lockgate.purge('default')") == 1
    assert [task.id for task in q.tasks()] == [number]
    assert old != number


def test_progress_that_waited_for_the_end_is_not_stored(q: Contract, race: Race) -> None:
    q.submit()
    runner = q.runner("one")
    claimed = runner.work()
    other = q.runner("other")
    with runner.conn.transaction():
        runner.finish(claimed)
        report = race(
            other.conn, runner.conn, other.value, "select lockgate.report_progress(%s, %s, 'one', '1')",
            claimed.task, claimed.lease,
        )  # fmt: skip
    assert answer(report) is False


# Applying ------------------------------------------------------------------------------------------------------------


def test_two_who_apply_the_schema_at_once_apply_it_once(q: Contract, threads: Threads) -> None:
    q.db.query("drop schema lockgate cascade")
    versions = {answer(future) for future in [threads.start(schema.apply, q.db.owner) for _ in range(4)]}
    assert [(version,) for version in versions] == q.db.query("select version from lockgate.release")


def test_a_key_for_a_queue_that_is_being_deleted_is_refused(q: Contract, race: Race) -> None:
    q.queue("gpu")
    rival = q.db.connect("service")
    text = "select lockgate.add_key('kkkkkkkkkkkk', 'gpu', %s, 'read', 'gpu')"
    with q.service.transaction():
        q.service.execute("select lockgate.delete_queue('gpu')")
        adding = race(rival, q.service, rival.execute, text, (b"d" * 32,))
    with pytest.raises(psycopg.Error, match='there is no queue "gpu"'):
        answer(adding)
    assert q.db.query("select * from lockgate.key_overview") == []
