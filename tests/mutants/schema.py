"""Guards of schema.sql, each weakened."""

from tests.mutants.mutant import Edit, Mutant, sql


def schema(name: str, weakens: str, edit: Edit, *caught_by: str) -> Mutant:
    return Mutant(name, weakens, (edit,), tuple(f"tests/schema/{each}" for each in caught_by))


HELD = "not lockgate.holds_slot(p_queue, p_slot)"
TURNS = "a_turn_is_taken_once on lockgate.task (queue, turn) where turn is not null"
MY_LEASE = "lease = p_lease and "
MY_NAME = "runner = p_runner and "
ASKED = "v_row.cancel_requested is not null"

MUTANTS = [
    # The slot: its lock, and one running row.
    schema(
        "index-not-unique", "two claims may take the same turn of a slot",
        sql("", f"create unique index {TURNS};\ncreate index task_", f"create index {TURNS};\ncreate index task_"),
        "test_tables.py::test_a_turn_of_a_slot_is_taken_once",
    ),
    schema(
        "claim-without-lock", "claim does not look whether its session holds the slot",
        sql("finish_and_claim", "not lockgate.recheck_slot(p_queue, p_slot)", "false"),
        "test_claim.py::test_a_claim_needs_the_lock_of_its_slot",
        "test_claim.py::test_a_lock_that_was_given_up_is_worth_nothing",
    ),
    schema(
        "claim-takes-lock", "a claim takes the slot's lock where its session does not hold it",
        sql("recheck_slot", "and pg_advisory_unlock(lockgate.lock_class(p_queue), p_slot)\n", "\n"),
        "test_claim.py::test_a_claim_needs_the_lock_of_its_slot",
        "test_claim.py::test_a_lock_that_was_given_up_is_worth_nothing",
    ),
    schema(
        "claim-drops-lock", "after a claim its session does not hold the slot any more",
        sql("recheck_slot", "and pg_try_advisory_lock(lockgate.lock_class(p_queue), p_slot)\n", "\n"),
        "test_claim.py",
    ),
    schema(
        "adopt-without-lock", "adopt does not look whether its session holds the slot",
        sql("adopt", HELD, "false"),
        "test_adopt.py::test_adoption_needs_the_lock_of_the_slot",
        "test_adopt.py::test_a_living_owner_cannot_be_robbed",
    ),
    schema(
        "reconfirm-without-lock", "reconfirm does not look whether its session holds the slot",
        sql("reconfirm", HELD, "false"),
        "test_reconfirm.py::test_reconfirming_needs_the_lock_of_the_slot",
    ),
    schema(
        "anybodys-lock", "a slot held by whatever session counts as held by this one",
        sql("holds_slot", " and pid = pg_backend_pid()", ""),
        "test_slots.py::test_only_the_holder_holds_a_slot",
    ),
    schema(
        "lock-of-another-kind", "a lock with one number counts as that of a slot",
        sql("held_locks", " and objsubid = 2", ""),
        "test_slots.py::test_locks_of_another_kind_on_the_same_numbers_are_no_slots",
    ),
    schema(
        "lock-taken-twice", "a slot is locked again by the session that holds it, and one release does not free it",
        sql("retake_slot", "when lockgate.holds_slot(p_queue, p_slot) then true", "when false then true"),
        "test_slots.py::test_retaking_a_slot_one_holds_does_not_lock_it_twice",
    ),
    schema(
        "slot-still-running", "a slot is given out though its last task still says running",
        sql("take_slot", "is distinct from 'running'", "is distinct from 'scheduled'"),
        "test_slots.py::test_a_slot_whose_task_still_says_running_is_left_to_its_owner",
    ),
    schema(
        "claim-over-running", "claim does not look whether the slot's last task still says running",
        sql("finish_and_claim", "v_status = 'running'", "false"),
        "test_claim.py::test_nothing_is_claimed_into_a_slot_whose_last_task_still_says_running",
    ),
    schema(
        "claim-above-slots", "claim takes any slot number, also above a lowered one",
        sql("finish_and_claim", "or p_slot not between 1 and v_queue.slots", ""),
        "test_claim.py::test_nothing_is_claimed_into_a_slot_that_the_queue_does_not_have",
        "test_claim.py::test_nothing_is_claimed_into_a_slot_above_a_lowered_number",
    ),
    schema(
        "claim-waits", "two claims want the same row: the second waits, then takes it again",
        sql("lock_next", "    for update skip locked\n", ""),
        "test_races.py::test_a_claim_does_not_wait_for_another_and_takes_the_next",
        "test_races.py::test_one_task_is_claimed_once",
    ),
    schema(
        "delete-queue-unheld", "who deletes a queue does not hold its slots meanwhile",
        sql("delete_queue", "where not pg_try_advisory_xact_lock(lockgate.lock_class(v_queue.id), s)", "where false"),
        "test_queues.py::test_while_a_queue_is_being_deleted_nobody_gets_a_slot_of_it",
    ),
    schema(
        "delete-queue-held", "a queue is deleted while a session holds a slot above its number",
        sql("delete_queue", "where l.queue = v_queue.id", "where false"),
        "test_queues.py::test_a_queue_whose_slots_somebody_holds_stays",
    ),
    # The lease: who may still say something about a task.
    schema(
        "lease-not-new", "a claim keeps the lease of the one before",
        sql(
            "finish_and_claim",
            "lease = nextval('lockgate.lease')", "lease = coalesce(t.lease, nextval('lockgate.lease'))",
        ),
        "test_claim.py::test_every_claim_has_a_new_and_greater_lease",
    ),
    schema(
        "adopted-lease-stays", "an adopted task keeps its lease: the old owner hears that its end is recorded",
        sql("requeue", "when p_outcome = 'adopted' then nextval", "when false then nextval"),
        "test_adopt.py::test_an_adopted_task_has_a_lease_of_its_own",
    ),
    schema(
        "adopted-end-lease-stays", "a task whose last attempt was adopted keeps its lease",
        sql("end_task", "when p_adopted then nextval", "when false then nextval"),
        "test_finish.py::test_a_late_finish_after_the_last_attempt_was_adopted_is_refused",
    ),
    schema(
        "finish-any-lease", "finish takes the word of a lease that is lost",
        sql("finish", MY_LEASE, ""),
        "test_finish.py::test_the_lease_of_an_earlier_attempt_is_lost_to_the_runner_of_both",
    ),
    schema(
        "finish-any-runner", "finish takes a lease in another runner's name",
        sql("finish", MY_NAME, ""),
        "test_finish.py::test_a_lease_is_worth_nothing_in_another_runners_name",
    ),
    schema(
        "finish-twice", "finish records an end over an end",
        sql("finish", "and runner = p_runner and status = 'running'", "and runner = p_runner"),
        "test_finish.py::test_finishing_twice_is_already_recorded_and_changes_nothing",
        "test_races.py::test_two_finishes_at_once_are_one",
    ),
    schema(
        "attempt-any-lease", "fail and return_task take the word of a lost lease; finish says that its end is recorded",
        sql("lock_attempt", MY_LEASE, ""),
        "test_fail.py::test_a_lost_lease_cannot_fail",
        "test_return_task.py::test_an_earlier_attempt_does_not_give_back_the_present_one",
        "test_finish.py::test_a_late_finish_after_an_adoption_is_refused_and_changes_nothing",
    ),
    schema(
        "progress-any-lease", "report_progress takes the word of a lease that is lost",
        sql("report_progress", MY_LEASE, ""),
        "test_words.py",
    ),
    # Adoption, and coming back in time.
    schema(
        "adopt-any-lease", "adopt takes a row that was claimed anew since it was seen",
        sql("adopt", MY_LEASE, ""),
        "test_adopt.py::test_a_row_that_was_claimed_anew_is_left_alone",
    ),
    schema(
        "adopt-any-session", "adopt takes a row whose owner came back since it was seen",
        sql("adopt", "and session = p_session ", ""),
        "test_adopt.py::test_a_row_that_its_owner_reconfirmed_is_left_alone",
    ),
    schema(
        "no-session-mark", "reconfirm leaves the mark of the old session, and an adopter's wait goes on",
        sql("reconfirm", "set session = p_session", "set session = t.session"),
        "test_reconfirm.py::test_a_reconfirmed_row_ends_every_adopters_wait",
    ),
    schema(
        "reconfirm-any-runner", "reconfirm takes a row that is another runner's by now",
        sql("reconfirm", " and t.runner = p_runner", ""),
        "test_reconfirm.py::test_an_adopted_task_is_not_reconfirmed",
    ),
    schema(
        "grace-of-today", "adopters wait for the queue's present grace and not for the one its owner was given",
        sql("occupied_slots", "coalesce(b.grace, q.grace)", "q.grace"),
        "test_look.py::test_the_grace_of_a_running_task_is_that_of_its_claim",
    ),
    schema(
        "grace-not-copied", "a claim does not write the grace that owner and adopter are to use",
        sql("finish_and_claim", "grace = v_queue.grace", "grace = coalesce(t.grace, 3600)"),
        "test_claim.py::test_a_claim_puts_the_task_into_the_slot_of_its_runner",
    ),
    schema(
        "locked-only", "adopters do not see running rows whose lock is free",
        sql("occupied_slots", "full join busy b", "left join busy b"),
        "test_look.py::test_a_running_task_and_the_lock_over_it_are_one_slot",
    ),
    # Attempts.
    schema(
        "claim-not-counted", "a claim does not count the attempt",
        sql("finish_and_claim", "attempt = t.attempt + 1", "attempt = greatest(t.attempt, 1)"),
        "test_claim.py::test_every_claim_counts_as_an_attempt",
    ),
    schema(
        "adoption-not-counted", "an adoption gives the attempt back: a poison task fells runners for ever",
        sql("requeue", "when p_outcome = 'returned' then 1", "when p_outcome in ('returned', 'adopted') then 1"),
        "test_adopt.py::test_an_adopted_task_is_queued_at_once_and_the_attempt_counts",
    ),
    schema(
        "adopted-for-ever", "adoption does not ask whether the attempts are used up",
        sql("adopt", "v_row.attempt >= v_row.max_attempts", "false"),
        "test_adopt.py::test_the_last_attempt_fails_the_task_saying_that_its_runner_died",
    ),
    schema(
        "no-back-off", "a second death in a row is put back at once",
        sql("adopt", "case when v_again", "case when false"),
        "test_adopt.py::test_the_second_death_in_a_row_backs_off",
    ),
    schema(
        "give-back-counted", "a task that a stopping runner gives back has lost an attempt",
        sql("requeue", "when p_outcome = 'returned' then 1", "when false then 1"),
        "test_return_task.py::test_a_task_given_back_is_queued_and_the_attempt_does_not_count",
    ),
    # Only two end a running row.
    schema(
        "cancel-ends-running", "cancel ends a running row over the head of its owner",
        sql("cancel", "if v_status in ('scheduled', 'queued')", "if v_status in ('scheduled', 'queued', 'running')"),
        "test_cancel.py",
    ),
    schema(
        "delete-running", "a running task can be deleted",
        sql("delete_task", "if (lockgate.lock_task(task)).status = 'running' then", "if false then"),
        "test_retry.py::test_a_running_task_is_not_deleted",
        "test_races.py::test_a_deletion_that_waited_for_a_claim_is_refused",
    ),
    schema(
        "purge-running", "a purge removes running rows",
        sql("purge", "in ('succeeded', 'failed', 'cancelled')", "in ('succeeded', 'failed', 'cancelled', 'running')"),
        "test_chores.py::test_purge_empties_a_queue_of_what_has_ended_whatever_its_age",
    ),
    schema(
        "delete-expired-running", "chores remove rows that have not ended",
        sql("delete_expired", "and t.status in ('succeeded', 'failed', 'cancelled')\n        and t.finish_time",
            "and coalesce(t.finish_time, t.create_time)"),
        "test_chores.py::test_ended_tasks_are_removed_when_their_queue_keeps_them_no_longer",
    ),
    schema(
        "retry-running", "a running task can be put back by a retry",
        sql("retry", "not in ('failed', 'cancelled')", "not in ('failed', 'cancelled', 'running')"),
        "test_retry.py::test_nothing_else_can_be_retried",
    ),
    # Whatever comes back to the queue goes to cancelled if that was asked.
    schema(
        "fail-forgets-cancel", "a failed attempt is tried again though its task was asked to stop",
        sql("fail", ASKED, "false"),
        "test_fail.py::test_a_task_that_was_asked_to_stop_is_cancelled_and_keeps_its_error",
    ),
    schema(
        "give-back-forgets-cancel", "a task given back is tried again though it was asked to stop",
        sql("return_task", ASKED, "false"),
        "test_return_task.py::test_a_task_that_was_asked_to_stop_is_cancelled_instead",
    ),
    schema(
        "adopt-forgets-cancel", "an adopted task is tried again though it was asked to stop",
        sql("adopt", ASKED, "false"),
        "test_adopt.py::test_a_task_that_was_asked_to_stop_is_cancelled",
    ),
    # Commits and submissions.
    schema(
        "claim-not-durable", "a claim may be committed without being on disk",
        sql("finish_and_claim", "'synchronous_commit', 'on'", "'synchronous_commit', 'off'"),
        "test_claim.py::test_a_claim_commits_for_good_however_the_server_is_set",
    ),
    schema(
        "finish-not-durable", "an end may be committed without being on disk",
        sql("finish", "'synchronous_commit', 'on'", "'synchronous_commit', 'off'"),
        "test_finish.py::test_a_finish_commits_for_good_however_the_server_is_set",
    ),
    schema(
        "key-not-unique", "two submissions under one idempotency key are two tasks",
        sql("", "create unique index task_idempotency", "create index task_idempotency"),
        "test_tables.py::test_an_idempotency_key_is_unique_in_its_scope",
        "test_submit.py::test_the_same_request_under_a_key_is_the_same_task",
    ),
    schema(
        "keys-unordered", "two batches with the same keys may wait for each other",
        sql("submit_batch", "order by v_places[o.i]", "order by o.i"),
        "test_races.py::test_two_batches_with_the_same_keys_in_opposite_order_do_not_deadlock",
    ),
    schema(
        "dedupe-keys-unordered", "two batches with the same dedupe keys may wait for each other",
        sql("submit_batch", " or e ? 'dedupe_key'", ""),
        "test_races.py::test_two_batches_with_the_same_keys_in_opposite_order_do_not_deadlock",
    ),
    schema(
        "any-request-under-a-key", "another request under a used key is answered with the first one's task",
        sql("submit_batch", "when same_key.request_digest = lockgate.digest(e)", "when same_key.id is not null"),
        "test_submit.py::test_another_request_under_a_used_key_is_refused",
    ),
    # Counting.
    schema(
        "end-gone-with-its-task", "a task that is deleted before its end is counted takes that with it",
        sql("keep_uncounted_ends", "lockgate.is_uncounted(g.queue, g.finish_time, g.id)", "false"),
        "test_counting.py::test_an_end_counts_also_when_its_task_is_retried_or_gone",
    ),
    schema(
        "end-gone-by-a-retry", "a task that is retried before its end is counted has never ended",
        sql("keep_uncounted", "lockgate.is_uncounted(p_ended.queue, p_ended.finish_time, p_ended.id)", "false"),
        "test_counting.py::test_an_end_counts_also_when_its_task_is_retried_or_gone",
    ),
    schema(
        "end-counted-twice", "an end that was put aside counts though it was counted",
        sql("ends_after", "(r.finish_time, r.id) > (p_finish_time, p_id)", "true"),
        "test_counting.py::test_an_end_that_is_counted_while_its_task_is_retried_counts_once",
    ),
    # Many at a time.
    schema(
        "batch-in-parts", "of a batch with an item that is refused the others are stored",
        sql("submit_all", "if found then\n    raise", "if false then\n    raise"),
        "test_submit_all.py::test_one_that_is_refused_is_named_and_nothing_is_stored",
    ),
    schema(
        "delete-many-running", "a running task can be deleted with many others",
        sql("delete_tasks", "t.status <> 'running'", "true"),
        "test_change.py::test_each_does_what_it_can_to_each_status",
    ),
    schema(
        "cancel-another-status", "tasks are cancelled that have changed since they were looked for",
        sql("cancel_tasks", "p_statuses is null or t.status = any (p_statuses)", "true"),
        "test_change.py::test_another_status_or_queue_than_meant_is_left_alone",
    ),
    schema(
        "delete-another-queue", "tasks of any queue are deleted for who may touch but one",
        sql("delete_tasks", "p_queue is null or t.queue = p_queue", "true"),
        "test_change.py::test_another_status_or_queue_than_meant_is_left_alone",
    ),
    schema(
        "change-running", "a task that does not wait can be changed",
        sql("change_task", "v_row.status not in ('scheduled', 'queued')", "false"),
        "test_change.py::test_only_a_task_that_waits_is_changed",
    ),
]  # fmt: skip
