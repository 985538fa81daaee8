"""The poll finds whatever there is, told or not; and what it sees counts from when it was seen."""

from tests.contract import Contract, until
from tests.runner.conftest import Start
from tests.runner.test_outcomes import ended

GRACE = 5.0


def test_a_task_that_nobody_was_told_of_is_found(q: Contract, start: Start) -> None:
    runner = start()
    runner.says("slot taken")
    assert ended(q, q.submit(kind="nap", payload={"seconds": 0})).status == "succeeded"
    q.service.execute("set lockgate.notify = off")
    assert ended(q, q.submit(kind="nap", payload={"seconds": 0})).status == "succeeded"


def test_a_cancel_that_nobody_was_told_of_is_found(q: Contract, start: Start) -> None:
    runner = start()
    runner.says("slot taken")
    task = q.submit(kind="nap", payload={"seconds": 60})
    runner.says("taken", task=task)
    q.change(task, cancel_requested="graceful")
    assert ended(q, task).status == "cancelled"


def test_between_looks_that_are_far_apart_pings_keep_the_deadline_ahead(q: Contract, start: Start) -> None:
    q.queue(grace=4)
    runner = start(poll=60)
    runner.says("slot taken")
    row = ended(q, q.submit(kind="nap", payload={"seconds": 6}))
    assert (row.status, row.attempt) == ("succeeded", 1)


def test_runners_that_stand_by_share_the_looks_and_are_there_when_they_are_told(q: Contract, start: Start) -> None:
    q.queue(slots=1)
    start().says("slot taken")
    others = [q.runner() for _ in range(40)]
    standby = start()
    standby.says("connected")
    silence = """
        select extract(epoch from clock_timestamp() - a.query_start) from pg_stat_activity a
        join lockgate.runner r on r.backend_pid = a.pid where r.runner = %s
        """
    until(lambda: q.db.value(silence, standby.name) > 4, "it to look at its leisure")
    q.set_slots(2)
    standby.says("slot taken", limit=12)  # its own next look would be 14 s away
    until(lambda: q.db.value(silence, standby.name) < 1, "it to be as lively as whoever has a slot")
    assert len(others) == 40


def test_an_adopter_waits_from_when_it_received_the_first_sight_and_not_from_when_it_asked(
    q: Contract, start: Start
) -> None:
    """The server takes a second to answer, and the owner was alive for most of it."""
    q.queue(slots=1, grace=GRACE)
    owner = start()
    owner.says("slot taken")
    task = q.submit(kind="nap", payload={"seconds": 60})
    owner.says("taken", task=task)
    watch = q.db.value("select pg_get_functiondef('lockgate.slot_activity()'::regprocedure)")
    q.db.query(
        f"""
        create or replace function lockgate.slot_activity()
        returns table (
          queue int, slot int, task bigint, lease bigint, runner text, session int, grace double precision,
          cancel_requested lockgate.cancel_mode, pid int, backend_start timestamptz, state_change timestamptz)
        language plpgsql as $$
        begin
          perform pg_sleep(case when current_setting('application_name') like '%{owner.name}' then 0 else 1.5 end);
          return query select o.*, null::timestamptz, null::timestamptz from lockgate.occupied_slots() o;
        end $$
        """
    )
    adopter = start()
    asked = (
        "select clock_timestamp() - query_start from pg_stat_activity where query like %s and wait_event = 'PgSleep'"
    )
    until(lambda: q.db.query(asked, "%lockgate.slot_activity()"), "the adopter to ask", every=0.001)
    owner.kill()
    received = q.now()
    while q.db.query(asked, "%lockgate.slot_activity()"):
        received = q.now()
    q.db.query(watch)
    adopter.says("adopted", task=task, limit=GRACE + 10)
    [attempt] = q.attempts(task)
    assert (attempt.end_time - received).total_seconds() >= GRACE
