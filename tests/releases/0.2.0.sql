-- A database of release 0.2.0, with tasks in every status, as pg_dump told it.
set check_function_bodies = off;
CREATE SCHEMA lockgate;
COMMENT ON SCHEMA lockgate IS 'A task queue with a hard limit on what runs at once. Start at lockgate.task.';
CREATE TYPE lockgate.attempt_outcome AS ENUM (
    'failed',
    'adopted',
    'returned'
);
COMMENT ON TYPE lockgate.attempt_outcome IS 'How an attempt ended without ending its task: failed = will be retried; adopted = its runner was gone; returned = given back by a stopping runner, not counted.';
CREATE TYPE lockgate.cancel_mode AS ENUM (
    'ask',
    'force'
);
COMMENT ON TYPE lockgate.cancel_mode IS 'ask: the handler is asked to stop, then killed; force: it is killed at once.';
CREATE TYPE lockgate.claimed AS (
	task bigint,
	lease bigint,
	queue text,
	kind text,
	payload jsonb,
	attempt integer,
	max_attempts integer,
	timeout double precision,
	grace double precision,
	cancel_requested lockgate.cancel_mode
);
COMMENT ON TYPE lockgate.claimed IS 'A task as handed to the runner that claimed it.';
CREATE TYPE lockgate.status AS ENUM (
    'scheduled',
    'queued',
    'running',
    'succeeded',
    'failed',
    'cancelled'
);
COMMENT ON TYPE lockgate.status IS 'Where a task is in its life.';
CREATE TYPE lockgate.submit_outcome AS ENUM (
    'created',
    'replayed',
    'deduplicated',
    'key_reused',
    'unknown_queue',
    'kind_refused'
);
COMMENT ON TYPE lockgate.submit_outcome IS 'What became of one submitted task. created; replayed = same idempotency key, same request: the first task; deduplicated = an unfinished task has this dedupe key; the others were refused and stored nothing.';
CREATE FUNCTION lockgate.adopt(p_queue integer, p_slot integer, p_task bigint, p_lease bigint, p_session integer) RETURNS lockgate.status
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
declare
  v_row lockgate.task;
  v_queue lockgate.queue;
  v_error jsonb;
  v_again boolean;
begin
  if not lockgate.holds_slot(p_queue, p_slot) then
    raise exception 'slot % of queue % is not held', p_slot, p_queue using errcode = 'LG004',
      hint = 'take the slot first, on this connection';
  end if;
  select * into strict v_queue from lockgate.queue where id = p_queue;
  select * into v_row from lockgate.task
    where id = p_task and lease = p_lease and session = p_session and slot = p_slot and queue = v_queue.name
      and status = 'running'
    for update;
  if not found then
    return null;
  end if;
  v_error := jsonb_build_object('type', 'RunnerDied', 'message', format(
    'attempt %s of %s: its runner %s died or was cut off', v_row.attempt, v_row.max_attempts, v_row.runner));
  if v_row.cancel_requested is not null then
    return lockgate.end_task(v_row, 'cancelled', v_error, null, true);
  end if;
  if v_row.attempt >= v_row.max_attempts then
    return lockgate.end_task(v_row, 'failed', v_error, null, true);
  end if;
  -- The first death may be bad luck; a second in a row backs off, or a poison task would fell one runner after another.
  select outcome = 'adopted' into v_again from lockgate.attempt where task = p_task order by lease desc limit 1;
  return lockgate.put_back(
    v_row, 'adopted', case when v_again then lockgate.backoff(v_queue, v_row.attempt) else 0 end, v_error, null);
end
$$;
COMMENT ON FUNCTION lockgate.adopt(p_queue integer, p_slot integer, p_task bigint, p_lease bigint, p_session integer) IS 'running -> queued for a task whose runner is gone, the attempt counted; failed when that was its last, cancelled when that was asked. The status now, or null if the row is no longer as it was seen.';
CREATE TABLE lockgate.queue (
    id integer NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    slots integer DEFAULT 2 NOT NULL,
    paused boolean DEFAULT false NOT NULL,
    grace double precision DEFAULT 5 NOT NULL,
    max_attempts integer DEFAULT 3 NOT NULL,
    timeout double precision,
    backoff_base double precision DEFAULT 1 NOT NULL,
    backoff_max double precision DEFAULT 300 NOT NULL,
    retention double precision DEFAULT 604800,
    kinds text[],
    create_time timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT a_queue_name_is_short_and_plain CHECK ((name ~ '^[a-z0-9][a-z0-9_.-]{0,62}$'::text)),
    CONSTRAINT backoff_is_0_to_30_days CHECK ((((backoff_base >= (0)::double precision) AND (backoff_base <= (2592000)::double precision)) AND ((backoff_max >= (0)::double precision) AND (backoff_max <= (2592000)::double precision)))),
    CONSTRAINT grace_is_1_to_3600_seconds CHECK (((grace >= (1)::double precision) AND (grace <= (3600)::double precision))),
    CONSTRAINT max_attempts_are_1_to_1000 CHECK (((max_attempts >= 1) AND (max_attempts <= 1000))),
    CONSTRAINT retention_is_not_negative CHECK (((retention >= (0)::double precision) AND (retention <= (315360000)::double precision))),
    CONSTRAINT slots_are_0_to_1000 CHECK (((slots >= 0) AND (slots <= 1000))),
    CONSTRAINT timeout_is_positive_and_at_most_30_days CHECK (((timeout > (0)::double precision) AND (timeout <= (2592000)::double precision)))
);
COMMENT ON TABLE lockgate.queue IS 'A queue is a pool of slots. Never renamed, ids never reused: both name its advisory locks.';
COMMENT ON COLUMN lockgate.queue.slots IS 'How many of its tasks may execute at once. Lowered, those above it end first.';
COMMENT ON COLUMN lockgate.queue.grace IS 'Seconds an adopter waits after it first saw a running task''s slot lock free; copied to the task at claim.';
COMMENT ON COLUMN lockgate.queue.timeout IS 'Seconds one attempt may take, for tasks that name none; null = no limit.';
COMMENT ON COLUMN lockgate.queue.backoff_base IS 'Seconds before the first retry; doubles with each attempt, +-20 %.';
COMMENT ON COLUMN lockgate.queue.backoff_max IS 'Seconds no back-off exceeds, before the +-20 %.';
COMMENT ON COLUMN lockgate.queue.retention IS 'Seconds an ended task is kept; null = for ever.';
COMMENT ON COLUMN lockgate.queue.kinds IS 'The kinds that may be submitted here; null = any.';
CREATE FUNCTION lockgate.backoff(p_queue lockgate.queue, p_attempt integer) RETURNS double precision
    LANGUAGE sql
    AS $$
  select least(p_queue.backoff_max, p_queue.backoff_base * 2.0 ^ least(p_attempt - 1, 60)) * (0.8 + 0.4 * random())
$$;
COMMENT ON FUNCTION lockgate.backoff(p_queue lockgate.queue, p_attempt integer) IS 'Seconds before the attempt after this one: backoff_base, doubled per attempt, at most backoff_max, +-20 %.';
CREATE FUNCTION lockgate.cancel(task bigint, force boolean DEFAULT false) RETURNS lockgate.status
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
declare
  v_status lockgate.status;
begin
  select t.status into v_status from lockgate.task t where t.id = cancel.task for update;
  if not found then
    raise exception 'there is no task %', task using errcode = 'LG006';
  end if;
  if v_status in ('scheduled', 'queued') then
    update lockgate.task t set status = 'cancelled', finish_time = now() where t.id = cancel.task;
    return 'cancelled';
  end if;
  if v_status = 'running' then
    update lockgate.task t
    set cancel_requested = greatest(t.cancel_requested, case when force then 'force' else 'ask' end::lockgate.cancel_mode)
    where t.id = cancel.task;
    perform pg_notify('lockgate', 'cancel ' || task);
  end if;
  return v_status;
end
$$;
COMMENT ON FUNCTION lockgate.cancel(task bigint, force boolean) IS 'Cancels a waiting task at once; asks a running one to stop (force: kills it). The status now: running means asked.';
CREATE FUNCTION lockgate.change_queue(queue text, settings jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
declare
  v_unknown text;
begin
  select k into v_unknown from jsonb_object_keys(settings) k
    where k not in ('slots', 'paused', 'grace', 'max_attempts', 'timeout', 'backoff_base', 'backoff_max', 'retention',
                    'kinds')
    limit 1;
  if found then
    raise exception 'a queue has no setting "%"', v_unknown using errcode = '22023', column = v_unknown;
  end if;
  update lockgate.queue q
  set (slots, paused, grace, max_attempts, timeout, backoff_base, backoff_max, retention, kinds) = (
    select n.slots, n.paused, n.grace, n.max_attempts, n.timeout, n.backoff_base, n.backoff_max, n.retention, n.kinds
    from jsonb_populate_record(q, settings) n)
  where q.name = change_queue.queue;
  if not found then
    raise exception 'there is no queue "%"', queue using errcode = 'LG001';
  end if;
  perform pg_notify('lockgate', 'slots ' || queue);
end
$$;
COMMENT ON FUNCTION lockgate.change_queue(queue text, settings jsonb) IS 'Changes the given settings of a queue, such as {"slots": 4, "timeout": null}; takes effect while runners work. Slots lowered, running tasks above the new number end first.';
CREATE FUNCTION lockgate.claim(p_queue integer, p_slot integer, p_runner text, p_session integer) RETURNS SETOF lockgate.claimed
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
declare
  v_queue lockgate.queue;
begin
  if not lockgate.holds_slot(p_queue, p_slot) then
    raise exception 'session % does not hold slot % of queue %', p_session, p_slot, p_queue using errcode = 'LG004',
      hint = 'take the slot first, on this connection';
  end if;
  select * into v_queue from lockgate.queue where id = p_queue;
  if not found or v_queue.paused or p_slot not between 1 and v_queue.slots then
    return;
  end if;
  perform from lockgate.task where queue = v_queue.name and status = 'running' and slot = p_slot;
  if found then
    return;
  end if;
  perform set_config('synchronous_commit', 'on', true);
  -- In the order of task_due: asked for any due row, a plan that expects many reads the whole table to find none.
  if (select run_at from lockgate.task where queue = v_queue.name and status = 'scheduled' order by run_at limit 1)
      <= now() then
    perform lockgate.promote(v_queue.name);
  end if;
  return query
  with next as materialized (
    select id from lockgate.task
    where queue = v_queue.name and status = 'queued'
    order by priority desc, id limit 1 for update skip locked
  )
  update lockgate.task t
  set status = 'running', slot = p_slot, lease = nextval('lockgate.lease'), runner = p_runner, session = p_session,
    grace = v_queue.grace, attempt = t.attempt + 1, start_time = now(), exec_time = null, error = null, progress = null
  from next where t.id = next.id
  returning t.id, t.lease, t.queue, t.kind, t.payload, t.attempt, t.max_attempts, t.timeout, t.grace,
    t.cancel_requested;
end
$$;
COMMENT ON FUNCTION lockgate.claim(p_queue integer, p_slot integer, p_runner text, p_session integer) IS 'queued -> running: the next task of that queue into a slot this session holds. Nothing while the queue is paused, the slot is above its number, or the slot''s last task still says running.';
CREATE FUNCTION lockgate.create_queue(queue text, settings jsonb DEFAULT '{}'::jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
begin
  insert into lockgate.queue (name) values (queue);
  perform lockgate.change_queue(queue, settings);
exception when unique_violation then
  raise exception 'there is a queue "%" already', queue using errcode = '23505', constraint = 'a_queue_name_is_unique';
end
$$;
COMMENT ON FUNCTION lockgate.create_queue(queue text, settings jsonb) IS 'Makes a queue: select create_queue(''gpu'', ''{"slots": 1}'').';
CREATE FUNCTION lockgate.delete_queue(queue text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
declare
  v_queue lockgate.queue;
begin
  perform set_config('lock_timeout', '1s', true);
  lock table lockgate.task in share row exclusive mode;
  select * into v_queue from lockgate.queue q where q.name = delete_queue.queue for update;
  if not found then
    raise exception 'there is no queue "%"', queue using errcode = 'LG001';
  end if;
  if exists (select from lockgate.task t where t.queue = v_queue.name and t.status = 'queued')
      or exists (select from lockgate.task t where t.queue = v_queue.name and t.status = 'scheduled')
      or exists (select from lockgate.task t where t.queue = v_queue.name and t.status = 'running')
      or exists (select from lockgate.task t where t.queue = v_queue.name
                 and t.status in ('succeeded', 'failed', 'cancelled')) then
    raise exception 'queue "%" is not empty', queue using errcode = 'LG009',
      hint = 'cancel what waits, and purge what has ended';
  end if;
  if exists (select from pg_locks l where l.locktype = 'advisory' and l.objsubid = 2
             and l.classid = lockgate.lock_class(v_queue.id)::oid
             and l.database = (select oid from pg_database where datname = current_database()))
      or exists (select from generate_series(1, v_queue.slots) s
                 where not pg_try_advisory_xact_lock(lockgate.lock_class(v_queue.id), s)) then
    raise exception 'runners still hold slots of queue "%"', queue using errcode = 'LG009',
      hint = 'set its slots to 0; they let go within a poll';
  end if;
  delete from lockgate.queue q where q.id = v_queue.id;
end
$$;
COMMENT ON FUNCTION lockgate.delete_queue(queue text) IS 'Deletes a queue that is empty and whose slots nobody holds, else LG009.';
CREATE FUNCTION lockgate.delete_task(task bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
declare
  v_status lockgate.status;
begin
  select t.status into v_status from lockgate.task t where t.id = delete_task.task for update;
  if not found then
    raise exception 'there is no task %', task using errcode = 'LG006';
  end if;
  if v_status = 'running' then
    raise exception 'task % is running: cancel it first', task using errcode = 'LG007';
  end if;
  delete from lockgate.task t where t.id = delete_task.task;
  delete from lockgate.attempt a where a.task = delete_task.task;
  delete from lockgate.output o where o.task = delete_task.task;
end
$$;
COMMENT ON FUNCTION lockgate.delete_task(task bigint) IS 'Deletes a task that is not running, with its attempts and output. LG007 while it runs.';
CREATE FUNCTION lockgate.deregister(p_session integer) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
  delete from lockgate.runner where session = p_session;
  select pg_advisory_unlock_all();
$$;
COMMENT ON FUNCTION lockgate.deregister(p_session integer) IS 'Ends a runner''s session and frees every lock it holds.';
CREATE TABLE lockgate.task (
    id bigint NOT NULL,
    queue text NOT NULL COLLATE pg_catalog."C",
    kind text NOT NULL COLLATE pg_catalog."C",
    status lockgate.status NOT NULL,
    priority smallint DEFAULT 0 NOT NULL,
    create_time timestamp with time zone DEFAULT now() NOT NULL,
    run_at timestamp with time zone DEFAULT now() NOT NULL,
    start_time timestamp with time zone,
    finish_time timestamp with time zone,
    exec_time double precision,
    attempt integer DEFAULT 0 NOT NULL,
    max_attempts integer NOT NULL,
    timeout double precision,
    slot integer,
    lease bigint,
    runner text,
    session integer,
    grace double precision,
    cancel_requested lockgate.cancel_mode,
    payload jsonb NOT NULL,
    result jsonb,
    error jsonb,
    progress jsonb,
    tags text[] DEFAULT '{}'::text[] NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    idempotency_scope text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    idempotency_key text COLLATE pg_catalog."C",
    request_digest uuid,
    dedupe_key text COLLATE pg_catalog."C",
    CONSTRAINT a_failed_task_has_an_error CHECK (((status <> 'failed'::lockgate.status) OR (error IS NOT NULL))),
    CONSTRAINT a_result_only_when_succeeded CHECK (((result IS NULL) OR (status = 'succeeded'::lockgate.status))),
    CONSTRAINT an_idempotency_key_has_its_digest CHECK (((idempotency_key IS NULL) = (request_digest IS NULL))),
    CONSTRAINT dedupe_key_is_1_to_200_characters CHECK (((length(dedupe_key) >= 1) AND (length(dedupe_key) <= 200))),
    CONSTRAINT ended_iff_it_has_a_finish_time CHECK (((status = ANY (ARRAY['succeeded'::lockgate.status, 'failed'::lockgate.status, 'cancelled'::lockgate.status])) = (finish_time IS NOT NULL))),
    CONSTRAINT idempotency_key_is_1_to_200_characters CHECK (((length(idempotency_key) >= 1) AND (length(idempotency_key) <= 200))),
    CONSTRAINT kind_is_1_to_200_characters CHECK (((length(kind) >= 1) AND (length(kind) <= 200))),
    CONSTRAINT max_attempts_are_1_to_1000 CHECK (((max_attempts >= 1) AND (max_attempts <= 1000))),
    CONSTRAINT priority_is_between_minus_100_and_100 CHECK (((priority >= '-100'::integer) AND (priority <= 100))),
    CONSTRAINT run_at_is_finite CHECK (isfinite(run_at)),
    CONSTRAINT running_iff_it_has_a_slot CHECK (((status = 'running'::lockgate.status) = (slot IS NOT NULL))),
    CONSTRAINT slot_is_1_to_1000 CHECK (((slot >= 1) AND (slot <= 1000))),
    CONSTRAINT started_before_it_runs CHECK (((status <> 'running'::lockgate.status) OR ((start_time IS NOT NULL) AND (lease IS NOT NULL) AND (runner IS NOT NULL) AND (session IS NOT NULL) AND (grace IS NOT NULL) AND (attempt > 0)))),
    CONSTRAINT timeout_is_positive_and_at_most_30_days CHECK (((timeout > (0)::double precision) AND (timeout <= (2592000)::double precision)))
);
COMMENT ON TABLE lockgate.task IS 'One row per task. start_time, finish_time, exec_time, runner, lease and error are those of its latest attempt.';
COMMENT ON COLUMN lockgate.task.id IS 'The task''s number.';
COMMENT ON COLUMN lockgate.task.kind IS 'Which handler executes it.';
COMMENT ON COLUMN lockgate.task.priority IS 'Higher goes first; -100 to 100.';
COMMENT ON COLUMN lockgate.task.run_at IS 'Not before this time.';
COMMENT ON COLUMN lockgate.task.exec_time IS 'Seconds the latest attempt took, by its runner''s monotonic clock.';
COMMENT ON COLUMN lockgate.task.attempt IS 'Attempts counted so far, the current one included.';
COMMENT ON COLUMN lockgate.task.timeout IS 'Seconds one attempt may take; null = no limit.';
COMMENT ON COLUMN lockgate.task.slot IS 'The slot it executes in; null unless running.';
COMMENT ON COLUMN lockgate.task.lease IS 'The latest claim''s number: new and greater at each claim. Stays on ended rows.';
COMMENT ON COLUMN lockgate.task.runner IS 'The name of the runner process of the latest attempt.';
COMMENT ON COLUMN lockgate.task.session IS 'That runner''s database session (runner.session), rewritten when it reconnects.';
COMMENT ON COLUMN lockgate.task.grace IS 'queue.grace as it was at the claim: the number owner and adopter both use.';
COMMENT ON COLUMN lockgate.task.cancel_requested IS 'How a running task was asked to stop; null = it was not.';
COMMENT ON COLUMN lockgate.task.error IS '{"type", "message", "traceback"} of the latest attempt that did not succeed.';
COMMENT ON COLUMN lockgate.task.progress IS 'What the handler last reported.';
COMMENT ON COLUMN lockgate.task.idempotency_key IS 'Unique per scope for as long as the row lives.';
COMMENT ON COLUMN lockgate.task.request_digest IS 'Digest of the request that came with the idempotency key.';
COMMENT ON COLUMN lockgate.task.dedupe_key IS 'At most one unfinished task per queue and key.';
CREATE FUNCTION lockgate.end_task(p_row lockgate.task, p_status lockgate.status, p_error jsonb, p_exec_time double precision, p_adopted boolean) RETURNS lockgate.status
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
begin
  update lockgate.task
  set status = p_status, slot = null, finish_time = now(), exec_time = p_exec_time, error = p_error,
    lease = case when p_adopted then nextval('lockgate.lease') else p_row.lease end
  where id = p_row.id;
  return p_status;
end
$$;
COMMENT ON FUNCTION lockgate.end_task(p_row lockgate.task, p_status lockgate.status, p_error jsonb, p_exec_time double precision, p_adopted boolean) IS 'running -> failed or cancelled. For fail, give_back and adopt.';
CREATE FUNCTION lockgate.fail(p_task bigint, p_lease bigint, p_runner text, p_exec_time double precision, p_error jsonb, p_retry_after double precision DEFAULT NULL::double precision, p_discard boolean DEFAULT false) RETURNS lockgate.status
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
declare
  v_row lockgate.task;
  v_queue lockgate.queue;
  v_delay double precision;
begin
  perform set_config('synchronous_commit', 'on', true);
  select * into v_row from lockgate.task
    where id = p_task and lease = p_lease and runner = p_runner and status = 'running' for update;
  if not found then
    perform lockgate.lease_has_ended(p_task, p_lease, p_runner);
    return (select status from lockgate.task where id = p_task);
  end if;
  if v_row.cancel_requested is not null then
    return lockgate.end_task(v_row, 'cancelled', p_error, p_exec_time, false);
  end if;
  if p_discard or v_row.attempt >= v_row.max_attempts then
    return lockgate.end_task(v_row, 'failed', p_error, p_exec_time, false);
  end if;
  select * into strict v_queue from lockgate.queue where name = v_row.queue;
  -- Whatever a handler asks for, its failure is recorded: NaN is no answer, and nobody waits for more than 30 days.
  v_delay := coalesce(nullif(p_retry_after, 'NaN'), lockgate.backoff(v_queue, v_row.attempt));
  return lockgate.put_back(v_row, 'failed', least(greatest(v_delay, 0), 2592000), p_error, p_exec_time);
end
$$;
COMMENT ON FUNCTION lockgate.fail(p_task bigint, p_lease bigint, p_runner text, p_exec_time double precision, p_error jsonb, p_retry_after double precision, p_discard boolean) IS 'running -> scheduled after a back-off (or p_retry_after seconds), failed when discarded or without attempts left, cancelled when that was asked. The status now; LG002 if the lease is lost.';
CREATE FUNCTION lockgate.finish(p_task bigint, p_lease bigint, p_runner text, p_exec_time double precision, p_result jsonb) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
begin
  if octet_length(p_result::text) > 1048576 then
    raise exception 'result is larger than 1 MiB' using errcode = '23514', constraint = 'result_is_at_most_1_mib';
  end if;
  perform set_config('synchronous_commit', 'on', true);
  update lockgate.task
  set status = 'succeeded', slot = null, finish_time = now(), exec_time = p_exec_time, result = p_result
  where id = p_task and lease = p_lease and runner = p_runner and status = 'running';
  if found then
    return true;
  end if;
  return not lockgate.lease_has_ended(p_task, p_lease, p_runner);
end
$$;
COMMENT ON FUNCTION lockgate.finish(p_task bigint, p_lease bigint, p_runner text, p_exec_time double precision, p_result jsonb) IS 'running -> succeeded. False if this lease''s end was already recorded; LG002 if the lease is lost.';
CREATE FUNCTION lockgate.finish_and_claim(p_task bigint, p_lease bigint, p_runner text, p_exec_time double precision, p_result jsonb, p_queue integer, p_slot integer, p_session integer) RETURNS SETOF lockgate.claimed
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
begin
  perform lockgate.finish(p_task, p_lease, p_runner, p_exec_time, p_result);
  return query select * from lockgate.claim(p_queue, p_slot, p_runner, p_session);
end
$$;
COMMENT ON FUNCTION lockgate.finish_and_claim(p_task bigint, p_lease bigint, p_runner text, p_exec_time double precision, p_result jsonb, p_queue integer, p_slot integer, p_session integer) IS 'finish, then claim the next task into the same slot: one round trip, one commit.';
CREATE FUNCTION lockgate.give_back(p_task bigint, p_lease bigint, p_runner text) RETURNS lockgate.status
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
declare
  v_row lockgate.task;
begin
  select * into v_row from lockgate.task
    where id = p_task and lease = p_lease and runner = p_runner and status = 'running' for update;
  if not found then
    perform lockgate.lease_has_ended(p_task, p_lease, p_runner);
    return (select status from lockgate.task where id = p_task);
  end if;
  if v_row.cancel_requested is not null then
    return lockgate.end_task(v_row, 'cancelled', null, null, false);
  end if;
  return lockgate.put_back(v_row, 'returned', 0, null, null);
end
$$;
COMMENT ON FUNCTION lockgate.give_back(p_task bigint, p_lease bigint, p_runner text) IS 'running -> queued, the attempt not counted: for a runner that stops. The status now; LG002 if the lease is lost.';
CREATE FUNCTION lockgate.holds_slot(p_queue integer, p_slot integer) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
  select exists (
    select from pg_locks
    where locktype = 'advisory' and granted and pid = pg_backend_pid()
      and classid = lockgate.lock_class(p_queue)::oid and objid = p_slot::oid and objsubid = 2)
$$;
COMMENT ON FUNCTION lockgate.holds_slot(p_queue integer, p_slot integer) IS 'Whether this session holds the lock of that slot.';
CREATE FUNCTION lockgate.lease_has_ended(p_task bigint, p_lease bigint, p_runner text) RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
begin
  perform from lockgate.task where id = p_task and lease = p_lease and runner = p_runner and status <> 'running';
  if found then
    return true;
  end if;
  raise exception 'lease % of task % is lost', p_lease, p_task using errcode = 'LG002',
    hint = 'the slot was adopted; drop the result';
end
$$;
COMMENT ON FUNCTION lockgate.lease_has_ended(p_task bigint, p_lease bigint, p_runner text) IS 'Whether the end of that lease is already recorded; raises LG002 when the lease is lost.';
CREATE FUNCTION lockgate.lock_class(p_queue integer) RETURNS integer
    LANGUAGE sql IMMUTABLE
    RETURN (1279721472 + p_queue);
COMMENT ON FUNCTION lockgate.lock_class(p_queue integer) IS 'Advisory lock class of a queue''s slots: a fixed base plus queue.id.';
CREATE FUNCTION lockgate.look(p_queues text[] DEFAULT NULL::text[]) RETURNS TABLE(queue integer, name text, slots integer, paused boolean, grace double precision, due boolean, next_due double precision)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
  select q.id, q.name, q.slots, q.paused, q.grace,
    -- Not EXISTS, which drops the order and with it the index: a queue just emptied would cost a read of the table.
    (select true from lockgate.task t where t.queue = q.name and t.status = 'queued'
     order by t.priority desc, t.id limit 1) is not null or coalesce(s.run_at <= now(), false),
    extract(epoch from s.run_at - now())::double precision
  from lockgate.queue q
  left join lateral (
    select t.run_at from lockgate.task t
    where t.queue = q.name and t.status = 'scheduled' order by t.run_at limit 1) s on true
  where p_queues is null or q.name = any (p_queues)
  order by q.id
$$;
COMMENT ON FUNCTION lockgate.look(p_queues text[]) IS 'The queues a runner serves: whether each has work due now, and in how many seconds its next scheduled task is.';
CREATE FUNCTION lockgate.occupied() RETURNS TABLE(queue integer, slot integer, task bigint, lease bigint, runner text, session integer, grace double precision, cancel_requested lockgate.cancel_mode, pid integer)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
  with held as materialized (
    select classid::bigint - lockgate.lock_class(0) as queue, objid::bigint as slot, pid
    from pg_locks
    where locktype = 'advisory' and granted and objsubid = 2 and classid > lockgate.lock_class(0)::oid
      and database = (select oid from pg_database where datname = current_database())
  ), busy as (
    select q.id as queue, t.slot, t.id, t.lease, t.runner, t.session, t.grace, t.cancel_requested
    from lockgate.task t join lockgate.queue q on q.name = t.queue
    where t.status = 'running'
  )
  select q.id, coalesce(b.slot, h.slot::int), b.id, b.lease, b.runner, b.session, coalesce(b.grace, q.grace),
    b.cancel_requested, h.pid
  from held h
  full join busy b on b.queue = h.queue and b.slot = h.slot
  join lockgate.queue q on q.id = coalesce(b.queue, h.queue)
$$;
COMMENT ON FUNCTION lockgate.occupied() IS 'Every slot that has a running task or a held lock: the task, and the backend that holds the lock (null = free).';
CREATE FUNCTION lockgate.pause(queue text) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$ select lockgate.change_queue(queue, '{"paused": true}') $$;
COMMENT ON FUNCTION lockgate.pause(queue text) IS 'Nothing of the queue is claimed any more; what runs goes on.';
CREATE FUNCTION lockgate.promote(p_queue text) RETURNS integer
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
  with due as materialized (
    select id from lockgate.task
    where queue = p_queue and status = 'scheduled' and run_at <= now()
    order by run_at limit 100 for update skip locked
  ), moved as (
    update lockgate.task t set status = 'queued' from due where t.id = due.id returning 1
  )
  select count(*)::int from moved
$$;
COMMENT ON FUNCTION lockgate.promote(p_queue text) IS 'scheduled -> queued for at most 100 tasks whose time has come; called by every claim. How many it moved.';
CREATE FUNCTION lockgate.purge(queue text, batch integer DEFAULT 1000) RETURNS integer
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
  with old as materialized (
    select t.id from lockgate.task t
    where t.queue = purge.queue and t.status in ('succeeded', 'failed', 'cancelled')
    order by t.finish_time limit batch for update skip locked
  ), gone as (
    delete from lockgate.task t using old where t.id = old.id returning t.id
  ), attempts as (
    delete from lockgate.attempt a using old where a.task = old.id
  ), outputs as (
    delete from lockgate.output o using old where o.task = old.id
  )
  select count(*)::int from gone
$$;
COMMENT ON FUNCTION lockgate.purge(queue text, batch integer) IS 'Deletes a batch of the ended tasks of a queue, the longest ended first, whatever their age; how many.';
CREATE FUNCTION lockgate.put_back(p_row lockgate.task, p_outcome lockgate.attempt_outcome, p_delay double precision, p_error jsonb, p_exec_time double precision) RETURNS lockgate.status
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
declare
  v_status lockgate.status := case when p_delay > 0 then 'scheduled' else 'queued' end;
begin
  insert into lockgate.attempt (task, attempt, lease, outcome, runner, slot, start_time, exec_time, error)
    values (p_row.id, p_row.attempt, p_row.lease, p_outcome, p_row.runner, p_row.slot, p_row.start_time, p_exec_time,
            p_error);
  -- An adopted row gets a lease of its own, so that its old owner is told "lost" and not "already recorded".
  update lockgate.task
  set status = v_status, slot = null, run_at = now() + p_delay * interval '1 second', error = p_error,
    exec_time = p_exec_time, progress = null,
    attempt = p_row.attempt - case when p_outcome = 'returned' then 1 else 0 end,
    lease = case when p_outcome = 'adopted' then nextval('lockgate.lease') else p_row.lease end
  where id = p_row.id;
  if v_status = 'queued' then
    perform lockgate.wake(p_row.queue);
  elsif p_delay < 60 then
    perform lockgate.wake_later(p_row.queue);
  end if;
  return v_status;
end
$$;
COMMENT ON FUNCTION lockgate.put_back(p_row lockgate.task, p_outcome lockgate.attempt_outcome, p_delay double precision, p_error jsonb, p_exec_time double precision) IS 'running -> queued or, with a delay, scheduled; writes the attempt. For fail, give_back and adopt.';
CREATE FUNCTION lockgate.reconfirm(p_queue integer, p_slot integer, p_runner text, p_session integer) RETURNS SETOF lockgate.claimed
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
begin
  if not lockgate.holds_slot(p_queue, p_slot) then
    raise exception 'session % does not hold slot % of queue %', p_session, p_slot, p_queue using errcode = 'LG004',
      hint = 'take the slot first, on this connection';
  end if;
  perform set_config('synchronous_commit', 'on', true);
  return query
  update lockgate.task t set session = p_session
  from lockgate.queue q
  where q.id = p_queue and t.queue = q.name and t.slot = p_slot and t.status = 'running' and t.runner = p_runner
  returning t.id, t.lease, t.queue, t.kind, t.payload, t.attempt, t.max_attempts, t.timeout, t.grace,
    t.cancel_requested;
end
$$;
COMMENT ON FUNCTION lockgate.reconfirm(p_queue integer, p_slot integer, p_runner text, p_session integer) IS 'Marks the running task of this slot and runner with its new session, which ends every adopter''s wait for it.';
CREATE FUNCTION lockgate.register(p_runner text, p_host text, p_pid integer, p_version text, p_concurrency integer, p_queues text[], p_kinds text[]) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
declare
  v_session int;
begin
  -- Sessions gone for a day are history nobody asks for. A row is visible only once its lock is held.
  delete from lockgate.runner r
  where r.since < now() - interval '1 day' and not exists (
    select from pg_locks l where l.locktype = 'advisory' and l.objsubid = 2
      and l.classid = lockgate.lock_class(0)::oid and l.objid = r.session::oid);
  insert into lockgate.runner (runner, host, pid, backend_pid, version, concurrency, queues, kinds)
    values (p_runner, p_host, p_pid, pg_backend_pid(), p_version, p_concurrency, p_queues, p_kinds)
    returning session into v_session;
  perform pg_advisory_lock(lockgate.lock_class(0), v_session);
  return v_session;
end
$$;
COMMENT ON FUNCTION lockgate.register(p_runner text, p_host text, p_pid integer, p_version text, p_concurrency integer, p_queues text[], p_kinds text[]) IS 'Announces a runner''s session and takes its session lock; the session''s number.';
CREATE FUNCTION lockgate.release_slot(p_queue integer, p_slot integer) RETURNS boolean
    LANGUAGE sql
    AS $$
  select case when lockgate.holds_slot(p_queue, p_slot)
         then pg_advisory_unlock(lockgate.lock_class(p_queue), p_slot) else false end
$$;
COMMENT ON FUNCTION lockgate.release_slot(p_queue integer, p_slot integer) IS 'Frees the lock of this slot; whether this session held it.';
CREATE FUNCTION lockgate.report_progress(p_task bigint, p_lease bigint, p_runner text, p_progress jsonb) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
begin
  if octet_length(p_progress::text) > 16384 then
    raise exception 'progress is larger than 16 KiB' using errcode = '23514', constraint = 'progress_is_at_most_16_kib';
  end if;
  update lockgate.task set progress = p_progress
  where id = p_task and lease = p_lease and runner = p_runner and status = 'running';
  return found;
end
$$;
COMMENT ON FUNCTION lockgate.report_progress(p_task bigint, p_lease bigint, p_runner text, p_progress jsonb) IS 'Stores what a handler reported last; false when the lease is lost or its end recorded.';
CREATE FUNCTION lockgate.resume(queue text) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$ select lockgate.change_queue(queue, '{"paused": false}') $$;
COMMENT ON FUNCTION lockgate.resume(queue text) IS 'Ends a pause.';
CREATE FUNCTION lockgate.retake_slot(p_queue integer, p_slot integer) RETURNS boolean
    LANGUAGE sql
    AS $$
  select case when lockgate.holds_slot(p_queue, p_slot) then true
         else pg_try_advisory_lock(lockgate.lock_class(p_queue), p_slot) end
$$;
COMMENT ON FUNCTION lockgate.retake_slot(p_queue integer, p_slot integer) IS 'Takes the lock of this slot; whether this session holds it now.';
CREATE FUNCTION lockgate.retry(task bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
declare
  v_row lockgate.task;
begin
  select * into v_row from lockgate.task t where t.id = retry.task for update;
  if not found then
    raise exception 'there is no task %', task using errcode = 'LG006';
  end if;
  if v_row.status not in ('failed', 'cancelled') then
    raise exception 'task % is %: only a failed or cancelled task can be retried', task, v_row.status
      using errcode = 'LG007';
  end if;
  if v_row.lease is not null and v_row.error is not null then
    insert into lockgate.attempt (task, attempt, lease, outcome, runner, start_time, end_time, exec_time, error)
      values (v_row.id, v_row.attempt, v_row.lease, 'failed', v_row.runner, v_row.start_time, v_row.finish_time,
              v_row.exec_time, v_row.error)
      on conflict do nothing;
  end if;
  update lockgate.task t
  set status = 'queued', finish_time = null, run_at = now(), cancel_requested = null, progress = null,
    max_attempts = least(greatest(t.max_attempts, t.attempt + 1), 1000)
  where t.id = retry.task;
  perform lockgate.wake(v_row.queue);
exception when unique_violation then
  raise exception 'another unfinished task of queue "%" has dedupe key "%"', v_row.queue, v_row.dedupe_key
    using errcode = 'LG008';
end
$$;
COMMENT ON FUNCTION lockgate.retry(task bigint) IS 'failed, cancelled -> queued, due now, with at least one more attempt; its attempts so far are kept. LG007 for others.';
CREATE FUNCTION lockgate.schema_version() RETURNS integer
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$ select version from lockgate.release $$;
COMMENT ON FUNCTION lockgate.schema_version() IS 'The version of this schema.';
CREATE FUNCTION lockgate.set_slots(queue text, slots integer) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$ select lockgate.change_queue(queue, jsonb_build_object('slots', slots)) $$;
COMMENT ON FUNCTION lockgate.set_slots(queue text, slots integer) IS 'How many tasks of a queue may execute at once from now on. Lowered, running tasks above it end first.';
CREATE FUNCTION lockgate.submit(queue text, kind text, payload jsonb DEFAULT '{}'::jsonb, priority integer DEFAULT NULL::integer, run_at timestamp with time zone DEFAULT NULL::timestamp with time zone, delay double precision DEFAULT NULL::double precision, max_attempts integer DEFAULT NULL::integer, timeout double precision DEFAULT NULL::double precision, tags text[] DEFAULT NULL::text[], metadata jsonb DEFAULT NULL::jsonb, idempotency_key text DEFAULT NULL::text, dedupe_key text DEFAULT NULL::text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
declare
  v_item record;
begin
  select * into strict v_item from lockgate.submit_batch(jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
    'queue', queue, 'kind', kind, 'priority', priority, 'run_at', run_at, 'delay', delay,
    'max_attempts', max_attempts, 'timeout', timeout, 'tags', to_jsonb(tags),
    'idempotency_key', idempotency_key, 'dedupe_key', dedupe_key))
    || jsonb_build_object('payload', payload, 'metadata', metadata)));
  case v_item.outcome
    when 'unknown_queue' then
      raise exception 'there is no queue "%"', queue using errcode = 'LG001', hint = 'select name from lockgate.queue';
    when 'kind_refused' then
      raise exception 'queue "%" does not take tasks of kind "%"', queue, kind using errcode = 'LG005';
    when 'key_reused' then
      raise exception 'idempotency key "%" was used for another request, task %', idempotency_key, v_item.task
        using errcode = 'LG003';
    when 'created' then
      if current_setting('lockgate.notify', true) is not distinct from 'off' then
        null;
      elsif coalesce(run_at, now() + delay * interval '1 second', now()) <= now() then
        perform lockgate.wake(coalesce(queue, 'default'));
      elsif coalesce(run_at, now() + delay * interval '1 second') < now() + interval '1 minute' then
        perform lockgate.wake_later(coalesce(queue, 'default'));
      end if;
    else null;
  end case;
  return v_item.task;
end
$$;
COMMENT ON FUNCTION lockgate.submit(queue text, kind text, payload jsonb, priority integer, run_at timestamp with time zone, delay double precision, max_attempts integer, timeout double precision, tags text[], metadata jsonb, idempotency_key text, dedupe_key text) IS 'Submits one task and returns its number: select submit(''default'', ''sleep'', ''{"max": 3}'', priority => 5). Takes part in your transaction.';
CREATE FUNCTION lockgate.submit_batch(p_tasks jsonb, p_scope text DEFAULT ''::text) RETURNS TABLE(item integer, task bigint, outcome lockgate.submit_outcome)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  v_open int[];
  v_items int[];
  v_tasks bigint[];
  v_outcomes lockgate.submit_outcome[];
begin
  if jsonb_typeof(p_tasks) is distinct from 'array' then
    raise exception 'tasks must be a JSON array' using errcode = '22023';
  end if;
  if exists (select from jsonb_array_elements(p_tasks) e where octet_length((e -> 'payload')::text) > 1048576) then
    raise exception 'payload is larger than 1 MiB' using errcode = '23514', constraint = 'payload_is_at_most_1_mib';
  end if;
  if exists (select from jsonb_array_elements(p_tasks) e where octet_length((e -> 'metadata')::text) > 16384) then
    raise exception 'metadata is larger than 16 KiB' using errcode = '23514', constraint = 'metadata_is_at_most_16_kib';
  end if;
  if exists (select from jsonb_array_elements(p_tasks) e where octet_length((e -> 'tags')::text) > 4096) then
    raise exception 'tags are larger than 4 KiB' using errcode = '23514', constraint = 'tags_are_at_most_4_kib';
  end if;
  v_open := array(select generate_series(1, jsonb_array_length(p_tasks)));
  for v_round in 1..5 loop
    exit when v_open = '{}';
    with request as materialized (
      select i, nextval('lockgate.task_id_seq') as id, p_tasks -> (i - 1) as body, r.*
      from unnest(v_open) i,
        jsonb_to_record(p_tasks -> (i - 1)) as r (
          queue text, kind text, payload jsonb, priority smallint, run_at timestamptz, delay double precision,
          max_attempts int, timeout double precision, tags text[], metadata jsonb, idempotency_key text,
          dedupe_key text)
    ), due as (
      select *, coalesce(run_at, now() + delay * interval '1 second', now()) as due_time from request
    ), stored as (
      insert into lockgate.task (
        id, queue, kind, status, priority, run_at, max_attempts, timeout, payload, tags, metadata,
        idempotency_scope, idempotency_key, request_digest, dedupe_key)
      overriding system value
      select d.id, q.name, d.kind,
        case when d.due_time > now() then 'scheduled' else 'queued' end::lockgate.status,
        coalesce(d.priority, 0), d.due_time, coalesce(d.max_attempts, q.max_attempts),
        coalesce(d.timeout, q.timeout), coalesce(d.payload, '{}'), coalesce(d.tags, '{}'),
        coalesce(d.metadata, '{}'), p_scope, d.idempotency_key,
        case when d.idempotency_key is not null then md5(d.body::text)::uuid end, d.dedupe_key
      from due d join lockgate.queue q on q.name = coalesce(d.queue, 'default')
      where q.kinds is null or d.kind = any (q.kinds)
      order by d.idempotency_key, d.dedupe_key, d.i  -- or two batches with the same keys could wait for each other
      on conflict do nothing
      returning id
    )
    select coalesce(array_agg(r.i), '{}'), array_agg(r.id), array_agg('created'::lockgate.submit_outcome)
      into v_items, v_tasks, v_outcomes
      from request r join stored s on s.id = r.id;
    return query select * from unnest(v_items, v_tasks, v_outcomes);
    v_open := array(select i from unnest(v_open) i where i <> all (v_items) order by i);
    exit when v_open = '{}';
    -- What was not stored met a key or a rule. A new statement sees what a rival committed meanwhile; a rival that
    -- vanished again leaves its item open for another round.
    select coalesce(array_agg(i), '{}'), array_agg(id), array_agg(found)
      into v_items, v_tasks, v_outcomes
    from (
      select i, coalesce(same_key.id, same_dedupe.id) as id, case
          when q.name is null then 'unknown_queue'
          when q.kinds is not null and (e ->> 'kind' = any (q.kinds)) is not true then 'kind_refused'
          when same_key.request_digest = md5(e::text)::uuid then 'replayed'
          when same_key.id is not null then 'key_reused'
          when same_dedupe.id is not null then 'deduplicated'
        end::lockgate.submit_outcome as found
      from unnest(v_open) i
      cross join lateral (select p_tasks -> (i - 1) as e) one
      left join lockgate.queue q on q.name = coalesce(e ->> 'queue', 'default')
      left join lockgate.task same_key
        on same_key.idempotency_scope = p_scope and same_key.idempotency_key = e ->> 'idempotency_key'
      left join lockgate.task same_dedupe
        on same_dedupe.queue = q.name and same_dedupe.dedupe_key = e ->> 'dedupe_key'
        and same_dedupe.status in ('scheduled', 'queued', 'running')
    ) judged
    where found is not null;
    return query select * from unnest(v_items, v_tasks, v_outcomes);
    v_open := array(select i from unnest(v_open) i where i <> all (v_items) order by i);
  end loop;
  if v_open <> '{}' then
    raise exception 'the keys of item % keep changing hands', v_open[1] using errcode = '40001';
  end if;
end
$$;
COMMENT ON FUNCTION lockgate.submit_batch(p_tasks jsonb, p_scope text) IS 'Submits a JSON array of tasks; one row per item: its number from 1, the task, the outcome. Does not notify.';
CREATE FUNCTION lockgate.take_slot(p_queue integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
declare
  v_slot int;
begin
  for v_slot in
    select s
    from lockgate.queue q cross join generate_series(1, q.slots) s
    where q.id = p_queue and not q.paused
      and not exists (select from lockgate.task t where t.queue = q.name and t.slot = s and t.status = 'running')
      and not exists (
        select from pg_locks l
        where l.locktype = 'advisory' and l.objsubid = 2
          and l.database = (select oid from pg_database where datname = current_database())
          and l.classid = lockgate.lock_class(p_queue)::oid and l.objid = s::oid)
    order by s
  loop
    if pg_try_advisory_lock(lockgate.lock_class(p_queue), v_slot) then
      return v_slot;
    end if;
  end loop;
  return null;
end
$$;
COMMENT ON FUNCTION lockgate.take_slot(p_queue integer) IS 'Takes the lock of a free slot of that queue; its number, or null.';
CREATE FUNCTION lockgate.tidy(p_batch integer DEFAULT 500) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
declare
  v_removed int;
begin
  if not lockgate.holds_slot(0, 0) and not pg_try_advisory_lock(lockgate.lock_class(0), 0) then
    return null;
  end if;
  with old as materialized (
    select t.id
    from lockgate.queue q cross join lateral (
      select t.id from lockgate.task t
      where t.queue = q.name and t.status in ('succeeded', 'failed', 'cancelled')
        and t.finish_time < now() - q.retention * interval '1 second'
      order by t.finish_time limit p_batch for update skip locked) t
    where q.retention is not null
    limit p_batch
  ), gone as (
    delete from lockgate.task t using old where t.id = old.id returning t.id
  ), attempts as (
    delete from lockgate.attempt a using old where a.task = old.id
  ), outputs as (
    delete from lockgate.output o using old where o.task = old.id
  )
  select count(*)::int into v_removed from gone;
  return v_removed;
end
$$;
COMMENT ON FUNCTION lockgate.tidy(p_batch integer) IS 'Removes a batch of ended tasks older than their queue''s retention; how many, or null while another session has the chores. Keeps the chores lock for the session.';
CREATE FUNCTION lockgate.wake(p_queue text) RETURNS void
    LANGUAGE sql
    AS $$ select pg_notify('lockgate', 'queue ' || p_queue) $$;
COMMENT ON FUNCTION lockgate.wake(p_queue text) IS 'Tells idle runners to look at that queue now.';
CREATE FUNCTION lockgate.wake_later(p_queue text) RETURNS void
    LANGUAGE sql
    AS $$ select pg_notify('lockgate', 'later ' || p_queue) $$;
COMMENT ON FUNCTION lockgate.wake_later(p_queue text) IS 'Tells idle runners that a task of that queue is due within a minute: sooner than they may look by themselves.';
CREATE FUNCTION lockgate.watch() RETURNS TABLE(queue integer, slot integer, task bigint, lease bigint, runner text, session integer, grace double precision, cancel_requested lockgate.cancel_mode, pid integer, backend_start timestamp with time zone, state_change timestamp with time zone)
    LANGUAGE sql STABLE
    AS $$
  select o.*, a.backend_start, a.state_change
  from lockgate.occupied() o left join pg_stat_get_activity(null) a on a.pid = o.pid
$$;
COMMENT ON FUNCTION lockgate.watch() IS 'occupied(), with when the holder''s backend started and last did anything: what every runner checks on each poll.';
CREATE FUNCTION lockgate.write_output(p_task bigint, p_lease bigint, p_text text) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'lockgate', 'pg_temp'
    AS $$
  insert into lockgate.output as o (task, lease, text)
  select id, p_lease, right(p_text, 65536) from lockgate.task where id = p_task
  on conflict (task, lease) do update set text = right(o.text || excluded.text, 65536)
$$;
COMMENT ON FUNCTION lockgate.write_output(p_task bigint, p_lease bigint, p_text text) IS 'Adds to what an attempt printed, of which the last 65,536 characters are kept. Nothing for a task that is gone.';
CREATE TABLE lockgate.attempt (
    task bigint NOT NULL,
    attempt integer NOT NULL,
    lease bigint NOT NULL,
    outcome lockgate.attempt_outcome NOT NULL,
    runner text,
    slot integer,
    start_time timestamp with time zone,
    end_time timestamp with time zone DEFAULT now() NOT NULL,
    exec_time double precision,
    error jsonb
);
COMMENT ON TABLE lockgate.attempt IS 'Attempts that ended without ending their task. Written only then, so a task that succeeds at once pays nothing.';
CREATE VIEW lockgate.attempt_detail AS
 SELECT attempt.task,
    attempt.attempt,
    attempt.lease,
    attempt.outcome,
    attempt.runner,
    attempt.slot,
    attempt.start_time,
    attempt.end_time,
    attempt.exec_time,
    attempt.error
   FROM lockgate.attempt;
COMMENT ON VIEW lockgate.attempt_detail IS 'Attempts that ended without ending their task.';
CREATE VIEW lockgate.failures AS
 SELECT t.queue,
    t.kind,
    (t.error ->> 'type'::text) AS type,
    "left"(split_part((t.error ->> 'message'::text), '
'::text, 1), 80) AS message,
    count(*) AS tasks,
    min(t.finish_time) AS first,
    max(t.finish_time) AS last,
    max(t.id) AS latest_task
   FROM ( SELECT task.id,
            task.queue,
            task.kind,
            task.status,
            task.priority,
            task.create_time,
            task.run_at,
            task.start_time,
            task.finish_time,
            task.exec_time,
            task.attempt,
            task.max_attempts,
            task.timeout,
            task.slot,
            task.lease,
            task.runner,
            task.session,
            task.grace,
            task.cancel_requested,
            task.payload,
            task.result,
            task.error,
            task.progress,
            task.tags,
            task.metadata,
            task.idempotency_scope,
            task.idempotency_key,
            task.request_digest,
            task.dedupe_key
           FROM lockgate.task
          WHERE (task.status = 'failed'::lockgate.status)
          ORDER BY task.id DESC
         LIMIT 10000) t
  GROUP BY t.queue, t.kind, (t.error ->> 'type'::text), ("left"(split_part((t.error ->> 'message'::text), '
'::text, 1), 80))
  ORDER BY (max(t.finish_time)) DESC;
COMMENT ON VIEW lockgate.failures IS 'The newest 10,000 failed tasks by queue, kind and error: how many, since when, the latest.';
CREATE SEQUENCE lockgate.lease
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
COMMENT ON SEQUENCE lockgate.lease IS 'The number of the latest claim.';
CREATE TABLE lockgate.output (
    task bigint NOT NULL,
    lease bigint NOT NULL,
    text text NOT NULL
);
COMMENT ON TABLE lockgate.output IS 'What handlers printed: the last 64 KiB of each attempt that printed anything.';
CREATE VIEW lockgate.output_detail AS
 SELECT output.task,
    output.lease,
    output.text
   FROM lockgate.output;
COMMENT ON VIEW lockgate.output_detail IS 'What handlers printed, by task and lease: the last 64 KiB of each attempt.';
CREATE VIEW lockgate.queue_detail AS
 SELECT queue.name AS queue,
    queue.slots,
    queue.paused,
    queue.grace,
    queue.max_attempts,
    queue.timeout,
    queue.backoff_base,
    queue.backoff_max,
    queue.retention,
    queue.kinds,
    queue.create_time
   FROM lockgate.queue;
COMMENT ON VIEW lockgate.queue_detail IS 'Queues and all their settings; durations in seconds.';
ALTER TABLE lockgate.queue ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME lockgate.queue_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE VIEW lockgate.queue_overview AS
 SELECT q.name AS queue,
    q.slots,
    q.paused,
    ( SELECT count(*) AS count
           FROM lockgate.task t
          WHERE ((t.queue = q.name) AND (t.status = 'running'::lockgate.status))) AS running,
        CASE
            WHEN (queued.n > 10000) THEN '10000+'::text
            ELSE (queued.n)::text
        END AS queued,
        CASE
            WHEN (scheduled.n > 10000) THEN '10000+'::text
            ELSE (scheduled.n)::text
        END AS scheduled,
    round(EXTRACT(epoch FROM (clock_timestamp() - queued.oldest)), 1) AS oldest_wait
   FROM ((lockgate.queue q
     CROSS JOIN LATERAL ( SELECT count(*) AS n,
            min(c.run_at) AS oldest
           FROM ( SELECT t.run_at
                   FROM lockgate.task t
                  WHERE ((t.queue = q.name) AND (t.status = 'queued'::lockgate.status))
                  ORDER BY t.priority DESC, t.id
                 LIMIT 10001) c) queued)
     CROSS JOIN LATERAL ( SELECT count(*) AS n
           FROM ( SELECT
                   FROM lockgate.task t
                  WHERE ((t.queue = q.name) AND (t.status = 'scheduled'::lockgate.status))
                  ORDER BY t.run_at
                 LIMIT 10001) c) scheduled)
  ORDER BY q.name;
COMMENT ON VIEW lockgate.queue_overview IS 'Queues: slots, what is running and waiting (counted to 10,000), and the seconds the oldest of those has been due.';
CREATE TABLE lockgate.release (
    version integer NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);
COMMENT ON TABLE lockgate.release IS 'One row: the version of this schema.';
CREATE TABLE lockgate.runner (
    session integer NOT NULL,
    runner text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    backend_pid integer NOT NULL,
    version text NOT NULL,
    concurrency integer NOT NULL,
    queues text[],
    kinds text[] NOT NULL,
    since timestamp with time zone DEFAULT now() NOT NULL
);
COMMENT ON TABLE lockgate.runner IS 'One row per runner session. A session is alive exactly while it holds its session lock: see runner_overview.';
COMMENT ON COLUMN lockgate.runner.session IS 'Number of the session, and object of its advisory lock (class lock_class(0)).';
COMMENT ON COLUMN lockgate.runner.runner IS 'Name of the runner process; the same over reconnects, never reused.';
COMMENT ON COLUMN lockgate.runner.queues IS 'The queues it serves; null = all.';
COMMENT ON COLUMN lockgate.runner.kinds IS 'The kinds it has handlers for.';
CREATE VIEW lockgate.runner_overview AS
 SELECT r.session,
    r.runner,
    r.host,
    r.pid,
    r.backend_pid,
    r.version,
    r.concurrency,
    r.queues,
    r.kinds,
    r.since,
    (EXISTS ( SELECT
           FROM pg_locks l
          WHERE ((l.locktype = 'advisory'::text) AND (l.objsubid = 2) AND l.granted AND (l.classid = (lockgate.lock_class(0))::oid) AND (l.objid = (r.session)::oid) AND (l.database = ( SELECT pg_database.oid
                   FROM pg_database
                  WHERE (pg_database.datname = current_database())))))) AS alive,
    ( SELECT count(*) AS count
           FROM lockgate.task t
          WHERE ((t.status = 'running'::lockgate.status) AND (t.runner = r.runner))) AS running
   FROM lockgate.runner r
  ORDER BY r.session;
COMMENT ON VIEW lockgate.runner_overview IS 'Runner sessions, whether each is alive, and how many tasks it runs.';
ALTER TABLE lockgate.runner ALTER COLUMN session ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME lockgate.runner_session_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE VIEW lockgate.slot_overview AS
 WITH seen AS MATERIALIZED (
         SELECT watch.queue,
            watch.slot,
            watch.task,
            watch.lease,
            watch.runner,
            watch.session,
            watch.grace,
            watch.cancel_requested,
            watch.pid,
            watch.backend_start,
            watch.state_change
           FROM lockgate.watch() watch(queue, slot, task, lease, runner, session, grace, cancel_requested, pid, backend_start, state_change)
        )
 SELECT q.name AS queue,
    s.slot,
    COALESCE(o.runner, ( SELECT r.runner
           FROM lockgate.runner r
          WHERE (r.backend_pid = o.pid)
          ORDER BY r.session DESC
         LIMIT 1)) AS runner,
    o.pid AS backend_pid,
    o.task,
    t.kind,
    round(EXTRACT(epoch FROM (clock_timestamp() - t.start_time)), 1) AS seconds,
    round(EXTRACT(epoch FROM (clock_timestamp() - o.state_change)), 1) AS seconds_silent
   FROM (((lockgate.queue q
     CROSS JOIN LATERAL ( SELECT generate_series(1, q.slots) AS slot
        UNION
         SELECT x.slot
           FROM seen x
          WHERE (x.queue = q.id)) s)
     LEFT JOIN seen o ON (((o.queue = q.id) AND (o.slot = s.slot))))
     LEFT JOIN lockgate.task t ON ((t.id = o.task)))
  ORDER BY q.name, s.slot;
COMMENT ON VIEW lockgate.slot_overview IS 'Slots: who holds each, what executes in it and for how long, and how long its holder''s session has been silent. Those above a number that was lowered stay until they are let go.';
CREATE VIEW lockgate.task_detail AS
 SELECT task.id,
    task.queue,
    task.kind,
    task.status,
    task.priority,
    task.create_time,
    task.run_at,
    task.start_time,
    task.finish_time,
    task.exec_time,
    task.attempt,
    task.max_attempts,
    task.timeout,
    task.slot,
    task.lease,
    task.runner,
    task.cancel_requested,
    task.payload,
    task.result,
    task.error,
    task.progress,
    task.tags,
    task.metadata,
    task.idempotency_key,
    task.dedupe_key
   FROM lockgate.task;
COMMENT ON VIEW lockgate.task_detail IS 'Tasks as the outside world sees them.';
ALTER TABLE lockgate.task ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME lockgate.task_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE VIEW lockgate.task_recent AS
 SELECT t.id,
    t.queue,
    t.kind,
    t.status,
    t.priority,
    ((t.attempt || '/'::text) || t.max_attempts) AS attempt,
    t.slot,
    round(EXTRACT(epoch FROM (clock_timestamp() - t.create_time)), 1) AS age,
    round((COALESCE(t.exec_time, (
        CASE
            WHEN (t.status = 'running'::lockgate.status) THEN EXTRACT(epoch FROM (clock_timestamp() - t.start_time))
            ELSE NULL::numeric
        END)::double precision))::numeric, 2) AS seconds,
    t.progress,
    "left"((((t.error ->> 'type'::text) || ': '::text) || (t.error ->> 'message'::text)), 60) AS error
   FROM ( SELECT task.id,
            task.queue,
            task.kind,
            task.status,
            task.priority,
            task.create_time,
            task.run_at,
            task.start_time,
            task.finish_time,
            task.exec_time,
            task.attempt,
            task.max_attempts,
            task.timeout,
            task.slot,
            task.lease,
            task.runner,
            task.session,
            task.grace,
            task.cancel_requested,
            task.payload,
            task.result,
            task.error,
            task.progress,
            task.tags,
            task.metadata,
            task.idempotency_scope,
            task.idempotency_key,
            task.request_digest,
            task.dedupe_key
           FROM lockgate.task
          ORDER BY task.id DESC
         LIMIT 40) t
  ORDER BY t.id DESC;
COMMENT ON VIEW lockgate.task_recent IS 'The 40 newest tasks, on one screen.';
INSERT INTO lockgate.attempt VALUES (2, 1, 2, 'failed', 'old-runner', 1, '2026-11-22 05:54:02.353529+00', '2026-11-22 05:54:02.353529+00', 0.1, '{"type": "E", "message": "m"}');
INSERT INTO lockgate.queue OVERRIDING SYSTEM VALUE VALUES (1, 'default', 2, false, 5, 3, NULL, 1, 300, 604800, NULL, '2026-11-22 05:54:02.194839+00');
INSERT INTO lockgate.queue OVERRIDING SYSTEM VALUE VALUES (2, 'gpu', 1, false, 5, 3, NULL, 1, 300, NULL, NULL, '2026-11-22 05:54:02.324344+00');
INSERT INTO lockgate.release VALUES (2, '2026-11-22 05:54:02.194839+00');
INSERT INTO lockgate.runner OVERRIDING SYSTEM VALUE VALUES (1, 'old-runner', 'host', 7, 14755, '0.1.0', 1, NULL, '{sleep}', '2026-11-22 05:54:02.342657+00');
INSERT INTO lockgate.task OVERRIDING SYSTEM VALUE VALUES (5, 'gpu', 'train', 'queued', 0, '2026-11-22 05:54:02.338073+00', '2026-11-22 05:54:02.338073+00', NULL, NULL, NULL, 0, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{"epochs": 3}', NULL, NULL, NULL, '{}', '{}', '', NULL, NULL, NULL);
INSERT INTO lockgate.task OVERRIDING SYSTEM VALUE VALUES (6, 'default', 'sleep', 'scheduled', 0, '2026-11-22 05:54:02.339369+00', '2026-11-22 07:54:02.339369+00', NULL, NULL, NULL, 0, 3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{"max": 3}', NULL, NULL, NULL, '{}', '{}', '', NULL, NULL, NULL);
INSERT INTO lockgate.task OVERRIDING SYSTEM VALUE VALUES (1, 'default', 'sleep', 'succeeded', 5, '2026-11-22 05:54:02.325002+00', '2026-11-22 05:54:02.325002+00', '2026-11-22 05:54:02.345566+00', '2026-11-22 05:54:02.345566+00', 2.5, 1, 3, NULL, NULL, 1, 'old-runner', 1, 5, NULL, '{"max": 3}', '{"slept": 3}', NULL, NULL, '{a,b}', '{"trace": "1"}', '', NULL, NULL, NULL);
INSERT INTO lockgate.task OVERRIDING SYSTEM VALUE VALUES (2, 'default', 'sleep', 'scheduled', 0, '2026-11-22 05:54:02.332845+00', '2026-11-22 05:54:03.470038+00', '2026-11-22 05:54:02.353529+00', NULL, 0.1, 1, 3, NULL, NULL, 2, 'old-runner', 1, 5, NULL, '{"max": 3}', NULL, '{"type": "E", "message": "m"}', NULL, '{}', '{}', '', 'first', 'c780d973-2dd5-bfec-ff77-5e617831c3eb', NULL);
INSERT INTO lockgate.task OVERRIDING SYSTEM VALUE VALUES (7, 'default', 'sleep', 'running', 0, '2026-11-22 05:54:02.340761+00', '2026-11-22 05:54:02.340761+00', '2026-11-22 05:54:02.35724+00', NULL, NULL, 1, 3, NULL, 2, 3, 'old-runner', 1, 5, NULL, '{"max": 3}', NULL, NULL, NULL, '{}', '{}', '', NULL, NULL, NULL);
INSERT INTO lockgate.task OVERRIDING SYSTEM VALUE VALUES (4, 'gpu', 'train', 'failed', 0, '2026-11-22 05:54:02.336692+00', '2026-11-22 05:54:02.336692+00', '2026-11-22 05:54:02.358464+00', '2026-11-22 05:54:02.358464+00', 0.1, 1, 3, NULL, NULL, 4, 'old-runner', 1, 5, NULL, '{"epochs": 3}', NULL, '{"type": "E", "message": "m"}', NULL, '{}', '{}', '', NULL, NULL, NULL);
INSERT INTO lockgate.task OVERRIDING SYSTEM VALUE VALUES (3, 'default', 'sleep', 'cancelled', 0, '2026-11-22 05:54:02.334894+00', '2026-11-22 06:54:02.334894+00', NULL, '2026-11-22 05:54:02.36036+00', NULL, 0, 3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{"max": 3}', NULL, NULL, NULL, '{}', '{}', '', NULL, NULL, 'hourly');
SELECT pg_catalog.setval('lockgate.lease', 4, true);
SELECT pg_catalog.setval('lockgate.queue_id_seq', 2, true);
SELECT pg_catalog.setval('lockgate.runner_session_seq', 1, true);
SELECT pg_catalog.setval('lockgate.task_id_seq', 7, true);
ALTER TABLE ONLY lockgate.queue
    ADD CONSTRAINT a_queue_name_is_unique UNIQUE (name);
ALTER TABLE ONLY lockgate.attempt
    ADD CONSTRAINT attempt_pkey PRIMARY KEY (task, lease);
ALTER TABLE ONLY lockgate.output
    ADD CONSTRAINT output_pkey PRIMARY KEY (task, lease);
ALTER TABLE ONLY lockgate.queue
    ADD CONSTRAINT queue_pkey PRIMARY KEY (id);
ALTER TABLE ONLY lockgate.runner
    ADD CONSTRAINT runner_pkey PRIMARY KEY (session);
ALTER TABLE ONLY lockgate.task
    ADD CONSTRAINT task_pkey PRIMARY KEY (id);
CREATE UNIQUE INDEX one_running_task_per_slot ON lockgate.task USING btree (queue, slot) WHERE (status = 'running'::lockgate.status);
COMMENT ON INDEX lockgate.one_running_task_per_slot IS 'Refuses a second running task in a slot, whatever the programs do.';
CREATE INDEX task_claim ON lockgate.task USING btree (queue, priority DESC, id) WHERE (status = 'queued'::lockgate.status);
CREATE UNIQUE INDEX task_dedupe ON lockgate.task USING btree (queue, dedupe_key) WHERE ((dedupe_key IS NOT NULL) AND (status = ANY (ARRAY['scheduled'::lockgate.status, 'queued'::lockgate.status, 'running'::lockgate.status])));
CREATE INDEX task_due ON lockgate.task USING btree (queue, run_at) WHERE (status = 'scheduled'::lockgate.status);
CREATE INDEX task_ended ON lockgate.task USING btree (queue, finish_time) WHERE (status = ANY (ARRAY['succeeded'::lockgate.status, 'failed'::lockgate.status, 'cancelled'::lockgate.status]));
CREATE INDEX task_failed ON lockgate.task USING btree (id) WHERE (status = 'failed'::lockgate.status);
CREATE UNIQUE INDEX task_idempotency ON lockgate.task USING btree (idempotency_scope, idempotency_key) WHERE (idempotency_key IS NOT NULL);
GRANT USAGE ON SCHEMA lockgate TO lockgate_service;
GRANT USAGE ON SCHEMA lockgate TO lockgate_runner;
GRANT USAGE ON SCHEMA lockgate TO lockgate_viewer;
REVOKE ALL ON FUNCTION lockgate.adopt(p_queue integer, p_slot integer, p_task bigint, p_lease bigint, p_session integer) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.adopt(p_queue integer, p_slot integer, p_task bigint, p_lease bigint, p_session integer) TO lockgate_runner;
GRANT SELECT ON TABLE lockgate.queue TO lockgate_viewer;
REVOKE ALL ON FUNCTION lockgate.backoff(p_queue lockgate.queue, p_attempt integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION lockgate.cancel(task bigint, force boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.cancel(task bigint, force boolean) TO lockgate_service;
REVOKE ALL ON FUNCTION lockgate.change_queue(queue text, settings jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.change_queue(queue text, settings jsonb) TO lockgate_service;
REVOKE ALL ON FUNCTION lockgate.claim(p_queue integer, p_slot integer, p_runner text, p_session integer) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.claim(p_queue integer, p_slot integer, p_runner text, p_session integer) TO lockgate_runner;
REVOKE ALL ON FUNCTION lockgate.create_queue(queue text, settings jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.create_queue(queue text, settings jsonb) TO lockgate_service;
REVOKE ALL ON FUNCTION lockgate.delete_queue(queue text) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.delete_queue(queue text) TO lockgate_service;
REVOKE ALL ON FUNCTION lockgate.delete_task(task bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.delete_task(task bigint) TO lockgate_service;
REVOKE ALL ON FUNCTION lockgate.deregister(p_session integer) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.deregister(p_session integer) TO lockgate_runner;
GRANT SELECT ON TABLE lockgate.task TO lockgate_viewer;
REVOKE ALL ON FUNCTION lockgate.end_task(p_row lockgate.task, p_status lockgate.status, p_error jsonb, p_exec_time double precision, p_adopted boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION lockgate.fail(p_task bigint, p_lease bigint, p_runner text, p_exec_time double precision, p_error jsonb, p_retry_after double precision, p_discard boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.fail(p_task bigint, p_lease bigint, p_runner text, p_exec_time double precision, p_error jsonb, p_retry_after double precision, p_discard boolean) TO lockgate_runner;
REVOKE ALL ON FUNCTION lockgate.finish(p_task bigint, p_lease bigint, p_runner text, p_exec_time double precision, p_result jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.finish(p_task bigint, p_lease bigint, p_runner text, p_exec_time double precision, p_result jsonb) TO lockgate_runner;
REVOKE ALL ON FUNCTION lockgate.finish_and_claim(p_task bigint, p_lease bigint, p_runner text, p_exec_time double precision, p_result jsonb, p_queue integer, p_slot integer, p_session integer) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.finish_and_claim(p_task bigint, p_lease bigint, p_runner text, p_exec_time double precision, p_result jsonb, p_queue integer, p_slot integer, p_session integer) TO lockgate_runner;
REVOKE ALL ON FUNCTION lockgate.give_back(p_task bigint, p_lease bigint, p_runner text) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.give_back(p_task bigint, p_lease bigint, p_runner text) TO lockgate_runner;
REVOKE ALL ON FUNCTION lockgate.holds_slot(p_queue integer, p_slot integer) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.holds_slot(p_queue integer, p_slot integer) TO lockgate_service;
GRANT ALL ON FUNCTION lockgate.holds_slot(p_queue integer, p_slot integer) TO lockgate_runner;
GRANT ALL ON FUNCTION lockgate.holds_slot(p_queue integer, p_slot integer) TO lockgate_viewer;
REVOKE ALL ON FUNCTION lockgate.lease_has_ended(p_task bigint, p_lease bigint, p_runner text) FROM PUBLIC;
REVOKE ALL ON FUNCTION lockgate.lock_class(p_queue integer) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.lock_class(p_queue integer) TO lockgate_service;
GRANT ALL ON FUNCTION lockgate.lock_class(p_queue integer) TO lockgate_runner;
GRANT ALL ON FUNCTION lockgate.lock_class(p_queue integer) TO lockgate_viewer;
REVOKE ALL ON FUNCTION lockgate.look(p_queues text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.look(p_queues text[]) TO lockgate_runner;
REVOKE ALL ON FUNCTION lockgate.occupied() FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.occupied() TO lockgate_service;
GRANT ALL ON FUNCTION lockgate.occupied() TO lockgate_runner;
GRANT ALL ON FUNCTION lockgate.occupied() TO lockgate_viewer;
REVOKE ALL ON FUNCTION lockgate.pause(queue text) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.pause(queue text) TO lockgate_service;
REVOKE ALL ON FUNCTION lockgate.promote(p_queue text) FROM PUBLIC;
REVOKE ALL ON FUNCTION lockgate.purge(queue text, batch integer) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.purge(queue text, batch integer) TO lockgate_service;
REVOKE ALL ON FUNCTION lockgate.put_back(p_row lockgate.task, p_outcome lockgate.attempt_outcome, p_delay double precision, p_error jsonb, p_exec_time double precision) FROM PUBLIC;
REVOKE ALL ON FUNCTION lockgate.reconfirm(p_queue integer, p_slot integer, p_runner text, p_session integer) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.reconfirm(p_queue integer, p_slot integer, p_runner text, p_session integer) TO lockgate_runner;
REVOKE ALL ON FUNCTION lockgate.register(p_runner text, p_host text, p_pid integer, p_version text, p_concurrency integer, p_queues text[], p_kinds text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.register(p_runner text, p_host text, p_pid integer, p_version text, p_concurrency integer, p_queues text[], p_kinds text[]) TO lockgate_runner;
REVOKE ALL ON FUNCTION lockgate.release_slot(p_queue integer, p_slot integer) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.release_slot(p_queue integer, p_slot integer) TO lockgate_runner;
REVOKE ALL ON FUNCTION lockgate.report_progress(p_task bigint, p_lease bigint, p_runner text, p_progress jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.report_progress(p_task bigint, p_lease bigint, p_runner text, p_progress jsonb) TO lockgate_runner;
REVOKE ALL ON FUNCTION lockgate.resume(queue text) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.resume(queue text) TO lockgate_service;
REVOKE ALL ON FUNCTION lockgate.retake_slot(p_queue integer, p_slot integer) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.retake_slot(p_queue integer, p_slot integer) TO lockgate_runner;
REVOKE ALL ON FUNCTION lockgate.retry(task bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.retry(task bigint) TO lockgate_service;
REVOKE ALL ON FUNCTION lockgate.schema_version() FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.schema_version() TO lockgate_service;
GRANT ALL ON FUNCTION lockgate.schema_version() TO lockgate_runner;
GRANT ALL ON FUNCTION lockgate.schema_version() TO lockgate_viewer;
REVOKE ALL ON FUNCTION lockgate.set_slots(queue text, slots integer) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.set_slots(queue text, slots integer) TO lockgate_service;
REVOKE ALL ON FUNCTION lockgate.submit(queue text, kind text, payload jsonb, priority integer, run_at timestamp with time zone, delay double precision, max_attempts integer, timeout double precision, tags text[], metadata jsonb, idempotency_key text, dedupe_key text) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.submit(queue text, kind text, payload jsonb, priority integer, run_at timestamp with time zone, delay double precision, max_attempts integer, timeout double precision, tags text[], metadata jsonb, idempotency_key text, dedupe_key text) TO lockgate_service;
REVOKE ALL ON FUNCTION lockgate.submit_batch(p_tasks jsonb, p_scope text) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.submit_batch(p_tasks jsonb, p_scope text) TO lockgate_service;
REVOKE ALL ON FUNCTION lockgate.take_slot(p_queue integer) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.take_slot(p_queue integer) TO lockgate_runner;
REVOKE ALL ON FUNCTION lockgate.tidy(p_batch integer) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.tidy(p_batch integer) TO lockgate_runner;
REVOKE ALL ON FUNCTION lockgate.wake(p_queue text) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.wake(p_queue text) TO lockgate_service;
REVOKE ALL ON FUNCTION lockgate.wake_later(p_queue text) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.wake_later(p_queue text) TO lockgate_service;
REVOKE ALL ON FUNCTION lockgate.watch() FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.watch() TO lockgate_service;
GRANT ALL ON FUNCTION lockgate.watch() TO lockgate_runner;
GRANT ALL ON FUNCTION lockgate.watch() TO lockgate_viewer;
REVOKE ALL ON FUNCTION lockgate.write_output(p_task bigint, p_lease bigint, p_text text) FROM PUBLIC;
GRANT ALL ON FUNCTION lockgate.write_output(p_task bigint, p_lease bigint, p_text text) TO lockgate_runner;
GRANT SELECT ON TABLE lockgate.attempt TO lockgate_viewer;
GRANT SELECT ON TABLE lockgate.attempt_detail TO lockgate_service;
GRANT SELECT ON TABLE lockgate.attempt_detail TO lockgate_viewer;
GRANT SELECT ON TABLE lockgate.failures TO lockgate_service;
GRANT SELECT ON TABLE lockgate.failures TO lockgate_viewer;
GRANT SELECT ON TABLE lockgate.output TO lockgate_viewer;
GRANT SELECT ON TABLE lockgate.output_detail TO lockgate_service;
GRANT SELECT ON TABLE lockgate.output_detail TO lockgate_viewer;
GRANT SELECT ON TABLE lockgate.queue_detail TO lockgate_service;
GRANT SELECT ON TABLE lockgate.queue_detail TO lockgate_viewer;
GRANT SELECT ON TABLE lockgate.queue_overview TO lockgate_service;
GRANT SELECT ON TABLE lockgate.queue_overview TO lockgate_viewer;
GRANT SELECT ON TABLE lockgate.release TO lockgate_viewer;
GRANT SELECT ON TABLE lockgate.runner TO lockgate_viewer;
GRANT SELECT ON TABLE lockgate.runner_overview TO lockgate_service;
GRANT SELECT ON TABLE lockgate.runner_overview TO lockgate_viewer;
GRANT SELECT ON TABLE lockgate.slot_overview TO lockgate_service;
GRANT SELECT ON TABLE lockgate.slot_overview TO lockgate_viewer;
GRANT SELECT ON TABLE lockgate.task_detail TO lockgate_service;
GRANT SELECT ON TABLE lockgate.task_detail TO lockgate_viewer;
GRANT SELECT ON TABLE lockgate.task_recent TO lockgate_service;
GRANT SELECT ON TABLE lockgate.task_recent TO lockgate_viewer;
