"""Guards of the service and of the supervisor, each weakened."""

from tests.mutants.mutant import Edit, Mutant, sql


def mutant(name: str, weakens: str, edits: Edit | tuple[Edit, ...], *caught_by: str) -> Mutant:
    all_edits = edits if isinstance(edits, tuple) else (edits,)
    return Mutant(name, weakens, all_edits, tuple(f"tests/{each}" for each in caught_by))


def py(file: str, within: str, text: str, instead: str) -> Edit:
    room, _, rest = file.partition("/")
    package = f"{room}/lockgate_{room}" if room in ("service", "runner") else room
    return Edit(f"{package}/{rest}.py", within, text, instead)


MUTANTS = [
    mutant(
        "answered-early", "a submission is answered before it is committed",
        py(
            "service/tasks/group_commit", "GroupCommit.submit",
            "return await waiting.done", 'return Submitted(1, "created", None)',
        ),
        "service/test_group_commit.py::test_while_two_statements_are_under_way_the_rest_is_gathered",
    ),
    mutant(
        "sent-twice", "the service sends an insert again when it did not hear what became of it",
        py("service/tasks/db", "submit", "repeatable=False", "repeatable=True"),
        "service/test_lost_answers.py::test_the_service_does_not_send_a_submission_twice_by_itself",
    ),
    mutant(
        "replay-unwaited", "a task found under its key is said to be stored before a synchronous standby has it",
        sql("submit_batch", "if v_outcomes && '{replayed, deduplicated}' then", "if false then"),
        "faults/failover/test_waiting.py::test_the_service_says_503_until_the_standby_has_the_task",
    ),
    mutant(
        "stored-but-refused", "a task that is stored and cannot be read back is answered with an error",
        py("service/tasks/group_commit", "GroupCommit._store", "tasks = {}", "raise"),
        "service/test_lost_answers.py::test_what_is_stored_is_confirmed_though_it_cannot_be_read_back",
    ),
    mutant(
        "waits-for-ever", "a request waits for its statement for as long as that takes",
        py("service/pool", "Pool.rows", "asyncio.timeout(limit)", "asyncio.timeout(None)"),
        "service/test_outage.py::test_when_all_connections_wait_for_locks_everybody_is_told_in_time"
        "_and_nothing_goes_on_waiting",
    ),
    mutant(
        "given-up-goes-on", "a statement goes on after its request was told that it could not be done",
        py("service/pool", "Pool.rows", "self._give_up(call)", "pass"),
        "service/test_outage.py::test_when_all_connections_wait_for_locks_everybody_is_told_in_time"
        "_and_nothing_goes_on_waiting",
    ),
    mutant(
        "cancelled-once", "a cancellation that comes before its statement is not made again",
        py("service/pool", "Pool._insist", "await connection.cancel_safe(timeout=CANCEL_LIMIT)", "pass"),
        "service/test_pool.py::test_a_statement_that_comes_after_its_own_cancellation_is_cancelled_again",
    ),
    mutant(
        "cancels-others", "a connection on which a cancellation may still be under way is used again",
        py("service/pool", "Pool._call", "if connection in self._doomed:", "if False:"),
        "service/test_pool.py::test_a_statement_that_comes_after_its_own_cancellation_is_cancelled_again",
    ),
    mutant(
        "dead-connections", "after a restart of the database, each dead connection costs a request",
        py("service/pool", "Pool._call", "not left or ", "True or "),
        "service/test_outage.py::test_the_first_request_after_a_restart_of_the_database_works",
    ),
    mutant(
        "growing-pauses", "a database that was away for long is looked for less and less often",
        py("service/pool", "", "RECONNECT_LIMIT = 2.0", "RECONNECT_LIMIT = 600.0"),
        "service/test_outage.py::test_after_a_long_outage_the_database_is_found_as_soon_as_after_a_short_one",
    ),
    mutant(
        "unbounded-wait", "any number of submissions may wait in memory",
        py("service/tasks/group_commit", "GroupCommit.submit", "len(self._waiting) >= WAITING_MAX", "False"),
        "service/test_group_commit.py::test_more_than_can_wait_is_refused_at_once_and_the_rest_is_stored[items]",
    ),
    mutant(
        "one-spoils-all", "what cannot be stored takes all with it that were gathered with it",
        py("service/tasks/group_commit", "bisect", "len(batch) > 1 and is_about_content(error)", "False"),
        "service/test_group_commit.py::test_what_cannot_be_stored_hurts_nobody_else",
    ),
    mutant(
        "acknowledged-early", "messages are acknowledged before their tasks are committed",
        py(
            "service/amqp/intake", "Intake._take", "if not await self._store(good, bad):",
            "await acknowledgements.batch([message.tag for message in batch])\n"
            "        if not await self._store(good, bad):",
        ),
        "amqp/test_intake.py::test_nothing_is_acknowledged_before_it_is_committed",
    ),
    mutant(
        "invalid-unconfirmed", "a bad message is acknowledged though the invalid queue does not have it",
        py("service/amqp/dead_letters", "DeadLetters._move", "await asyncio.sleep(pauses.next())", "break"),
        "amqp/test_intake.py::test_a_bad_message_stays_until_the_invalid_queue_has_it",
    ),
    mutant(
        "bad-acknowledged-too", "a batch is acknowledged as a whole while bad messages of it are on their way",
        py("service/amqp/deliveries", "Acknowledgements.batch", "if not self._held:", "if True:"),
        "amqp/test_intake.py::test_a_bad_message_stays_until_the_invalid_queue_has_it",
    ),
    mutant(
        "limited-deliveries", "the broker drops a message after some deliveries",
        py("service/amqp/broker", "", ', "x-delivery-limit": -1}', ', "x-delivery-limit": 3}'),
        "amqp/test_intake.py::test_a_message_is_delivered_as_often_as_it_takes",
    ),
    mutant(
        "unreadable-for-ever", "a property that our client cannot read ends the connection, again and again",
        py("service/amqp/broker", "connect", "decode_leniently()", "pass"),
        "amqp/test_intake.py::test_properties_that_our_client_cannot_read_are_refused_like_others",
    ),
    mutant(
        "forgotten-early", "an end is forgotten before the broker has confirmed it",
        py(
            "service/amqp/publisher", "Publisher._publish", "done = await asyncio.gather(",
            "await outbox_ack(session, [one.id for one in outcomes])\n        done = await asyncio.gather(",
        ),
        "amqp/test_publish.py::test_a_publisher_that_is_killed_before_the_broker_confirms_has_forgotten_nothing",
    ),
    mutant(
        "two-ends-at-once", "the later end of a task may be heard before the earlier",
        sql("outbox_next", "f.nth = 1", "true"),
        "schema/test_outcomes.py::test_the_ends_of_a_task_come_one_after_the_other",
    ),
    mutant(
        "everybody-publishes", "a session publishes ends though another does",
        sql("outbox_next", "if not lockgate.holds_slot(0, -2) then", "if false then"),
        "schema/test_outcomes.py::test_one_session_publishes_and_when_it_is_gone_another",
    ),
    mutant(
        "envelope-in-the-digest", "a message that comes again with another header is another request",
        sql("digest", "envelope,", ""),
        "schema/test_submit.py::test_the_envelope_of_a_request_is_kept_and_is_no_part_of_it",
    ),
    mutant(
        "scope-in-the-digest", "who names the scope of a key in the request itself has made another request",
        sql("digest", ",idempotency_scope", ""),
        "service/test_access.py::test_many_tasks_go_to_the_queue_of_the_key_or_nowhere",
    ),
    mutant(
        "dropped-aloud", "a Ctrl-C that Python drops is told of with a traceback",
        py("lockgate/signals", "Signals.__enter__", "sys.unraisablehook = self._drop", "pass"),
        "lockgate/test_signals.py",
    ),
    mutant(
        "silent-end", "a request that is cut off by the service's end gets no answer",
        py("service/http/middleware", "surrounded", "if status is None:", "if False:"),
        "service/test_stopping.py::test_a_body_that_stops_coming_is_refused_like_the_rest",
    ),
    mutant(
        "any-schema", "the service works on a schema that is too old for it",
        py("service/health", "Health.ready", "version >= SCHEMA_VERSION", "True"),
        "service/test_outage.py::test_with_too_old_a_schema_every_request_says_what_to_do_until_it_is_done",
    ),
    mutant(
        "unproved-inheritance", "a successor inherits from a runner of which something may still execute",
        py("lockgate/local/supervisor", "Supervisor.tend", "proven = runner.is_gone", "proven = True"),
        "lockgate/test_proof.py",
    ),
    mutant(
        "executor-without-lifeline", "an executor, and what it forks, do not hold the proof open",
        (
            py("runner/executor/process", "Executor.start", "[lifeline] if lifeline >= 0 else []", ""),
            py("runner/executor/child", "main", 'int(os.environ.get("LOCKGATE_LIFELINE", "-1"))', "-1"),
        ),
        "lockgate/test_proof.py::test_a_task_is_not_inherited_while_a_process_that_a_handler_forked_may_still_execute",
    ),
    mutant(
        "any-secret", "whoever knows the id of a key has the key",
        py("service/auth/keys", "Keys.caller", "if known is None or not hmac.compare_digest(known.digest, key.digest):",
           "if known is None:"),
        "service/test_access.py::test_the_secret_counts_and_not_only_the_id",
    ),
    mutant(
        "any-scope", "every key is good for everything",
        py("service/auth/guard", "Guard.__call__", "if not caller.may(scope):", "if False:"),
        "service/test_access.py::test_every_operation_refuses_who_has_no_key_or_too_small_a_scope",
    ),
    mutant(
        "any-page", "whatever page a browser shows acts with the key of who is signed in",
        py(
            "service/auth/guard", "Guard.__call__",
            "refuse_from_elsewhere(headers, sure=caller.key is not None)", "pass",
        ),
        "service/test_sign_in.py::test_a_browser_acts_for_no_page_of_another_origin",
    ),
    mutant(
        "unsure-page", "with a cookie, a request is taken that does not say for which page it is",
        py("service/auth/guard", "Guard.__call__", "sure=caller.key is not None", "sure=False"),
        "service/test_sign_in.py::test_a_browser_acts_for_no_page_of_another_origin",
    ),
    mutant(
        "key-for-ever", "a key that was once seen is good until the service is started again",
        py("service/auth/keys", "Keys.caller", "self._read(now - KEEP_SECONDS)", "self._read(0)"),
        "service/test_access.py::test_a_key_is_good_at_once_and_a_revoked_one_for_two_seconds",
    ),
    mutant(
        "stream-for-ever", "a stream goes on though its key was revoked",
        py("service/tasks/waiting", "_events", "await recheck()", "pass"),
        "service/test_access.py::test_a_stream_ends_soon_after_its_key_is_revoked",
    ),
    mutant(
        "open-again", "once the last key is revoked, everybody is let in",
        sql("has_keys", "select exists (select from lockgate.api_key)",
            "select exists (select from lockgate.api_key where revoke_time is null)"),
        "service/test_access.py::test_on_loopback_nobody_is_asked_until_there_is_a_key",
    ),
    mutant(
        "any-queue", "a key for one queue touches the tasks of others",
        py("service/auth/guard", "Guard._keep_to_its_queue", "if queue != caller.queue:", "if queue is None:"),
        "service/test_access.py::test_a_key_of_one_queue_touches_nothing_of_others",
    ),
    mutant(
        "no-depth", "a full queue takes more",
        sql("submit_batch", " and o.i <> all (v_over)", ""),
        "schema/test_depth.py::test_a_full_queue_takes_no_more_and_says_so",
    ),
    mutant(
        "reaper-without-lifeline", "what a handler has started may live on though the proof says that all is dead",
        py("runner/executor/process", "", "pass_fds=[lifeline] if lifeline >= 0 else []", "pass_fds=[]"),
        "lockgate/test_proof.py::test_a_task_is_not_inherited_while_what_its_handler_has_started_may_still_execute",
    ),
    mutant(
        "cursor-of-any-list", "a cursor is good for a list with other filters",
        py("service/tasks/lists", "place_of", "digest != _digest(only)", "False"),
        "service/test_list.py::test_a_cursor_belongs_to_its_filters",
    ),
    mutant(
        "window-left-out", "a page that ends with its time leads past what it has not looked at",
        sql("list_tasks", "coalesce(v_found[v_limit], v_floor)", "coalesce(v_found[v_limit], 0)"),
        "service/test_list.py::test_all_pages_together_are_all_that_was_asked_for",
    ),
    mutant(
        "wait-for-any-change", "a wait is over when the task has changed",
        py("service/tasks/waiting", "Waiters.end", "and version.has_ended", ""),
        "service/test_waiting.py::test_a_retry_does_not_end_the_wait",
    ),
    mutant(
        "gone-unasked", "who begins to wait while a look is under way is told that the task is gone",
        py("service/tasks/waiting", "Waiters._tell", "waiter.since < self._poll and ", ""),
        "service/test_waiting.py::test_who_begins_to_wait_while_others_are_looked_for_is_told_by_the_next_look",
    ),
    mutant(
        "stream-read-ahead", "a stream is read on while what has come is being stored",
        py("service/tasks/batch", "LineStore.take", ">= ITEMS_MAX or self._size >= BYTES_MAX", "< 0"),
        "service/test_stream.py::test_a_long_stream_takes_no_more_memory_than_a_short_one_and_waits_for_the_database",
    ),
    mutant(
        "stream-takes-too-much", "a stream says it took the line at which it stopped",
        py("service/tasks/batch", "LineStore.flush", "numbers[one.index] - 1", "numbers[one.index]"),
        "service/test_stream.py::test_it_stops_at_a_bad_line_and_all_before_it_is_stored",
    ),
]  # fmt: skip
