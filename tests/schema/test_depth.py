"""A queue with a depth_max: full is full, more or less, and counting is cheap."""

import pytest
from psycopg import errors

from tests.contract import Contract, Outcome

FULL = "queue_full"


def outcomes(rows: list[Outcome]) -> list[str]:
    return [row.outcome for row in rows]


def test_a_full_queue_takes_no_more_and_says_so(q: Contract) -> None:
    q.db.query("select lockgate.change_queue('default', '{\"depth_max\": 3}')")
    assert outcomes(q.submit_batch([{"kind": "a"}] * 5)) == ["created"] * 3 + [FULL] * 2
    assert q.submit_batch([{"kind": "a"}]) == [Outcome(1, None, FULL)]
    with q.refused("LG011"):
        q.submit()
    assert q.db.value("select count(*) from lockgate.task") == 3


def test_what_waits_for_its_time_waits_too(q: Contract) -> None:
    q.queue("default", depth_max=2)
    assert outcomes(q.submit_batch([{"kind": "a", "delay": 60}, {"kind": "a"}, {"kind": "a"}])) == ["created"] * 2 + [
        FULL
    ]


def test_what_runs_and_what_has_ended_does_not_count(q: Contract) -> None:
    q.queue("default", depth_max=1)
    q.submit()
    runner = q.runner()
    claimed = runner.work()
    until_counted_anew(q)
    q.submit()
    with q.refused("LG011"):
        q.submit()
    runner.finish(claimed)
    runner.finish(runner.work())
    until_counted_anew(q)
    q.submit()


def until_counted_anew(q: Contract) -> None:
    """A count holds for twenty times the time it took; here it is forgotten."""
    for row in q.db.query("select id from lockgate.queue"):
        q.service.execute("select set_config('lockgate.depth_' || %s, '', false)", (row[0],))


def test_a_queue_may_take_nothing_at_all(q: Contract) -> None:
    q.queue("default", depth_max=0)
    with q.refused("LG011"):
        q.submit()


def test_keys_are_answered_as_ever_by_a_full_queue(q: Contract) -> None:
    q.queue("default", depth_max=1)
    item = {"kind": "a", "idempotency_key": "k", "dedupe_key": "d"}
    [first] = q.submit_batch([item])
    assert q.submit_batch([item]) == [Outcome(1, first.task, "replayed")]
    assert q.submit_batch([{"kind": "b", "idempotency_key": "k"}]) == [Outcome(1, first.task, "key_reused")]
    assert q.submit_batch([{"kind": "b", "dedupe_key": "d"}]) == [Outcome(1, first.task, "deduplicated")]
    assert outcomes(q.submit_batch([{"kind": "b", "queue": "none"}, {"kind": "b"}])) == ["unknown_queue", FULL]


def test_one_full_queue_does_not_close_another(q: Contract) -> None:
    q.queue("gpu", depth_max=1)
    items = [{"kind": "a", "queue": queue} for queue in ("gpu", "default", "gpu", "default")]
    assert outcomes(q.submit_batch(items)) == ["created", "created", FULL, "created"]


def test_all_or_nothing_is_nothing_when_it_does_not_fit(q: Contract) -> None:
    q.queue("default", depth_max=2)
    with q.refused("LG012"):
        q.service.execute("select lockgate.submit_all(%s::jsonb)", ('[{"kind": "a"}, {"kind": "a"}, {"kind": "a"}]',))
    assert q.db.value("select count(*) from lockgate.task") == 0
    q.service.execute("select lockgate.submit_all(%s::jsonb)", ('[{"kind": "a"}, {"kind": "a"}]',))


def test_what_was_accepted_is_tried_again_whatever_waits(q: Contract) -> None:
    q.queue("default", depth_max=1)
    first = q.submit()
    runner = q.runner()
    claimed = runner.work()
    until_counted_anew(q)
    q.submit()
    runner.fail(claimed)
    assert q.task(first).status == "scheduled"


def test_a_count_holds_for_as_long_as_it_is_worth(q: Contract) -> None:
    """And with it what this session added: it does not take more because it has not counted."""
    q.queue("default", depth_max=10)
    queue = q.queue_id("default")
    q.submit()
    row = q.service.execute("select current_setting('lockgate.depth_' || %s)", (queue,)).fetchone()
    assert row is not None
    depth, until = row[0].split()
    assert depth == "1"
    assert float(until) < q.db.value("select extract(epoch from clock_timestamp())::float8") + 60
    q.service.execute("select set_config('lockgate.depth_' || %s, '9 9999999999', false)", (queue,))
    q.submit()
    with q.refused("LG011"):
        q.submit()
    until_counted_anew(q)
    q.submit()


def test_limits_of_the_limit(q: Contract) -> None:
    for depth in (-1, 1000001):
        with pytest.raises(errors.CheckViolation, match="depth_max_is_0_to_1000000"):
            q.queue("default", depth_max=depth)
    q.queue("default", depth_max=1000000)
    q.queue("default", depth_max=None)


def test_no_plan_reads_the_table_to_count(q: Contract) -> None:
    q.db.query(
        "insert into lockgate.task (queue, kind, status, finish_time, max_attempts, payload)"
        " select 'default', 'sleep', s, case when s = 'succeeded' then now() end, 3, '{}'"
        " from generate_series(1, 5000), unnest(array['queued', 'succeeded']::lockgate.status[]) s"
    )
    q.queue("default", depth_max=100)
    with q.service.transaction():
        for _ in range(8):
            until_counted_anew(q)
            [row] = q.submit_batch([{"kind": "a"}])
            assert row.outcome == FULL
        scans = q.service.execute("select pg_stat_get_xact_numscans('lockgate.task'::regclass)").fetchone()
        assert scans == (0,)
