"""Guards of the runner and its executors, each weakened."""

from tests.mutants.mutant import Edit, Mutant


def runner(name: str, weakens: str, edits: Edit | tuple[Edit, ...], *caught_by: str) -> Mutant:
    all_edits = edits if isinstance(edits, tuple) else (edits,)
    return Mutant(name, weakens, all_edits, tuple(f"tests/runner/{each}" for each in caught_by))


def py(file: str, within: str, text: str, instead: str) -> Edit:
    return Edit(f"runner/lockgate_runner/{file}.py", within, text, instead)


MUTANTS = [
    # The owner's side: an executor does not live longer than it is proved that the slot is ours.
    runner(
        "no-kernel-timer", "the deadline's timer in the executor is never armed",
        py("executor/watchdog", "KernelTimer.arm", "_TimeSpec(int(seconds), int(fraction * 1e9))", "_TimeSpec(0, 0)"),
        "test_promise.py::test_the_executor_of_a_frozen_runner_is_dead_before_its_slot_is_used_again",
    ),
    runner(
        "timer-only-renewed", "the timer is armed by the first renewal and not before the handler starts",
        py("executor/child", "Child._begin", "self._timer.arm(order.until)\n            ", ""),
        "test_outcomes.py::test_a_handler_that_keeps_the_interpreter_for_longer_than_the_grace_is_killed",
    ),
    runner(
        "late-renewal", "what renews one lease renews the next too",
        py(
            "executor/child", "Child._listen",
            " if self._current and self._current.lease == message.lease else None", "",
        ),
        "test_executor.py::test_what_was_said_about_the_last_order_does_not_reach_the_next",
    ),
    runner(
        "early-interrupt-forgotten", "an executor forgets an interrupt that came before its order",
        py("executor/child", "Child._begin", "self._interrupted == order.lease", "False"),
        "test_executor.py::test_a_handler_does_not_start_when_it_was_asked_to_stop_before",
    ),
    runner(
        "no-margin", "an executor may live until the very end of the grace",
        py("executor/watchdog", "margin", "max(0.5, grace / 10)", "0.0"),
        "test_deadline.py::test_an_executor_is_dead_some_time_before_the_grace_is_over",
    ),
    runner(
        "dispatch-unchecked", "a task whose claim was answered long ago is given to an executor without another look",
        py("slots", "Slots.start", "<= watchdog.now()", "<= 0"),
        "test_deadline.py::test_a_claim_whose_answer_is_read_late_begins_with_a_fresh_look_at_the_clock",
    ),
    runner(
        "dated-by-answer", "an answer proves the session alive at its receipt, not at the sending of its question",
        py("session", "Session.fetch", "self.sent = max(self.sent, sent)\n        return rows",
           "self.sent = watchdog.now()\n        return rows"),
        "test_session.py::test_an_answer_proves_that_the_session_lived_when_it_was_asked_and_not_later",
    ),
    runner(
        "extended-in-doubt", "answers on a session that does not hold the slot extend the executor's deadline",
        py("slots", "Slots.extend", "slot.confirmed is not None and session.sent >= slot.confirmed", "True"),
        "test_lost_session.py::test_answers_on_a_session_without_the_slot_do_not_extend_the_deadline",
    ),
    runner(
        "standbys-look-alone", "each runner that stands by looks as often as if it were the only one",
        py("slots", "Slots.standby_pace", "standing_by / STANDBY_POLLS", "1.0"),
        "test_poll.py::test_runners_that_stand_by_share_the_looks_and_are_there_when_they_are_told",
    ),
    runner(
        "silent-forgotten", "nobody comes back for a silent holder when its wait is over",
        py("adoption", "Sightings.judge", " or (row.silence or 0.0) > row.grace / 2", ""),
        "test_adoption.py::test_when_the_wait_for_a_silent_holder_is_over_it_is_looked_at_again",
    ),
    runner(
        "standby-unnoticed", "a ping does not ask whether the server is still the primary",
        py("session", "Session.ping", "if in_recovery:", "if False:"),
        "test_session.py::test_every_ping_asks_whether_the_server_is_still_the_primary",
        "test_session.py::test_a_standby_grants_locks_too_and_is_not_worked_on",
    ),
    runner(
        "pooler-unnoticed", "a ping does not ask whether the backend is still the same",
        py("session", "Session.ping", "if pid != self.pid:", "if False:"),
        "test_session.py::test_every_ping_asks_whether_the_backend_is_still_the_same",
    ),
    runner(
        "settings-unread", "what the server makes of the session's settings is not read back",
        py("session", "Session.fit", "if not same:", "if False:"),
        "test_session.py::test_a_setting_that_cannot_be_had_is_refused",
    ),
    runner(
        "patient-session", "a statement without an answer is waited for for ever",
        py("session", "Session.fetch", "call_later(self.limit,", "call_later(3600,"),
        "test_session.py::test_a_silent_server_is_given_up_while_there_is_time_to_come_back",
    ),
    runner(
        "statement-cancelled", "a statement that does not answer in time is cancelled",
        py("session", "Session.fetch", "self.limit, self.hang_up)",
           "self.limit, self._connection.cancel)"),
        "test_session.py::test_a_statement_that_is_given_up_is_not_cancelled_and_takes_effect",
    ),
    # The owner's side: a lost session.
    runner(
        "starts-in-new-slots", "after a reconnect, tasks start at once in slots newly taken",
        py("slots", "Slots._take", "self.start_after if self.start_after > watchdog.now() else 0.0", "0.0"),
        "test_lost_session.py::test_nothing_new_starts_within_the_grace_after_a_reconnect",
    ),
    runner(
        "starts-in-old-slots", "after a reconnect, tasks start at once in slots taken again",
        py("slots", "Slots._reconfirm", "else:\n            slot.claim_from = self.start_after",
           "else:\n            pass"),
        "test_lost_session.py::test_nothing_new_starts_within_the_grace_after_a_reconnect",
    ),
    runner(
        "ghost-spared", "what the server still keeps of a lost session is not ended",
        py("runner", "Runner._connect", "in self._ghosts:", "in self._ghosts[:0]:"),
        "test_lost_session.py::test_a_runner_ends_what_is_left_of_its_own_session_and_keeps_its_task",
    ),
    runner(
        "adopted-executes-on", "an executor goes on though its task was found to be adopted",
        py("slots", "Slots._reconfirm", "slot.executor.kill()", "pass"),
        "test_lost_session.py::test_a_runner_whose_task_was_adopted_meanwhile_kills_its_executor",
    ),
    runner(
        "unanswered-claim-lost", "a task that a lost answer has put into the slot is never started",
        py("slots", "Slots._reconfirm", "elif row:", "elif False:"),
        "test_lost_answers.py::test_a_task_whose_claim_was_never_answered_starts_after_the_reconnect",
        "test_lost_answers.py::test_after_an_unanswered_finish_and_claim_the_end_stands_and_the_next_task_starts",
    ),
    runner(
        "result-dropped", "a result that the database could not write just now is forgotten",
        py("outcomes", "Outcomes._refused", "outcome.refusals += 1", "slot.clear()"),
        "test_refused_writes.py::test_a_result_that_cannot_be_written_is_kept_and_nothing_new_begins",
    ),
    runner(
        "claims-unwritable", "tasks are claimed from a database that cannot write down the end of another",
        py("slots", "Slots.may_claim", "other.outcome and other.outcome.refusals", "False"),
        "test_refused_writes.py::test_a_result_that_cannot_be_written_is_kept_and_nothing_new_begins",
    ),
    runner(
        "unfit-result-refused", "a result that cannot be stored is tried again and again",
        py("outcomes", "Outcomes._refused",
           'sqlstate[:2] in ("22", "23") or isinstance(error, psycopg.DataError)', "False"),
        "test_outcomes.py::test_a_result_that_cannot_be_stored_fails_the_attempt_and_says_so",
    ),
    runner(
        "unstartable-task-kept", "a task that was claimed for an executor that is dead stays where nobody executes it",
        py("slots", "Slots.start", "await db.return_task(session, task, self._name)", "pass"),
        "test_deadline.py::test_a_task_that_was_claimed_for_an_executor_that_is_dead_by_now_is_given_back",
    ),
    runner(
        "lost-lease-retried", "a runner insists on an outcome whose lease is lost",
        py("outcomes", "Outcomes._refused", 'sqlstate == "LG002"', "False"),
        "test_promise.py::test_the_executor_of_a_frozen_runner_is_dead_before_its_slot_is_used_again",
    ),
    runner(
        "pings-too-rarely", "the session is asked less often than the deadline allows",
        py("slots", "Slots.ping_every", "/ 10", "* 10"),
        "test_poll.py::test_between_looks_that_are_far_apart_pings_keep_the_deadline_ahead",
    ),
    # The adopter's side.
    runner(
        "no-grace", "an adopter does not wait",
        py("adoption", "Sightings.judge", "0.0 if heir else row.grace", "0.0"),
        "test_adoption.py::test_a_free_lock_is_waited_out_for_the_grace_from_its_first_sight",
    ),
    runner(
        "no-mark", "an adopter's wait goes on though the row's session has changed",
        py("adoption", "Sightings.judge", "row.lease, row.session)", "row.lease)"),
        "test_adoption.py::test_a_new_lease_session_or_owner_begins_the_wait_anew",
    ),
    runner(
        "no-lease", "an adopter's wait goes on though the row's lease has changed",
        py("adoption", "Sightings.judge", "row.lease, row.session)", "row.session)"),
        "test_adoption.py::test_a_new_lease_session_or_owner_begins_the_wait_anew",
    ),
    runner(
        "old-sightings", "an adopter's wait goes on though the slot was held in between",
        py("adoption", "Sightings.judge", "self._first = seen", "self._first |= seen"),
        "test_adoption.py::test_a_new_lease_session_or_owner_begins_the_wait_anew",
    ),
    runner(
        "waits-from-asking", "an adopter's wait begins when it asked, and not when it saw",
        py("runner", "Runner._poll", "rows = await db.slot_activity(session)\n        received = watchdog.now()",
           "received = watchdog.now()\n        rows = await db.slot_activity(session)"),
        "test_poll.py::test_an_adopter_waits_from_when_it_received_the_first_sight_and_not_from_when_it_asked",
    ),
    runner(
        "own-slots-adopted", "a runner that is about to take its slots back adopts from itself",
        py("adoption", "Sightings.judge", " or (row.pid is None and (row.queue, row.slot) in slots)", ""),
        "test_adoption.py::test_what_is_ours_or_of_another_login_is_left_alone",
    ),
    runner(
        "full-do-not-look", "a runner without room does not look after the slots of others",
        py("runner", "Runner._poll", "look_after(session, rows,",
           "look_after(session, rows if slots.has_room else [],"),
        "test_promise.py::test_a_runner_without_room_puts_the_task_of_a_killed_one_back_for_others",
    ),
    runner(
        "adopter-keeps-slot", "an adopter does not let the slot go again",
        py("adoption", "Adoption._adopt", "await db.release_slot(session, orphan.queue, orphan.slot)", "pass"),
        "test_promise.py::test_a_runner_without_room_puts_the_task_of_a_killed_one_back_for_others",
    ),
    runner(
        "silent-spared", "a session that says nothing any more keeps its slot for ever",
        py("adoption", "Adoption.look_after", "in verdict.silent:", "in verdict.silent[:0]:"),
        "test_promise.py::test_the_executor_of_a_frozen_runner_is_dead_before_its_slot_is_used_again",
    ),
    runner(
        "silent-at-once", "a session is ended as silent after the grace, within which its runner may come to itself",
        py("adoption", "Sightings.judge", "2 * row.grace", "row.grace"),
        "test_adoption.py::test_a_holder_is_silent_after_twice_the_grace_without_a_statement",
    ),
    runner(
        "no-poll", "a runner looks only when it is told",
        py("runner", "Runner._poll", "self._settings.poll * random.uniform(0.9, 1.1)", "3600"),
        "test_poll.py::test_a_task_that_nobody_was_told_of_is_found",
        "test_poll.py::test_a_cancel_that_nobody_was_told_of_is_found",
    ),
    # Executors: dead is dead.
    runner(
        "only-the-executor", "what a handler has started is not killed with its executor",
        (
            py("executor/process", "Executor.kill", "os.killpg(", "os.kill("),
            py("executor/process", "Executor._await_death", "os.killpg(self.pid, signal.SIGKILL)", "pass"),
        ),
        "test_outcomes.py::test_what_a_handler_has_started_is_dead_before_its_end_is_recorded",
    ),
    runner(
        "dead-executor-unswept", "what an executor has forked goes on when the executor dies by itself",
        py("executor/process", "Executor._await_death", "os.killpg(self.pid, signal.SIGKILL)", "pass"),
        "test_outcomes.py::test_what_a_dead_executor_has_forked_dies_though_it_holds_all_that_the_executor_held",
    ),
    runner(
        "no-reaper", "nobody ends what an executor has started when the runner is frozen or dead",
        py("executor/process", "Executor.start", "keep(executor.pid)", "pass"),
        "test_promise.py::test_a_program_that_a_handler_has_started_ends_with_it_when_the_runner_is",
    ),
    runner(
        "no-death-signal", "the kernel does not tell an executor of its runner's end",
        py("executor/watchdog", "die_with_parent", "if LINUX and ", "if False and "),
        "test_stopping.py::test_an_executor_that_hears_nothing_ends_with_a_killed_runner_all_the_same",
    ),
    runner(
        "asked-only", "a handler that does not stop when it is asked is not killed",
        py("slots", "Slots.stop_overdue", "executor.kill()", "pass"),
        "test_outcomes.py::test_a_cancelled_handler_is_asked_and_then_killed",
        "test_outcomes.py::test_a_forced_cancel_kills_at_once",
    ),
    # Stopping.
    runner(
        "claims-while-stopping", "a runner that was told to stop takes another task",
        py("slots", "Slots.may_claim", "not self.stop_claiming", "True"),
        "test_stopping.py::test_a_stopping_runner_finishes_what_it_runs_and_takes_nothing_new",
    ),
    runner(
        "claims-while-draining", "a runner that drains takes another task",
        py("slots", "Slots.may_claim", "not self.draining", "True"),
        "test_drain.py::test_it_finishes_what_it_has_and_a_standby_takes_over_until_it_is_resumed",
    ),
    runner(
        "no-shutdown-timeout", "what runs when a runner is told to stop may run for ever",
        py("slots", "Slots.stop_overdue", "now >= self.stop_working_at", "False"),
        "test_stopping.py::test_a_task_over_the_shutdown_timeout_is_given_back_uncounted",
    ),
    runner(
        "stopped-is-failed", "a task that a stopping runner gives up has failed",
        py("outcomes", "Outcomes._record", 'elif slot.reason == "stop":', "elif False:"),
        "test_stopping.py::test_a_task_over_the_shutdown_timeout_is_given_back_uncounted",
    ),
]  # fmt: skip
