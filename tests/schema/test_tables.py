"""Impossible rows cannot be stored, whoever writes them; the constraint that refuses one says why in its name."""

from datetime import timedelta
from typing import Any

import pytest
from psycopg import errors
from psycopg.sql import SQL

from tests.contract import BOOM, Contract

IMPOSSIBLE_TASKS: list[tuple[str, str, dict[str, Any]]] = [
    ("kind_is_1_to_200_characters", "queued", {"kind": ""}),
    ("kind_is_1_to_200_characters", "queued", {"kind": "k" * 201}),
    ("priority_is_between_minus_100_and_100", "queued", {"priority": 101}),
    ("priority_is_between_minus_100_and_100", "queued", {"priority": -101}),
    ("run_at_is_within_the_years_1_to_9999", "scheduled", {"run_at": "infinity"}),
    ("run_at_is_within_the_years_1_to_9999", "scheduled", {"run_at": "10000-01-01T00:00:00Z"}),
    ("run_at_is_within_the_years_1_to_9999", "queued", {"run_at": "0001-12-31T23:59:59Z BC"}),
    ("max_attempts_are_1_to_1000", "queued", {"max_attempts": 0}),
    ("max_attempts_are_1_to_1000", "queued", {"max_attempts": 1001}),
    ("timeout_is_positive_and_at_most_30_days", "queued", {"timeout": 0}),
    ("timeout_is_positive_and_at_most_30_days", "queued", {"timeout": 2592001}),
    ("timeout_is_positive_and_at_most_30_days", "queued", {"timeout": float("nan")}),
    (
        "idempotency_key_is_1_to_200_characters",
        "queued",
        {"idempotency_key": "k" * 201, "request_digest": "6a9bc9d4-5e3c-4f6b-8d7e-1f2a3b4c5d6e"},
    ),
    ("dedupe_key_is_1_to_200_characters", "queued", {"dedupe_key": ""}),
    ("running_iff_it_has_a_slot", "queued", {"slot": 1}),
    ("running_iff_it_has_a_slot", "succeeded", {"slot": 1}),
    ("running_iff_it_has_a_slot", "running", {"slot": None}),
    ("a_turn_is_of_its_slot", "running", {"turn": 1}),
    ("a_turn_is_of_its_slot", "running", {"slot": 1, "turn": 2 << 40}),
    ("slot_is_1_to_1000", "running", {"slot": 0, "turn": 1}),
    ("slot_is_1_to_1000", "running", {"slot": -1, "turn": -1}),
    ("slot_is_1_to_1000", "running", {"slot": 1001}),
    ("ended_iff_it_has_a_finish_time", "queued", {"finish_time": "now"}),
    ("ended_iff_it_has_a_finish_time", "running", {"finish_time": "now"}),
    ("ended_iff_it_has_a_finish_time", "succeeded", {"finish_time": None}),
    ("ended_iff_it_has_a_finish_time", "failed", {"finish_time": None}),
    ("ended_iff_it_has_a_finish_time", "cancelled", {"finish_time": None}),
    ("started_before_it_runs", "running", {"start_time": None}),
    ("started_before_it_runs", "running", {"turn": None}),
    ("started_before_it_runs", "running", {"lease": None}),
    ("started_before_it_runs", "running", {"runner": None}),
    ("started_before_it_runs", "running", {"session": None}),
    ("started_before_it_runs", "running", {"grace": None}),
    ("started_before_it_runs", "running", {"attempt": 0}),
    ("a_result_only_when_succeeded", "queued", {"result": {}}),
    ("a_result_only_when_succeeded", "failed", {"result": {}}),
    ("a_failed_task_has_an_error", "failed", {"error": None}),
    ("an_idempotency_key_has_its_digest", "queued", {"idempotency_key": "k"}),
    ("an_idempotency_key_has_its_digest", "queued", {"request_digest": "0" * 32}),
]

IMPOSSIBLE_QUEUES: list[tuple[str, dict[str, Any]]] = [
    ("a_queue_name_is_short_and_plain", {"name": ""}),
    ("a_queue_name_is_short_and_plain", {"name": "Upper"}),
    ("a_queue_name_is_short_and_plain", {"name": "with space"}),
    ("a_queue_name_is_short_and_plain", {"name": "n" * 64}),
    ("a_queue_name_is_short_and_plain", {"name": "line\nbreak"}),
    ("a_queue_name_is_short_and_plain", {"name": "line\n"}),
    ("slots_are_0_to_1000", {"slots": -1}),
    ("slots_are_0_to_1000", {"slots": 1001}),
    ("grace_is_1_to_3600_seconds", {"grace": 0.9}),
    ("grace_is_1_to_3600_seconds", {"grace": 3601}),
    ("grace_is_1_to_3600_seconds", {"grace": float("nan")}),
    ("max_attempts_are_1_to_1000", {"max_attempts": 0}),
    ("timeout_is_positive_and_at_most_30_days", {"timeout": -1}),
    ("backoff_is_0_to_30_days", {"backoff_base": -1}),
    ("backoff_is_0_to_30_days", {"backoff_max": 2592001}),
    ("retention_is_not_negative", {"retention": -1}),
    ("depth_max_is_0_to_1000000", {"depth_max": -1}),
]


def test_an_impossible_task_is_refused_by_name(q: Contract, subtests: pytest.Subtests) -> None:
    for constraint, status, columns in IMPOSSIBLE_TASKS:
        with subtests.test(constraint, status=status, **columns), q.breaks(constraint):
            q.row(status, **columns)
    assert q.tasks() == []


def test_an_impossible_queue_is_refused_by_name(q: Contract, subtests: pytest.Subtests) -> None:
    for constraint, settings in IMPOSSIBLE_QUEUES:
        with subtests.test(constraint, **settings), q.breaks(constraint):
            q.update("queue", SQL("true"), settings)


def test_every_limit_of_tasks_and_queues_is_tried_above(q: Contract) -> None:
    limits = q.db.query(
        "select conname from pg_constraint where connamespace = 'lockgate'::regnamespace and contype = 'c'"
        " and conrelid <> 'lockgate.api_key'::regclass"
    )
    assert {name for (name,) in limits} == {row[0] for row in IMPOSSIBLE_TASKS} | {row[0] for row in IMPOSSIBLE_QUEUES}


def test_the_name_of_a_queue_is_unique(q: Contract) -> None:
    with q.breaks("a_queue_name_is_unique"):
        q.db.query("insert into lockgate.queue (name) values ('default')")


def test_a_turn_of_a_slot_is_taken_once(q: Contract) -> None:
    turn = q.db.value("select lockgate.first_turn(1) + 1")
    q.row("running", turn=turn)
    q.queue("other")
    q.row("running", queue="other", turn=turn)
    with q.breaks("a_turn_is_taken_once"):
        q.row("running", turn=turn)


def test_an_idempotency_key_is_unique_in_its_scope(q: Contract) -> None:
    key = {"idempotency_key": "k", "request_digest": "0" * 32}
    q.row("succeeded", **key)
    q.row("queued", **key, idempotency_scope="somebody")
    with q.breaks("task_idempotency"):
        q.row("queued", **key)


@pytest.mark.parametrize("status", ["scheduled", "queued", "running"])
def test_only_one_unfinished_task_has_a_dedupe_key(q: Contract, status: str) -> None:
    for ended in ("succeeded", "failed", "cancelled"):
        q.row(ended, dedupe_key="k")
    q.row(status, dedupe_key="k")
    q.queue("other")
    q.row("queued", dedupe_key="k", queue="other")
    with q.breaks("task_dedupe"):
        q.row("queued", dedupe_key="k")


def test_a_status_cannot_be_misspelt(q: Contract) -> None:
    with q.refused("22P02"):
        q.row("canceled")


@pytest.mark.parametrize("status", ["scheduled", "queued", "running", "succeeded", "failed", "cancelled"])
def test_a_plain_row_of_every_status_can_be_stored(q: Contract, status: str) -> None:
    assert q.task(q.row(status)).status == status


def test_an_attempt_is_recorded_once(q: Contract) -> None:
    insert = "insert into lockgate.attempt (task, attempt, lease, outcome) values (1, 1, 1, 'failed')"
    q.db.query(insert)
    with pytest.raises(errors.UniqueViolation):
        q.db.query(insert)


def test_the_defaults_of_a_queue_are_the_published_ones(q: Contract) -> None:
    assert q.db.query(
        "select slots, paused, grace, max_attempts, timeout, backoff_base, backoff_max, retention, kinds"
        " from lockgate.queue where name = 'default'"
    ) == [(2, False, 5.0, 3, None, 1.0, 300.0, timedelta(days=7).total_seconds(), None)]


def test_an_ended_row_keeps_its_lease_and_error(q: Contract) -> None:
    task = q.task(q.row("failed", lease=77))
    assert (task.lease, task.error) == (77, BOOM)
