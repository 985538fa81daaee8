from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import errors

from tests.contract import Contract, Outcome


def test_a_task_due_now_is_queued(q: Contract) -> None:
    task = q.task(q.submit("sleep", payload={"max": 3}))
    assert (task.status, task.queue, task.kind, task.payload) == ("queued", "default", "sleep", {"max": 3})
    assert (task.attempt, task.start_time, task.lease, task.finish_time) == (0, None, None, None)


def test_what_is_submitted_is_what_is_stored(q: Contract) -> None:
    run_at = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    task = q.task(
        q.submit(
            "mail",
            payload={"to": [1, None, {"a": None}]},
            priority=7,
            run_at=run_at,
            max_attempts=9,
            timeout=2.5,
            tags=["a", "b"],
            metadata={"trace": None},
            idempotency_key="ik",
            dedupe_key="dk",
        )
    )
    assert (task.kind, task.priority, task.run_at, task.max_attempts, task.timeout) == ("mail", 7, run_at, 9, 2.5)
    assert (task.payload, task.metadata, task.tags) == ({"to": [1, None, {"a": None}]}, {"trace": None}, ["a", "b"])
    assert (task.idempotency_key, task.dedupe_key) == ("ik", "dk")


def test_what_is_left_out_comes_from_the_queue(q: Contract) -> None:
    q.queue(max_attempts=7, timeout=12.5)
    task = q.task(q.submit())
    assert (task.max_attempts, task.timeout, task.priority, task.payload) == (7, 12.5, 0, {})
    assert (task.tags, task.metadata, task.idempotency_key, task.dedupe_key) == ([], {}, None, None)


def test_numbers_rise_in_the_order_of_the_batch(q: Contract) -> None:
    rows = q.submit_batch([{"kind": "sleep", "payload": i} for i in range(50)])
    assert [row.item for row in rows] == list(range(1, 51))
    assert {row.outcome for row in rows} == {"created"}
    numbers = [row.task for row in rows if row.task]
    assert numbers == sorted(set(numbers))
    assert [q.task(number).payload for number in numbers] == list(range(50))


def test_an_empty_batch_is_nothing(q: Contract) -> None:
    assert q.submit_batch([]) == []


@pytest.mark.parametrize("tasks", [None, {}, "text", 1])
def test_what_is_not_an_array_is_no_batch(q: Contract, tasks: Any) -> None:
    with q.refused("22023"):
        q.submit_batch(tasks)


# When ----------------------------------------------------------------------------------------------------------------


def test_a_task_for_later_is_scheduled(q: Contract) -> None:
    run_at = q.now() + timedelta(hours=1)
    task = q.task(q.submit(run_at=run_at))
    assert (task.status, task.run_at) == ("scheduled", run_at)


def test_a_delay_counts_from_now(q: Contract) -> None:
    task = q.task(q.submit(delay=60.0))
    assert task.status == "scheduled"
    assert task.run_at == task.create_time + timedelta(seconds=60)


def test_run_at_goes_before_delay(q: Contract) -> None:
    run_at = q.now() + timedelta(hours=1)
    assert q.task(q.submit(run_at=run_at, delay=60.0)).run_at == run_at


@pytest.mark.parametrize("due", [{"run_at": datetime(2000, 1, 1, tzinfo=UTC)}, {"delay": 0.0}, {"delay": -5.0}])
def test_a_time_that_has_come_already_means_now(q: Contract, due: dict[str, Any]) -> None:
    assert q.task(q.submit(**due)).status == "queued"


def test_never_is_no_time(q: Contract) -> None:
    with q.breaks("run_at_is_within_the_years_1_to_9999"):
        q.submit(run_at="infinity")


# Refusals ------------------------------------------------------------------------------------------------------------


def test_an_unknown_queue_is_refused(q: Contract) -> None:
    with q.refused("LG001"):
        q.submit(queue="nowhere")
    assert q.submit_batch([{"kind": "sleep", "queue": "nowhere"}]) == [Outcome(1, None, "unknown_queue")]
    assert q.tasks() == []


def test_a_kind_the_queue_does_not_take_is_refused(q: Contract) -> None:
    q.queue("mail", kinds=["mail"])
    with q.refused("LG005"):
        q.submit("sleep", queue="mail")
    assert q.task(q.submit("mail", queue="mail")).status == "queued"


def test_no_kind_is_not_a_kind_the_queue_takes(q: Contract) -> None:
    q.queue("mail", kinds=["mail"])
    assert q.submit_batch([{"queue": "mail"}]) == [Outcome(1, None, "kind_refused")]


def test_a_task_needs_a_kind(q: Contract) -> None:
    with pytest.raises(errors.NotNullViolation) as caught:
        q.submit_batch([{}])
    assert caught.value.diag.column_name == "kind"


@pytest.mark.parametrize(
    ("constraint", "named"),
    [
        ("kind_is_1_to_200_characters", {"kind": ""}),
        ("priority_is_between_minus_100_and_100", {"priority": 101}),
        ("max_attempts_are_1_to_1000", {"max_attempts": 0}),
        ("timeout_is_positive_and_at_most_30_days", {"timeout": 0.0}),
        ("metadata_is_at_most_16_kib", {"metadata": {"m": "x" * 16384}}),
        ("tags_are_at_most_4_kib", {"tags": ["t" * 4096]}),
        ("idempotency_key_is_1_to_200_characters", {"idempotency_key": ""}),
        ("idempotency_key_is_1_to_200_characters", {"idempotency_key": "k" * 201}),
        ("dedupe_key_is_1_to_200_characters", {"dedupe_key": "k" * 201}),
    ],
)
def test_a_broken_limit_is_named(q: Contract, constraint: str, named: dict[str, Any]) -> None:
    with q.breaks(constraint):
        q.submit(**named)


def test_a_payload_is_at_most_1_mib(q: Contract) -> None:
    brim = "x" * (1048576 - 2)  # and two quotes
    q.submit(payload=brim)
    with q.breaks("payload_is_at_most_1_mib"):
        q.submit(payload=brim + "x")


def test_refused_items_do_not_hold_up_the_others(q: Contract) -> None:
    first = q.submit(dedupe_key="taken")
    rows = q.submit_batch(
        [
            {"kind": "sleep"},
            {"kind": "sleep", "queue": "nowhere"},
            {"kind": "sleep", "dedupe_key": "taken"},
            {"kind": "sleep"},
        ]
    )
    assert [row.outcome for row in rows] == ["created", "unknown_queue", "deduplicated", "created"]
    assert [row.task for row in rows][1:3] == [None, first]


def test_an_item_that_breaks_a_limit_takes_the_whole_batch_with_it(q: Contract) -> None:
    with q.breaks("priority_is_between_minus_100_and_100"):
        q.submit_batch([{"kind": "sleep"}, {"kind": "sleep", "priority": 101}])
    assert q.tasks() == []


# Idempotency ---------------------------------------------------------------------------------------------------------


def test_the_same_request_under_a_key_is_the_same_task(q: Contract) -> None:
    first = q.submit(payload={"a": 1, "b": 2}, idempotency_key="k")
    assert q.submit(payload={"b": 2, "a": 1}, idempotency_key="k") == first
    assert len(q.tasks()) == 1


def test_another_request_under_a_used_key_is_refused(q: Contract) -> None:
    q.submit(payload={"a": 1}, idempotency_key="k")
    with q.refused("LG003"):
        q.submit(payload={"a": 2}, idempotency_key="k")
    assert len(q.tasks()) == 1


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_a_key_lives_as_long_as_its_task_whatever_became_of_it(q: Contract, status: str) -> None:
    first = q.submit(idempotency_key="k")
    q.change(first, status=status, finish_time=q.now(), error={})
    assert q.submit(idempotency_key="k") == first
    q.db.query("delete from lockgate.task")
    assert q.submit(idempotency_key="k") != first


def test_keys_of_different_scopes_do_not_meet(q: Contract) -> None:
    item = {"kind": "sleep", "idempotency_key": "k"}
    ours, theirs = q.submit_batch([item], scope="ours"), q.submit_batch([item], scope="theirs")
    assert ours[0].task != theirs[0].task
    assert q.submit_batch([item], scope="ours") == [Outcome(1, ours[0].task, "replayed")]


def test_a_key_may_come_twice_in_one_batch(q: Contract) -> None:
    item = {"kind": "sleep", "idempotency_key": "k"}
    rows = q.submit_batch([item, item, item | {"kind": "other"}])
    assert [row.outcome for row in rows] == ["created", "replayed", "key_reused"]
    assert len({row.task for row in rows}) == 1


def test_the_envelope_of_a_request_is_kept_and_is_no_part_of_it(q: Contract) -> None:
    """A message that comes again may have other headers, and is the same request."""
    item = {"kind": "x", "idempotency_key": "k", "metadata": {"a": 1, "b": {"c": 2}}}
    (first,) = q.submit_batch([item | {"envelope": {"b": 9, "trace": "1"}}])
    assert q.task(first.task or 0).metadata == {"a": 1, "b": {"c": 2}, "trace": "1"}
    for again in (item, item | {"envelope": {"trace": "2"}}):
        assert q.submit_batch([again]) == [Outcome(1, first.task, "replayed")]
    assert [row.outcome for row in q.submit_batch([item | {"metadata": {}}])] == ["key_reused"]


def test_metadata_and_envelope_share_one_limit(q: Contract) -> None:
    half = {"metadata": {"a": "x" * 8000}, "envelope": {"b": "x" * 8000}}
    q.submit_batch([{"kind": "x"} | half])
    with q.refused("23514"):
        q.submit_batch([{"kind": "x"} | half | {"envelope": {"b": "x" * 9000}}])


def test_a_request_that_was_accepted_is_replayed_though_its_kind_is_taken_no_longer(q: Contract) -> None:
    first = q.submit("sleep", idempotency_key="k")
    q.queue(kinds=["mail"])
    assert q.submit("sleep", idempotency_key="k") == first
    with q.refused("LG005"):
        q.submit("sleep", payload={"other": 1}, idempotency_key="k")


def test_a_refused_item_names_no_task_whatever_its_keys_are(q: Contract) -> None:
    q.queue("mail", kinds=["mail"])
    keys = {"idempotency_key": "k", "dedupe_key": "k"}
    [taken] = q.submit_batch([{"kind": "mail", "queue": "mail", **keys}])
    assert taken.outcome == "created"
    items = [{"kind": "sleep", "queue": "nowhere", **keys}, {"kind": "sleep", "queue": "mail", **keys}]
    assert q.submit_batch(items) == [Outcome(1, None, "unknown_queue"), Outcome(2, None, "kind_refused")]


# Dedupe --------------------------------------------------------------------------------------------------------------


def test_a_second_submission_returns_the_unfinished_task(q: Contract) -> None:
    first = q.submit(payload={"a": 1}, dedupe_key="k")
    assert q.submit(payload={"a": 2}, dedupe_key="k") == first
    runner = q.runner()
    claimed = runner.work()
    assert q.submit(dedupe_key="k") == first
    assert runner.fail(claimed, retry_after=60) == "scheduled"
    assert q.submit(dedupe_key="k") == first


def test_after_the_task_has_ended_its_dedupe_key_makes_a_new_one(q: Contract) -> None:
    first = q.submit(dedupe_key="k")
    runner = q.runner()
    runner.finish(runner.work())
    second = q.submit(dedupe_key="k")
    assert second != first
    q.cancel(second)
    assert q.submit(dedupe_key="k") not in (first, second)


def test_queues_do_not_share_dedupe_keys(q: Contract) -> None:
    q.queue("other")
    assert q.submit(dedupe_key="k") != q.submit(queue="other", dedupe_key="k")


def test_the_idempotency_key_speaks_before_the_dedupe_key(q: Contract) -> None:
    item = {"kind": "sleep", "idempotency_key": "k", "dedupe_key": "d"}
    assert [row.outcome for row in q.submit_batch([item])] == ["created"]
    assert [row.outcome for row in q.submit_batch([item])] == ["replayed"]
    assert [row.outcome for row in q.submit_batch([item | {"idempotency_key": "other"}])] == ["deduplicated"]


# Notifications and transactions --------------------------------------------------------------------------------------


def test_submit_says_where_to_look(q: Contract) -> None:
    q.queue("other")
    with q.heard() as said:
        q.submit()
        q.submit(queue="other")
    assert said == ["queue default", "queue other"]


def test_submit_says_who_has_to_look_sooner_than_they_would(q: Contract) -> None:
    with q.heard() as said:
        q.submit(delay=50.0)
        q.submit(run_at=q.now() + timedelta(seconds=50))
        q.submit(delay=70.0)
        q.submit(run_at=q.now() - timedelta(seconds=50))
    assert said == ["later default", "later default", "queue default"]


def test_submit_into_no_queue_in_particular_is_submit_into_the_default(q: Contract) -> None:
    with q.heard() as said:
        task = q.submit(queue=None)
    assert (q.task(task).queue, said) == ("default", ["queue default"])


def test_what_stores_nothing_wakes_nobody(q: Contract) -> None:
    q.submit(dedupe_key="k")
    with q.heard() as said:
        q.submit(dedupe_key="k")
    assert said == []


def test_submit_is_silent_where_notify_is_off(q: Contract) -> None:
    with q.heard() as said:
        q.service.execute("set lockgate.notify = off")
        q.submit()
        q.service.execute("set lockgate.notify = on")
        q.submit(queue="default")
    assert said == ["queue default"]


def test_submit_batch_leaves_the_waking_to_its_caller(q: Contract) -> None:
    with q.heard() as said:
        q.submit_batch([{"kind": "sleep"}])
        q.service.execute("select lockgate.notify_due('default', 'now')")
    assert said == ["queue default"]


def test_a_rolled_back_submission_leaves_nothing(q: Contract) -> None:
    with q.heard() as said, q.service.transaction(force_rollback=True):
        q.submit(idempotency_key="k")
    assert q.tasks() == []
    assert said == []
    assert q.task(q.submit(payload={"other": 1}, idempotency_key="k")).status == "queued"


def test_a_submission_is_part_of_its_callers_transaction(q: Contract) -> None:
    runner = q.runner()
    runner.take(1)
    with q.service.transaction():
        task = q.submit()
        assert runner.claim() is None
    claimed = runner.claim()
    assert claimed is not None
    assert claimed.task == task


def test_submit_reads_as_its_comment_says(q: Contract) -> None:
    with psycopg.connect(q.db.service) as conn:
        row = conn.execute("""select submit('default', 'sleep', '{"max": 3}', priority => 5)""").fetchone()
    assert row is not None
    task = q.task(row[0])
    assert (task.payload, task.priority) == ({"max": 3}, 5)
