\set ON_ERROR_STOP on
-- Lockgate: the contract.
--
-- A task queue whose only moving part is Postgres. `submit` puts rows into `task`; runners take them out, one at a
-- time, each inside a slot of the task's queue. This file defines every status and every rule, as a type, a
-- constraint or a function. The programs on either side decode, call one function and encode.
--
-- Contents: types | tables | locks and slots | the life of a task (submit; promote, claim; finish; while it runs;
-- fail, requeue, adopt, reconfirm; cancel, retry, change, delete) | runner sessions | queues | views | chapters, each
-- a file in schema/ (bulk, lists, overviews, statistics, outbox, API keys) | roles: the index of the contract
--
--              submit (due now)                 claim                finish
--                ───────────────► queued ──────────────► running ──────────────► succeeded
--   submit (later)                  ▲  ▲                   │ │ │
--     ─────► scheduled ── promote ──┘  │ adopt, return     │ │ └── fail, no attempts left ─► failed
--                 ▲                    └───────────────────┤ │
--                 └──── fail: retry, after a back-off ─────┘ └── cancel ─► cancelled
--                                                                 (also from queued and scheduled)
--
-- A slot is a session-level advisory lock: class = lock_class(queue.id), object = the slot's number. The session that
-- holds slot k may claim into it. Three guards, each against a different failure:
--   the session lock       two runners never start work in one slot at once;
--   task.turn              a slot's claims are numbered. The next turn begins only after the latest has ended, and a
--                          turn is taken once: the table never shows more running tasks than slots;
--   task.lease             new and greater at each claim. Every write about a running task names its (id, lease,
--                          runner), so a runner that lost its slot without knowing changes nothing.
--
-- Only two may end a running row: its owner (finish, fail, return_task), after its handler answered or is dead; and an
-- adopter (adopt), which took the slot's lock and waited out the row's `grace` after it first saw that lock free.
-- The first to commit wins.
--
-- Promised: at most `slots` tasks of a queue execute at any moment; every accepted task is executed at least once
-- unless it is cancelled or its attempts are used up by dying runners; its outcome is recorded exactly once.
--
-- Errors have SQLSTATEs of our own:
--   LG001 unknown queue            LG004 this session does not hold the slot (or the lock of the outbox)
--   LG002 the lease is lost        LG005 this kind is not allowed in this queue
--   LG003 idempotency key reused   LG006 unknown task
--   LG007 not allowed in this status   LG008 the dedupe key is taken   LG009 the queue is not empty, or still served
--   LG010 unknown runner           LG011 the queue is full
--   LG012 an item of a batch is refused
-- A broken limit is 23514 (check_violation) and names its constraint, which is a sentence.
--
-- Notifications on channel `lockgate` say where to look and never carry a task: `queue NAME` (a task is due), `later
-- NAME` (a task is due within a minute), `cancel ID`, `slots NAME`, `drain RUNNER`. Correctness rests on the poll; a
-- notification only makes it early.
--
-- Times are timestamptz; every duration is a double in seconds. Parameters begin with p_ and locals with v_, except in
-- `submit`, `cancel` and the queue functions, whose parameter names people type.
--
-- `psql -1 -f schema.sql` applies this file and its chapters to an empty database. `lockgate migrate` does the same,
-- brings an older version forward, and mends roles and grants. `lockgate schema` prints all of it as one file without
-- psql commands.

create schema lockgate;
comment on schema lockgate is 'A task queue with a hard limit on what runs at once. Start at lockgate.task.';

-- Types --------------------------------------------------------------------------------------------------------------

-- A domain checks its limit when a value is written. A table constraint is read and checked by every update of a row,
-- and a task is updated twice.

create domain lockgate.kind text collate "C"
  constraint kind_is_1_to_200_characters check (length(value) between 1 and 200);
comment on domain lockgate.kind is 'Which handler executes a task.';
create domain lockgate.priority smallint
  constraint priority_is_between_minus_100_and_100 check (value between -100 and 100);
comment on domain lockgate.priority is 'Higher goes first.';
-- Years as every client can read them: RFC 3339 has four digits.
create domain lockgate.run_at timestamptz constraint run_at_is_within_the_years_1_to_9999
  check (value >= '0001-01-01 00:00:00+00' and value < '10000-01-01 00:00:00+00');
comment on domain lockgate.run_at is 'A time before which a task does not start.';
create domain lockgate.max_attempts int constraint max_attempts_are_1_to_1000 check (value between 1 and 1000);
comment on domain lockgate.max_attempts is 'How often a task is attempted.';
create domain lockgate.timeout double precision
  constraint timeout_is_positive_and_at_most_30_days check (value > 0 and value <= 2592000);
comment on domain lockgate.timeout is 'Seconds an attempt may take.';
create domain lockgate.idempotency_key text collate "C"
  constraint idempotency_key_is_1_to_200_characters check (length(value) between 1 and 200);
comment on domain lockgate.idempotency_key is 'The same for each repetition of one request.';
create domain lockgate.dedupe_key text collate "C"
  constraint dedupe_key_is_1_to_200_characters check (length(value) between 1 and 200);
comment on domain lockgate.dedupe_key is 'The same for tasks of which only one shall be unfinished.';

create type lockgate.status as enum (
  'scheduled',  -- submit with a later run_at; fail -> back-off. Waits outside the claim index.
  'queued',     -- submit; scheduled -> promote; running -> adopt, return_task
  'running',    -- queued -> claim
  'succeeded',  -- running -> finish
  'failed',     -- running -> fail, adopt (no attempts left)
  'cancelled'   -- scheduled, queued -> cancel; running -> fail, return_task, adopt once a cancel was asked
);
comment on type lockgate.status is 'Where a task is in its life.';

create type lockgate.cancel_mode as enum ('graceful', 'force');
comment on type lockgate.cancel_mode is
  'graceful: the handler is asked to stop, then killed; force: it is killed at once.';

create type lockgate.attempt_outcome as enum ('failed', 'adopted', 'returned');
comment on type lockgate.attempt_outcome is
  'How an attempt ended without ending its task: failed = will be retried; adopted = its runner was gone; '
  'returned = given back by a stopping runner, not counted.';

create type lockgate.submit_outcome as enum (
  'created', 'replayed', 'deduplicated', 'key_reused', 'unknown_queue', 'kind_refused', 'queue_full');
comment on type lockgate.submit_outcome is
  'What became of one submitted task. created; replayed = same idempotency key, same request: the first task; '
  'deduplicated = an unfinished task has this dedupe key; the others were refused and stored nothing.';

-- What a runner needs to execute a task it has claimed, and nothing else.
create type lockgate.claimed as (
  task bigint, lease bigint, queue text, kind text, payload jsonb, attempt int, max_attempts int,
  timeout double precision, grace double precision, cancel_requested lockgate.cancel_mode);
comment on type lockgate.claimed is 'A task as handed to the runner that claimed it.';

-- Tables -------------------------------------------------------------------------------------------------------------

create table lockgate.release (
  version int not null,
  digest text,
  applied_at timestamptz not null default now()
);
comment on table lockgate.release is 'One row: the version of this schema.';
comment on column lockgate.release.digest is
  'SHA-256 of the text that `lockgate schema` prints, without its last line; null = psql applied the files.';
insert into lockgate.release (version) values (1);

create table lockgate.queue (
  id int generated always as identity,
  name text collate "C" not null,
  slots int not null default 2,
  paused boolean not null default false,
  grace double precision not null default 5,
  max_attempts int not null default 3,
  timeout double precision,
  backoff_base double precision not null default 1,
  backoff_max double precision not null default 300,
  retention double precision default 604800,
  depth_max int,
  kinds text[],
  create_time timestamptz not null default now(),
  constraint queue_pkey primary key (id),
  constraint a_queue_name_is_unique unique (name),
  constraint a_queue_name_is_short_and_plain check (name ~ '^[a-z0-9][a-z0-9_.-]{0,62}$'),
  constraint slots_are_0_to_1000 check (slots between 0 and 1000),
  constraint grace_is_1_to_3600_seconds check (grace between 1 and 3600),
  constraint max_attempts_are_1_to_1000 check (max_attempts between 1 and 1000),
  constraint timeout_is_positive_and_at_most_30_days check (timeout > 0 and timeout <= 2592000),
  constraint backoff_is_0_to_30_days check (backoff_base between 0 and 2592000 and backoff_max between 0 and 2592000),
  constraint retention_is_not_negative check (retention >= 0 and retention <= 315360000),
  constraint depth_max_is_0_to_1000000 check (depth_max between 0 and 1000000)
);
comment on table lockgate.queue is
  'A queue is a pool of slots. Never renamed, ids never reused: both name its advisory locks.';
comment on column lockgate.queue.slots is
  'How many of its tasks may execute at once. Lowered, those above it end first.';
comment on column lockgate.queue.grace is
  'Seconds an adopter waits after it first saw a running task''s slot lock free; copied to the task at claim.';
comment on column lockgate.queue.timeout is 'Seconds one attempt may take, for tasks that name none; null = no limit.';
comment on column lockgate.queue.backoff_base is 'Seconds before the first retry; doubles with each attempt, +-20 %.';
comment on column lockgate.queue.backoff_max is 'Seconds no back-off exceeds, before the +-20 %.';
comment on column lockgate.queue.retention is 'Seconds an ended task is kept; null = for ever.';
comment on column lockgate.queue.depth_max is
  'How many tasks may wait, queued or scheduled, for more to be submitted; null = no limit. See remaining_depth.';
comment on column lockgate.queue.kinds is 'The kinds that may be submitted here; null = any.';
insert into lockgate.queue (name) values ('default');

-- Two numbers that only grow. A claim finds the newest index entry without reading the dead entries before it, which
-- stay for as long as any transaction anywhere is older than they are.

create function lockgate.claim_order(p_priority smallint, p_id bigint) returns bigint
language sql immutable
return p_id - (p_priority::bigint << 48);
comment on function lockgate.claim_order is
  'The order in which claims take the tasks of a queue, smallest first: higher priority, then smaller id.';

create function lockgate.first_turn(p_slot int) returns bigint
language sql immutable
return p_slot::bigint << 40;
comment on function lockgate.first_turn is
  'Turns of a slot lie between its own first turn and the first turn of the next slot.';

create table lockgate.task (
  id bigint generated always as identity,
  queue text collate "C" not null,
  kind lockgate.kind not null,
  status lockgate.status not null,
  priority lockgate.priority not null default 0,
  create_time timestamptz not null default now(),
  run_at lockgate.run_at not null default now(),
  start_time timestamptz,
  finish_time timestamptz,
  exec_time double precision,
  attempt int not null default 0,
  max_attempts lockgate.max_attempts not null,
  timeout lockgate.timeout,
  slot int,
  lease bigint,
  runner text,
  session int,
  grace double precision,
  cancel_requested lockgate.cancel_mode,
  payload jsonb not null,
  result jsonb,
  error jsonb,
  progress jsonb,
  tags text[] not null default '{}',
  metadata jsonb not null default '{}',
  idempotency_scope text collate "C" not null default '',
  idempotency_key lockgate.idempotency_key,
  request_digest uuid,
  dedupe_key lockgate.dedupe_key,
  turn bigint,
  constraint task_pkey primary key (id),
  constraint running_iff_it_has_a_slot check ((status = 'running') = (slot is not null)),
  constraint slot_is_1_to_1000 check (slot between 1 and 1000),
  constraint ended_iff_it_has_a_finish_time
    check ((status in ('succeeded', 'failed', 'cancelled')) = (finish_time is not null)),
  constraint started_before_it_runs
    check (status <> 'running' or (start_time is not null and turn is not null and lease is not null
                                   and runner is not null and session is not null and grace is not null
                                   and attempt > 0)),
  constraint a_turn_is_of_its_slot check (turn >> 40 = slot),
  constraint a_result_only_when_succeeded check (result is null or status = 'succeeded'),
  constraint a_failed_task_has_an_error check (status <> 'failed' or error is not null),
  constraint an_idempotency_key_has_its_digest check ((idempotency_key is null) = (request_digest is null))
);
comment on table lockgate.task is
  'One row per task. start_time, finish_time, exec_time, runner, lease and error are those of its latest attempt.';
comment on column lockgate.task.kind is 'Which handler executes it.';
comment on column lockgate.task.priority is 'Higher goes first; -100 to 100.';
comment on column lockgate.task.run_at is 'Not before this time.';
comment on column lockgate.task.exec_time is 'Seconds the latest attempt took, by its runner''s monotonic clock.';
comment on column lockgate.task.attempt is 'Attempts counted so far, the current one included.';
comment on column lockgate.task.timeout is 'Seconds one attempt may take; null = no limit.';
comment on column lockgate.task.slot is 'The slot it executes in; null unless running.';
comment on column lockgate.task.turn is
  'Which turn of its slot the latest attempt took. Stays when it has ended: a slot''s newest turn tells whether it is free.';
comment on column lockgate.task.lease is
  'The latest claim''s number: new and greater at each claim. Stays on ended rows.';
comment on column lockgate.task.runner is 'The name of the runner process of the latest attempt.';
comment on column lockgate.task.session is
  'That runner''s database session (runner.session), rewritten when it reconnects.';
comment on column lockgate.task.grace is 'queue.grace as it was at the claim: the number owner and adopter both use.';
comment on column lockgate.task.cancel_requested is 'How a running task was asked to stop; null = it was not.';
comment on column lockgate.task.error is '{"type", "message", "traceback"} of the latest attempt that did not succeed.';
comment on column lockgate.task.progress is 'What the handler last reported.';
comment on column lockgate.task.idempotency_key is 'Unique per scope for as long as the row lives.';
comment on column lockgate.task.request_digest is 'Digest of the request that came with the idempotency key.';
comment on column lockgate.task.dedupe_key is 'At most one unfinished task per queue and key.';

-- Each claim pays for each index. Their comments say what they serve; python -m bench.indexes says what they cost.
create index task_claim on lockgate.task (queue, lockgate.claim_order(priority, id)) where status = 'queued';
create unique index a_turn_is_taken_once on lockgate.task (queue, turn) where turn is not null;
create index task_due on lockgate.task (queue, run_at) where status = 'scheduled';
create unique index task_idempotency on lockgate.task (idempotency_scope, idempotency_key)
  where idempotency_key is not null;
create unique index task_dedupe on lockgate.task (queue, dedupe_key)
  where dedupe_key is not null and status in ('scheduled', 'queued', 'running');
create index task_ended on lockgate.task (queue, finish_time, id) where status in ('succeeded', 'failed', 'cancelled');
create index task_aside on lockgate.task (status, id) where status in ('scheduled', 'failed', 'cancelled');

comment on index lockgate.task_pkey is
  'Tasks by number; lists without a status or by times of creation.';
comment on index lockgate.task_claim is
  'lock_next, poll_queues, remaining_depth; a task''s position; lists and numbers of queued tasks.';
comment on index lockgate.a_turn_is_taken_once is
  'Refuses a second claim of a slot''s next turn, whatever the programs do. newest_turn, running; lists of running tasks.';
comment on index lockgate.task_due is
  'promote, poll_queues; numbers of scheduled tasks.';
comment on index lockgate.task_idempotency is
  'submit_batch: one task for each scope and idempotency key. Only tasks that have a key.';
comment on index lockgate.task_dedupe is
  'submit_batch: one unfinished task for each queue and dedupe key. Only tasks that have a key.';
comment on index lockgate.task_ended is
  'delete_expired, purge, roll_up, ended_since; lists by times of the end.';
comment on index lockgate.task_aside is
  'Lists of scheduled, failed or cancelled tasks; failures.';

-- Leases come from one sequence, so that they order the claims of all tasks: a handler may use its lease as a fencing
-- token for anything it touches elsewhere.
create sequence lockgate.lease;
comment on sequence lockgate.lease is 'The number of the latest claim.';

create table lockgate.attempt (
  task bigint not null,
  attempt int not null,
  lease bigint not null,
  outcome lockgate.attempt_outcome not null,
  runner text,
  slot int,
  start_time timestamptz,
  end_time timestamptz not null default now(),
  exec_time double precision,
  error jsonb,
  constraint attempt_pkey primary key (task, lease)
);
comment on table lockgate.attempt is
  'Attempts that ended without ending their task. A task that succeeds at its first attempt has none.';

create table lockgate.output (
  task bigint not null,
  lease bigint not null,
  text text not null,
  constraint output_pkey primary key (task, lease)
);
comment on table lockgate.output is 'What handlers printed: the last 64 KiB of each attempt that printed anything.';

create table lockgate.runner (
  session int generated always as identity,
  runner text not null,
  host text not null,
  pid int not null,
  backend_pid int not null,
  version text not null,
  concurrency int not null,
  queues text[],
  kinds text[] not null,
  since timestamptz not null default now(),
  draining boolean not null default false,
  schemas jsonb,
  constraint runner_pkey primary key (session)
);
comment on table lockgate.runner is
  'One row per runner session. A session is alive exactly while it holds its session lock: see runner_overview.';
comment on column lockgate.runner.session is
  'Number of the session, and object of its advisory lock (class lock_class(0)).';
comment on column lockgate.runner.runner is 'Name of the runner process; the same over reconnects, never reused.';
comment on column lockgate.runner.queues is 'The queues it serves; null = all.';
comment on column lockgate.runner.kinds is 'The kinds it has handlers for.';
comment on column lockgate.runner.draining is 'Whether the process was told to take no more tasks.';
comment on column lockgate.runner.schemas is
  'By kind: the JSON Schema of the payload, where the handler has type hints.';

-- Locks and slots ----------------------------------------------------------------------------------------------------

-- Class lock_class(0) is our own: object n > 0 is runner session n, 0 the chores, -1 `lockgate migrate`, -2 the
-- publisher of the outbox.

create function lockgate.lock_class(p_queue int) returns int
language sql immutable
return 1279721472 + p_queue;
comment on function lockgate.lock_class is 'Advisory lock class of a queue''s slots: a fixed base plus queue.id.';

-- pg_locks is the one place that tells without touching anything; a look at it takes 50 microseconds and more.
-- `queue` is a bigint, since other programs lock classes of any number.
create view lockgate.held_locks as
  select classid::bigint - lockgate.lock_class(0) as queue, objid::int as slot, pid
  from pg_locks
  where locktype = 'advisory' and granted and objsubid = 2 and classid >= lockgate.lock_class(0)::oid
    and database = (select oid from pg_database where datname = current_database());
comment on view lockgate.held_locks is
  'Held advisory locks of this schema: queue.id and slot; queue 0 is our own class.';

create function lockgate.holds_slot(p_queue int, p_slot int) returns boolean
language sql stable as $$
  select exists (
    select from lockgate.held_locks where queue = p_queue and slot = p_slot and pid = pg_backend_pid())
$$;
comment on function lockgate.holds_slot is 'Whether this session holds the lock of that slot.';

-- For claims, where every microsecond counts. The transaction's lock keeps all others out while the session's lock is
-- released, which tells whether it was held, and taken again. Nothing can come between: the lock's entry in shared
-- memory exists already.
create function lockgate.recheck_slot(p_queue int, p_slot int) returns boolean
language sql volatile as $$
  select pg_try_advisory_xact_lock(lockgate.lock_class(p_queue), p_slot)
    and pg_advisory_unlock(lockgate.lock_class(p_queue), p_slot)
    and pg_try_advisory_lock(lockgate.lock_class(p_queue), p_slot)
$$;
comment on function lockgate.recheck_slot is
  'Whether this session holds the lock of that slot; if so no other session can before this transaction has ended.';

-- One step into the index of turns, from its end: never the turns before, dead or alive. Inlined where it is called.
create function lockgate.newest_turn(p_queue text, p_slot int) returns setof lockgate.task
language sql stable as $$
  select * from lockgate.task
  where queue = p_queue and turn >= lockgate.first_turn(p_slot) and turn < lockgate.first_turn(p_slot + 1)
  order by turn desc limit 1
$$;
comment on function lockgate.newest_turn is 'The task that took the newest turn of that slot, running or not.';

create function lockgate.running() returns setof lockgate.task
language sql stable security definer set search_path = lockgate, pg_temp as $$
  select t.*
  from lockgate.queue q
  cross join lateral generate_series(1, greatest(q.slots, (
    select (t.turn >> 40)::int from lockgate.task t
    where t.queue = q.name and t.turn is not null order by t.turn desc limit 1))) s
  cross join lateral lockgate.newest_turn(q.name, s) t
  where t.status = 'running'
$$;
comment on function lockgate.running is 'The running tasks: at most one per slot.';

-- Called by a runner with room. Tries the free slots one by one by literal number, because a lock function in a WHERE
-- with a LIMIT locks rows that are never returned. Leaves a slot alone while its row still says running: its owner
-- may be reconnecting, and needs the lock free.
create function lockgate.take_slot(p_queue int) returns int
language plpgsql security definer set search_path = lockgate, pg_temp as $$
declare
  v_slot int;
begin
  for v_slot in
    select s
    from lockgate.queue q cross join generate_series(1, q.slots) s
    where q.id = p_queue and not q.paused
      and (select t.status from lockgate.newest_turn(q.name, s) t) is distinct from 'running'
      and not exists (select from lockgate.held_locks l where l.queue = q.id and l.slot = s)
    order by s
  loop
    if pg_try_advisory_lock(lockgate.lock_class(p_queue), v_slot) then
      return v_slot;
    end if;
  end loop;
  return null;
end
$$;
comment on function lockgate.take_slot is 'Takes the lock of a free slot of that queue; its number, or null.';

-- Called by a runner that wants one slot back after a reconnect, and by an adopter. Asks first: a session can take a
-- lock twice, and then has to release it twice.
create function lockgate.retake_slot(p_queue int, p_slot int) returns boolean
language sql volatile as $$
  select case when lockgate.holds_slot(p_queue, p_slot) then true
         else pg_try_advisory_lock(lockgate.lock_class(p_queue), p_slot) end
$$;
comment on function lockgate.retake_slot is 'Takes the lock of this slot; whether this session holds it now.';

create function lockgate.release_slot(p_queue int, p_slot int) returns boolean
language sql volatile as $$
  select case when lockgate.holds_slot(p_queue, p_slot)
         then pg_advisory_unlock(lockgate.lock_class(p_queue), p_slot) else false end
$$;
comment on function lockgate.release_slot is 'Frees the lock of this slot; whether this session held it.';

create function lockgate.pass_slot_on(p_queue int, p_slot int) returns boolean
language sql security definer set search_path = lockgate, pg_temp as $$
  select pg_notify('lockgate', 'slots ' || name) from lockgate.queue where id = p_queue;
  select lockgate.release_slot(p_queue, p_slot)
$$;
comment on function lockgate.pass_slot_on is
  'Frees the lock of this slot and notifies runners that stand by; whether this session held it.';

-- The life of a task: submit -----------------------------------------------------------------------------------------

-- plpgsql evaluates an assignment of this ten times as fast as a `perform`.
create function lockgate.refuse_size(p_what text, p_kib int) returns boolean
language plpgsql as $$
declare
  v_limit text := case when p_kib < 1024 then p_kib || ' KiB' else p_kib / 1024 || ' MiB' end;
begin
  raise exception '% larger than %', p_what, v_limit using errcode = '23514',
    constraint = replace(lower(format('%s at most %s', p_what, v_limit)), ' ', '_');
end
$$;
comment on function lockgate.refuse_size is 'Raises 23514: ''payload is'' with 1024 names payload_is_at_most_1_mib.';

-- Inlined where it is called, so a size that fits costs a comparison.
create function lockgate.check_size(p_what text, p_bytes int, p_kib int) returns boolean
language sql
return case when p_bytes > p_kib * 1024 then lockgate.refuse_size(p_what, p_kib) else true end;
comment on function lockgate.check_size is 'True, or raises 23514 if that is more than p_kib KiB.';

create function lockgate.due(p_status lockgate.status, p_run_at timestamptz) returns text
language sql stable
return case when p_status = 'queued' then 'now'
            when p_status = 'scheduled' and p_run_at < now() + interval '1 minute' then 'soon' end;
comment on function lockgate.due is
  'When a task is due: now; soon = within a minute, sooner than runners may look by themselves; null = later or never.';

create function lockgate.notify_due(p_queue text, p_due text) returns void
language sql as $$
  select pg_notify('lockgate', case p_due when 'now' then 'queue ' else 'later ' end || p_queue) where p_due is not null
$$;
comment on function lockgate.notify_due is
  'Tells idle runners that a task of that queue is due now or soon, as due() says.';

create function lockgate.merge_metadata(p_envelope jsonb, p_metadata jsonb) returns jsonb
language sql immutable
return case when p_envelope is null then p_metadata
            else p_envelope || coalesce(nullif(p_metadata, 'null'), '{}') end;
comment on function lockgate.merge_metadata is
  'Merges transport headers into metadata; the request''s own keys win.';

create function lockgate.digest(p_request jsonb) returns uuid
language sql immutable
return md5((p_request - '{envelope,idempotency_scope}'::text[])::text)::uuid;
comment on function lockgate.digest is 'Tells one request from another with the same idempotency key and scope.';

-- Counting is O(depth), so a session caches the count, with what it adds itself, for 20 times the time the count took;
-- depth_max is therefore approximate. Counts from the end of the index, where claims leave no dead entries.
create function lockgate.remaining_depth(p_queue lockgate.queue, p_wanted int) returns int
language plpgsql security definer set search_path = lockgate, pg_temp as $$
declare
  v_setting text := 'lockgate.depth_' || p_queue.id;
  v_begin double precision := extract(epoch from clock_timestamp());
  v_depth int := split_part(nullif(current_setting(v_setting, true), ''), ' ', 1)::int;
  v_until double precision := split_part(nullif(current_setting(v_setting, true), ''), ' ', 2)::double precision;
  v_room int;
begin
  if v_until is null or v_until < v_begin then
    select count(*) into v_depth from (
      select from lockgate.task where queue = p_queue.name and status = 'queued'
      order by lockgate.claim_order(priority, id) desc limit p_queue.depth_max) q;
    v_depth := v_depth + (select count(*) from (
      select from lockgate.task where queue = p_queue.name and status = 'scheduled'
      order by run_at limit p_queue.depth_max - v_depth) s);
    v_until := v_begin + 21 * (extract(epoch from clock_timestamp()) - v_begin);
  end if;
  v_room := least(p_wanted, greatest(p_queue.depth_max - v_depth, 0));
  perform set_config(v_setting, v_depth + v_room || ' ' || v_until, false);
  return v_room;
end
$$;
comment on function lockgate.remaining_depth is
  'How many of p_wanted more tasks fit under the queue''s depth_max; counts them as submitted.';

-- The only function that inserts tasks. p_tasks is a JSON array of objects with kind and optionally queue, payload,
-- priority, run_at or delay, max_attempts, timeout, tags, metadata, idempotency_key, dedupe_key, idempotency_scope
-- (instead of p_scope) and envelope: transport headers, which may differ when the same request is sent again. Either
-- every item gets an outcome or, if one breaks a limit, nothing is stored. Does not notify: callers do, once, after
-- they commit.
create function lockgate.submit_batch(p_tasks jsonb, p_scope text default '')
returns table (item int, task bigint, outcome lockgate.submit_outcome)
language plpgsql security definer set search_path = lockgate, pg_temp as $$
#variable_conflict use_column
declare
  v_queue lockgate.queue;
  v_payload int;  -- bytes of the largest
  v_metadata int;
  v_tags int;
  v_fits boolean;
  v_keyed boolean;
  v_over int[] := '{}';  -- items for which there is no room
  v_places int[];  -- of each item in the order of their keys; null without any
  v_open int[];
  v_ids bigint[];  -- for those, one each
  v_items int[];
  v_tasks bigint[];
  v_outcomes lockgate.submit_outcome[];
begin
  if jsonb_typeof(p_tasks) is distinct from 'array' then
    raise exception 'tasks must be a JSON array' using errcode = '22023';
  end if;
  select max(octet_length((e -> 'payload')::text)),
      max(octet_length(lockgate.merge_metadata(e -> 'envelope', e -> 'metadata')::text)),
      max(octet_length((e -> 'tags')::text)),
      bool_or(e ? 'idempotency_key' or e ? 'dedupe_key')
    into v_payload, v_metadata, v_tags, v_keyed from jsonb_array_elements(p_tasks) e;
  v_fits := lockgate.check_size('payload is', v_payload, 1024) and lockgate.check_size('metadata is', v_metadata, 16)
    and lockgate.check_size('tags are', v_tags, 4);
  if v_keyed then
    -- The order in which they are stored, or two batches with the same keys could wait for each other. Sorted without
    -- the rows, whose width would make it a fifth of the work.
    v_places := array(
      select place from (
        select i, row_number() over (order by
            e ->> 'idempotency_key', e ->> 'dedupe_key', coalesce(e ->> 'idempotency_scope', p_scope), i) as place
        from jsonb_array_elements(p_tasks) with ordinality t(e, i)) placed
      order by i);
  end if;
  v_open := array(select generate_series(1, jsonb_array_length(p_tasks)));
  for v_queue in select * from lockgate.queue where depth_max is not null loop
    v_items := array(
      select i from jsonb_array_elements(p_tasks) with ordinality t(e, i)
      where coalesce(e ->> 'queue', 'default') = v_queue.name order by i);
    if v_items <> '{}' then
      v_over := v_over || v_items[lockgate.remaining_depth(v_queue, cardinality(v_items)) + 1:];
    end if;
  end loop;

  for v_round in 1..5 loop
    exit when v_open = '{}';

    v_ids := array(select nextval('lockgate.task_id_seq') from unnest(v_open));
    with stored as (
      insert into lockgate.task (
        id, queue, kind, status, priority, run_at, max_attempts, timeout, payload, tags, metadata,
        idempotency_scope, idempotency_key, request_digest, dedupe_key)
      overriding system value
      select o.id, q.name, r.kind,
        case when d.due_time > now() then 'scheduled' else 'queued' end::lockgate.status,
        coalesce(r.priority, 0), d.due_time, coalesce(r.max_attempts, q.max_attempts),
        coalesce(r.timeout, q.timeout), coalesce(r.payload, '{}'), coalesce(r.tags, '{}'),
        coalesce(lockgate.merge_metadata(r.envelope, r.metadata), '{}'), coalesce(r.idempotency_scope, p_scope),
        r.idempotency_key, case when r.idempotency_key is not null then lockgate.digest(p_tasks -> (o.i - 1)) end,
        r.dedupe_key
      from unnest(v_open, v_ids) o(i, id)
      cross join lateral jsonb_to_record(p_tasks -> (o.i - 1)) as r (
        queue text, kind text, payload jsonb, priority smallint, run_at timestamptz, delay double precision,
        max_attempts int, timeout double precision, tags text[], metadata jsonb, envelope jsonb,
        idempotency_key text, idempotency_scope text, dedupe_key text)
      cross join lateral (select coalesce(r.run_at, now() + r.delay * interval '1 second', now()) as due_time) d
      join lockgate.queue q on q.name = coalesce(r.queue, 'default')
      where (q.kinds is null or r.kind = any (q.kinds)) and o.i <> all (v_over)
      order by v_places[o.i]
      on conflict do nothing
      returning id
    )
    select coalesce(array_agg(o.i), '{}'), array_agg(o.id), array_agg('created'::lockgate.submit_outcome)
      into v_items, v_tasks, v_outcomes
      from unnest(v_open, v_ids) o(i, id) join stored s on s.id = o.id;
    return query select * from unnest(v_items, v_tasks, v_outcomes);
    if cardinality(v_items) = cardinality(v_open) then
      return;
    end if;
    v_open := array(select i from unnest(v_open) i where i <> all (v_items) order by i);

    -- An item that was not stored met a key or a rule. This statement sees what a rival committed meanwhile. If the
    -- rival rolled back, its item stays open for another round.
    select coalesce(array_agg(i), '{}'),
        array_agg(case when found not in ('unknown_queue', 'kind_refused') then id end), array_agg(found)
      into v_items, v_tasks, v_outcomes
    from (
      select i, coalesce(same_key.id, same_dedupe.id) as id, case
          when same_key.request_digest = lockgate.digest(e) then 'replayed'
          when q.name is null then 'unknown_queue'
          when q.kinds is not null and (e ->> 'kind' = any (q.kinds)) is not true then 'kind_refused'
          when same_key.id is not null then 'key_reused'
          when same_dedupe.id is not null then 'deduplicated'
          when i = any (v_over) then 'queue_full'
        end::lockgate.submit_outcome as found
      from unnest(v_open) i
      cross join lateral (select p_tasks -> (i - 1) as e) one
      left join lockgate.queue q on q.name = coalesce(e ->> 'queue', 'default')
      left join lockgate.task same_key
        on same_key.idempotency_scope = coalesce(e ->> 'idempotency_scope', p_scope)
        and same_key.idempotency_key = e ->> 'idempotency_key'
      left join lockgate.task same_dedupe
        on same_dedupe.queue = q.name and same_dedupe.dedupe_key = e ->> 'dedupe_key'
        and same_dedupe.status in ('scheduled', 'queued', 'running')
    ) judged
    where found is not null;
    if v_outcomes && '{replayed, deduplicated}' then
      -- The first task may be committed without having reached a synchronous standby: its wait was cancelled, or cut
      -- short by a restart. We wait for that here; only a transaction that writes does wait.
      perform pg_logical_emit_message(true, 'lockgate', '');
    end if;
    return query select * from unnest(v_items, v_tasks, v_outcomes);
    v_open := array(select i from unnest(v_open) i where i <> all (v_items) order by i);
  end loop;

  if v_open <> '{}' then
    raise exception 'the keys of item % keep changing hands', v_open[1] using errcode = '40001';
  end if;
end
$$;
comment on function lockgate.submit_batch is
  'Submits a JSON array of tasks; one row per item: its number from 1, the task, the outcome. Does not notify.';

-- For people, and for SQL in a transaction of your own: raises instead of returning an outcome, and notifies. The
-- notification serialises commits; `set lockgate.notify = off` leaves it to the poll.
create function lockgate.submit(
  queue text, kind text, payload jsonb default '{}', priority int default null, run_at timestamptz default null,
  delay double precision default null, max_attempts int default null, timeout double precision default null,
  tags text[] default null, metadata jsonb default null, idempotency_key text default null,
  dedupe_key text default null)
returns bigint
language plpgsql security definer set search_path = lockgate, pg_temp as $$
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
    when 'queue_full' then
      raise exception 'queue "%" is full', coalesce(queue, 'default') using errcode = 'LG011',
        hint = 'submit again later, or raise its depth_max';
    when 'key_reused' then
      raise exception 'idempotency key "%" was used for another request, task %', idempotency_key, v_item.task
        using errcode = 'LG003';
    when 'created' then
      if current_setting('lockgate.notify', true) is distinct from 'off' then
        perform lockgate.notify_due(t.queue, lockgate.due(t.status, t.run_at))
          from lockgate.task t where t.id = v_item.task;
      end if;
    else null;
  end case;
  return v_item.task;
end
$$;
comment on function lockgate.submit is
  'Submits one task and returns its number: select submit(''default'', ''sleep'', ''{"max": 3}'', priority => 5). '
  'Takes part in your transaction.';

-- The life of a task: promote, claim ---------------------------------------------------------------------------------

create function lockgate.promote(p_queue text) returns int
language sql security definer set search_path = lockgate, pg_temp as $$
  with due as materialized (
    select id from lockgate.task
    where queue = p_queue and status = 'scheduled' and run_at <= now()
    order by run_at limit 100 for no key update skip locked
  ), moved as (
    update lockgate.task t set status = 'queued' from due where t.id = due.id returning 1
  )
  select count(*)::int from moved
$$;
comment on function lockgate.promote is
  'scheduled -> queued for at most 100 tasks whose time has come; called by every claim. How many it moved.';

-- The statement that takes a task. `skip locked`: two claims never wait for each other; each gets the first task that
-- no other has locked. `for update` keeps nobody else waiting: no foreign key refers to task, and cancel, change_task
-- and delete_task wait for any lock. Only write_output locks `for key share`. A claim passes by a task to whose
-- former attempt it is adding output just then, and takes it only if it finds no other.
--
-- Claims leave dead index entries where they took tasks, at the head of each priority. The entries stay while any
-- transaction is older than they are. If a look from the very beginning read more than 100 of them, this session
-- starts for a while at its heads: where it was last in each priority, kept in settings of the session. A task that
-- came in further ahead meanwhile (requeued, promoted, retried, committed late) is found by the next look from the
-- beginning: if the heads lead to nothing, and otherwise as often as takes a twentieth of the time.
create function lockgate.lock_next(p_queue int, p_name text) returns tid
language plpgsql as $$
declare
  v_heads_setting text := 'lockgate.heads_' || p_queue;
  v_short_setting text := 'lockgate.short_until_' || p_queue;
  v_heads bigint[] := coalesce(nullif(current_setting(v_heads_setting, true), ''), '{}')::bigint[];  -- ascending
  v_short_until text := nullif(current_setting(v_short_setting, true), '');
  v_begin timestamptz := clock_timestamp();
  v_read bigint;
  v_from bigint := lockgate.claim_order(101::smallint, 0);
  v_place tid;
  v_order bigint;
  v_i int := 1;
begin
  if v_begin < v_short_until::timestamptz then
    for v_n in 1 .. cardinality(v_heads) + 1 loop  -- from each head to where the next head's priority begins
      select ctid, lockgate.claim_order(priority, id) into v_place, v_order from lockgate.task
      where queue = p_name and status = 'queued' and lockgate.claim_order(priority, id) >= v_from
        and lockgate.claim_order(priority, id)
          < coalesce((v_heads[v_n] >> 48) << 48, lockgate.claim_order((-101)::smallint, 0))
      order by lockgate.claim_order(priority, id) for update skip locked limit 1;
      exit when found;
      v_from := v_heads[v_n];
    end loop;
  end if;
  if v_place is null then
    v_read := pg_stat_get_xact_tuples_returned('lockgate.task_claim'::regclass);
    select ctid, lockgate.claim_order(priority, id) into v_place, v_order
    from lockgate.task
    where queue = p_name and status = 'queued'
    order by lockgate.claim_order(priority, id)
    for update skip locked
    limit 1;
    if pg_stat_get_xact_tuples_returned('lockgate.task_claim'::regclass) - v_read > 100 then
      perform set_config(v_short_setting, (clock_timestamp() + 20 * (clock_timestamp() - v_begin))::text, false);
    elsif v_short_until is not null then
      perform set_config(v_short_setting, '', false);
    end if;
  end if;
  if v_place is null then  -- but those that write_output has locked `for key share`
    select ctid, lockgate.claim_order(priority, id) into v_place, v_order from lockgate.task
    where queue = p_name and status = 'queued'
    order by lockgate.claim_order(priority, id) for no key update skip locked limit 1;
  end if;
  if v_place is not null then
    while v_heads[v_i] >> 48 < v_order >> 48 loop
      v_i := v_i + 1;
    end loop;
    if v_heads[v_i] >> 48 = v_order >> 48 then
      v_heads[v_i] := v_order;
    else
      v_heads := v_heads[:v_i - 1] || v_order || v_heads[v_i:];
    end if;
    perform set_config(v_heads_setting, v_heads::text, false);
  end if;
  return v_place;
end
$$;
comment on function lockgate.lock_next is
  'Locks the queued task that goes first in that queue, of those that no other session has locked; its ctid, or null.';

-- Reads the slot's newest turn once, for both, by newest_turn's statement: the function costs a claim 2 %. Checks the
-- slot after it has recorded the end: LG002, a lost lease, is the graver error.
create function lockgate.finish_and_claim(
  p_task bigint, p_lease bigint, p_runner text, p_exec_time double precision, p_result jsonb,
  p_queue int, p_slot int, p_session int)
returns setof lockgate.claimed
language plpgsql security definer set search_path = lockgate, pg_temp as $$
declare
  v_queue lockgate.queue;
  v_turn bigint;
  v_lease bigint;
  v_status lockgate.status;
  v_next tid;
begin
  select * into v_queue from lockgate.queue where id = p_queue;
  select turn, lease, status into v_turn, v_lease, v_status from lockgate.task
    where queue = v_queue.name and turn >= lockgate.first_turn(p_slot) and turn < lockgate.first_turn(p_slot + 1)
    order by turn desc limit 1;
  if p_lease = v_lease then
    perform lockgate.finish(p_task, p_lease, p_runner, p_exec_time, p_result, v_queue.name, v_turn);
    v_status := 'succeeded';
  elsif p_task is not null then
    perform lockgate.finish(p_task, p_lease, p_runner, p_exec_time, p_result);
  end if;
  if not lockgate.recheck_slot(p_queue, p_slot) then
    raise exception 'session % does not hold slot % of queue %', p_session, p_slot, p_queue using errcode = 'LG004',
      hint = 'take the slot first, on this connection';
  end if;
  if v_queue.paused is not false or p_slot not between 1 and v_queue.slots or v_status = 'running' then
    return;
  end if;
  perform set_config('synchronous_commit', 'on', true);
  -- In the order of task_due: asked for any due row, a plan that expects many reads the whole table to find none.
  if (select run_at from lockgate.task where queue = v_queue.name and status = 'scheduled' order by run_at limit 1)
      <= now() then
    perform lockgate.promote(v_queue.name);
  end if;
  v_next := lockgate.lock_next(p_queue, v_queue.name);
  if v_next is null then
    return;
  end if;
  return query
  update lockgate.task t
  set status = 'running', slot = p_slot, turn = coalesce(v_turn, lockgate.first_turn(p_slot)) + 1,
    lease = nextval('lockgate.lease'), runner = p_runner, session = p_session, grace = v_queue.grace,
    attempt = t.attempt + 1, start_time = now(), exec_time = null, error = null, progress = null
  where t.ctid = v_next
  returning t.id, t.lease, t.queue, t.kind::text, t.payload, t.attempt, t.max_attempts::int,
    t.timeout::double precision, t.grace, t.cancel_requested;
end
$$;
comment on function lockgate.finish_and_claim is
  'finish, then claim the next task into the same slot: one round trip, one commit.';

create function lockgate.claim(p_queue int, p_slot int, p_runner text, p_session int)
returns setof lockgate.claimed
language sql security definer set search_path = lockgate, pg_temp as $$
  select * from lockgate.finish_and_claim(null, null, p_runner, null, null, p_queue, p_slot, p_session)
$$;
comment on function lockgate.claim is
  'queued -> running: the next task of that queue into a slot this session holds. Nothing while the queue is paused, '
  'the slot is above its number, or the slot''s last task still says running.';

-- The life of a task: finish -----------------------------------------------------------------------------------------

create function lockgate.lock_attempt(p_task bigint, p_lease bigint, p_runner text) returns lockgate.task
language plpgsql security definer set search_path = lockgate, pg_temp as $$
declare
  v_row lockgate.task;
begin
  select * into v_row from lockgate.task where id = p_task and lease = p_lease and runner = p_runner for no key update;
  if not found then
    raise exception 'lease % of task % is lost', p_lease, p_task using errcode = 'LG002',
      hint = 'the slot was adopted; drop the result';
  end if;
  if v_row.status <> 'running' then
    perform lockgate.wait_until_durable();  -- its end is recorded: the answer to an earlier call was lost
  end if;
  return v_row;
end
$$;
comment on function lockgate.lock_attempt is
  'Locks the row of that lease; it is no longer running if its end is already recorded. LG002 if the lease is lost.';

-- Finds the row by its turn: the index of turns holds no task that waits, so it stays small where millions do.
create function lockgate.finish(
  p_task bigint, p_lease bigint, p_runner text, p_exec_time double precision, p_result jsonb,
  p_queue text default null, p_turn bigint default null)
returns boolean
language plpgsql security definer set search_path = lockgate, pg_temp as $$
declare
  v_fits boolean := lockgate.check_size('result is', octet_length(p_result::text), 1024);
begin
  if p_turn is null then
    select queue, turn into p_queue, p_turn from lockgate.task where id = p_task;
  end if;
  perform set_config('synchronous_commit', 'on', true);
  update lockgate.task
  set status = 'succeeded', slot = null, finish_time = now(), exec_time = p_exec_time, result = p_result
  where queue = p_queue and turn = p_turn
    and id = p_task and lease = p_lease and runner = p_runner and status = 'running';
  if not found then
    perform lockgate.lock_attempt(p_task, p_lease, p_runner);
    return false;
  end if;
  return true;
end
$$;
comment on function lockgate.finish is
  'running -> succeeded. False if this lease''s end was already recorded; LG002 if the lease is lost. p_queue and p_turn '
  'where they are known.';

-- Every session sees a commit whose wait for a standby was cancelled, or cut short by a restart, but it is not safe
-- yet. Only a transaction that writes waits, and a standby that has its commit has all those before.
create function lockgate.wait_until_durable() returns void
language plpgsql security definer set search_path = lockgate, pg_temp as $$
begin
  perform set_config('synchronous_commit', 'on', true);
  perform pg_logical_emit_message(true, 'lockgate', '');
end
$$;
comment on function lockgate.wait_until_durable is
  'Returns when all earlier commits are safe: on disk, and on the disks of synchronous standbys.';

-- The life of a task: while it runs ----------------------------------------------------------------------------------

create function lockgate.report_progress(p_task bigint, p_lease bigint, p_runner text, p_progress jsonb)
returns boolean
language plpgsql security definer set search_path = lockgate, pg_temp as $$
begin
  perform lockgate.check_size('progress is', octet_length(p_progress::text), 16);
  update lockgate.task set progress = p_progress
  where id = p_task and lease = p_lease and runner = p_runner and status = 'running';
  return found;
end
$$;
comment on function lockgate.report_progress is
  'Stores what a handler reported last; false when the lease is lost or its end recorded.';

-- Locks the row against its deletion, which would not see this output and leave it behind for ever. Other functions
-- lock rows `for no key update`, which does not wait for this; lock_next passes the row by.
create function lockgate.write_output(p_task bigint, p_lease bigint, p_text text) returns void
language sql security definer set search_path = lockgate, pg_temp as $$
  insert into lockgate.output as o (task, lease, text)
  select id, p_lease, right(p_text, 65536) from lockgate.task where id = p_task for key share
  on conflict (task, lease) do update set text = right(o.text || excluded.text, 65536)
$$;
comment on function lockgate.write_output is
  'Adds to what an attempt printed, of which the last 65,536 characters are kept. Nothing for a task that is gone.';

-- The life of a task: fail, requeue, adopt, reconfirm ----------------------------------------------------------------

create function lockgate.backoff(p_queue lockgate.queue, p_attempt int) returns double precision
language sql volatile as $$
  select least(p_queue.backoff_max, p_queue.backoff_base * 2.0 ^ least(p_attempt - 1, 60)) * (0.8 + 0.4 * random())
$$;
comment on function lockgate.backoff is
  'Seconds before the attempt after this one: backoff_base, doubled per attempt, at most backoff_max, +-20 %.';

-- Puts a running row that its caller has locked back into the queue, and keeps a record of the attempt.
create function lockgate.requeue(
  p_row lockgate.task, p_outcome lockgate.attempt_outcome, p_delay double precision, p_error jsonb,
  p_exec_time double precision)
returns lockgate.status
language plpgsql security definer set search_path = lockgate, pg_temp as $$
declare
  v_status lockgate.status := case when p_delay > 0 then 'scheduled' else 'queued' end;
  v_run_at timestamptz := now() + p_delay * interval '1 second';
begin
  insert into lockgate.attempt (task, attempt, lease, outcome, runner, slot, start_time, exec_time, error)
    values (p_row.id, p_row.attempt, p_row.lease, p_outcome, p_row.runner, p_row.slot, p_row.start_time, p_exec_time,
            p_error);
  -- An adopted row gets a lease of its own, so that its old owner is told "lost" and not "already recorded".
  update lockgate.task
  set status = v_status, slot = null, run_at = v_run_at, error = p_error,
    exec_time = p_exec_time, progress = null,
    attempt = p_row.attempt - case when p_outcome = 'returned' then 1 else 0 end,
    lease = case when p_outcome = 'adopted' then nextval('lockgate.lease') else p_row.lease end
  where id = p_row.id;
  perform lockgate.notify_due(p_row.queue, lockgate.due(v_status, v_run_at));
  return v_status;
end
$$;
comment on function lockgate.requeue is
  'running -> queued or, with a delay, scheduled; writes the attempt. For fail, return_task and adopt.';

-- Ends a running row that its caller has locked, without success.
create function lockgate.end_task(
  p_row lockgate.task, p_status lockgate.status, p_error jsonb, p_exec_time double precision, p_adopted boolean)
returns lockgate.status
language plpgsql security definer set search_path = lockgate, pg_temp as $$
begin
  update lockgate.task
  set status = p_status, slot = null, finish_time = now(), exec_time = p_exec_time, error = p_error,
    lease = case when p_adopted then nextval('lockgate.lease') else p_row.lease end
  where id = p_row.id;
  return p_status;
end
$$;
comment on function lockgate.end_task is
  'running -> failed or cancelled. For fail, return_task and adopt.';

create function lockgate.fail(
  p_task bigint, p_lease bigint, p_runner text, p_exec_time double precision, p_error jsonb,
  p_retry_after double precision default null, p_discard boolean default false)
returns lockgate.status
language plpgsql security definer set search_path = lockgate, pg_temp as $$
declare
  v_row lockgate.task;
  v_queue lockgate.queue;
  v_delay double precision;
begin
  perform set_config('synchronous_commit', 'on', true);
  v_row := lockgate.lock_attempt(p_task, p_lease, p_runner);
  if v_row.status <> 'running' then
    return v_row.status;
  end if;
  if v_row.cancel_requested is not null then
    return lockgate.end_task(v_row, 'cancelled', p_error, p_exec_time, false);
  end if;
  if p_discard or v_row.attempt >= v_row.max_attempts then
    return lockgate.end_task(v_row, 'failed', p_error, p_exec_time, false);
  end if;
  select * into strict v_queue from lockgate.queue where name = v_row.queue;
  -- Whatever delay a handler asks for, its failure is recorded: NaN counts as none, and 30 days is the most.
  v_delay := coalesce(nullif(p_retry_after, 'NaN'), lockgate.backoff(v_queue, v_row.attempt));
  return lockgate.requeue(v_row, 'failed', least(greatest(v_delay, 0), 2592000), p_error, p_exec_time);
end
$$;
comment on function lockgate.fail is
  'running -> scheduled after a back-off (or p_retry_after seconds), failed when discarded or without attempts left, '
  'cancelled when that was asked. The status now; LG002 if the lease is lost.';

create function lockgate.return_task(p_task bigint, p_lease bigint, p_runner text) returns lockgate.status
language plpgsql security definer set search_path = lockgate, pg_temp as $$
declare
  v_row lockgate.task;
begin
  v_row := lockgate.lock_attempt(p_task, p_lease, p_runner);
  if v_row.status <> 'running' then
    return v_row.status;
  end if;
  if v_row.cancel_requested is not null then
    return lockgate.end_task(v_row, 'cancelled', null, null, false);
  end if;
  return lockgate.requeue(v_row, 'returned', 0, null, null);
end
$$;
comment on function lockgate.return_task is
  'running -> queued, the attempt not counted: for a runner that stops. The status now; LG002 if the lease is lost.';

-- Called by a runner that saw this row's slot lock free, with lease and session unchanged, for the row's grace, and
-- then took the lock. Re-reads the row: only then is it certain that no session holds it.
create function lockgate.adopt(p_queue int, p_slot int, p_task bigint, p_lease bigint, p_session int)
returns lockgate.status
language plpgsql security definer set search_path = lockgate, pg_temp as $$
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
  select * into v_queue from lockgate.queue where id = p_queue;
  select * into v_row from lockgate.task
    where id = p_task and lease = p_lease and session = p_session and slot = p_slot and queue = v_queue.name
      and status = 'running'
    for no key update;
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
  -- The first death may be bad luck; a second in a row backs off, or a poison task would fell one runner after
  -- another.
  select outcome = 'adopted' into v_again from lockgate.attempt where task = p_task order by lease desc limit 1;
  return lockgate.requeue(
    v_row, 'adopted', case when v_again then lockgate.backoff(v_queue, v_row.attempt) else 0 end, v_error, null);
end
$$;
comment on function lockgate.adopt is
  'running -> queued for a task whose runner is gone, the attempt counted; failed when that was its last, cancelled '
  'when that was asked. The status now, or null if the row is no longer as it was seen.';

-- Called by a runner that reconnected and took one of its slots again. Finds the row by slot and runner, so also a
-- task that finish_and_claim gave it in an answer that was lost: the lease tells which.
create function lockgate.reconfirm(p_queue int, p_slot int, p_runner text, p_session int)
returns setof lockgate.claimed
language plpgsql security definer set search_path = lockgate, pg_temp as $$
begin
  if not lockgate.holds_slot(p_queue, p_slot) then
    raise exception 'session % does not hold slot % of queue %', p_session, p_slot, p_queue using errcode = 'LG004',
      hint = 'take the slot first, on this connection';
  end if;
  -- Never waits for a standby, like register. An adopter sees the mark on this server; on a standby that was promoted
  -- without it, the adopter has only begun to wait.
  perform set_config('synchronous_commit', 'local', true);
  return query
  update lockgate.task t set session = p_session
  from lockgate.queue q, lateral lockgate.newest_turn(q.name, p_slot) newest
  where q.id = p_queue and t.id = newest.id and t.status = 'running' and t.runner = p_runner
  returning t.id, t.lease, t.queue, t.kind::text, t.payload, t.attempt, t.max_attempts::int,
    t.timeout::double precision, t.grace, t.cancel_requested;
end
$$;
comment on function lockgate.reconfirm is
  'Marks the running task of this slot and runner with its new session, which ends every adopter''s wait for it. Call '
  'wait_until_durable before you start a task that you find this way.';

-- The life of a task: cancel, retry, change, delete ------------------------------------------------------------------

create function lockgate.lock_task(p_task bigint) returns lockgate.task
language plpgsql security definer set search_path = lockgate, pg_temp as $$
declare
  v_row lockgate.task;
begin
  select * into v_row from lockgate.task where id = p_task for no key update;
  if not found then
    raise exception 'there is no task %', p_task using errcode = 'LG006';
  end if;
  return v_row;
end
$$;
comment on function lockgate.lock_task is 'Locks a task and returns it; LG006 if there is none.';

create function lockgate.cancel(task bigint, force boolean default false) returns lockgate.status
language plpgsql security definer set search_path = lockgate, pg_temp as $$
declare
  v_status lockgate.status;
begin
  v_status := (lockgate.lock_task(task)).status;
  if v_status in ('scheduled', 'queued') then
    update lockgate.task t set status = 'cancelled', finish_time = now() where t.id = cancel.task;
    return 'cancelled';
  end if;
  if v_status = 'running' then
    update lockgate.task t
    set cancel_requested = greatest(
      t.cancel_requested, case when force then 'force' else 'graceful' end::lockgate.cancel_mode)
    where t.id = cancel.task;
    perform pg_notify('lockgate', 'cancel ' || task);
  end if;
  return v_status;
end
$$;
comment on function lockgate.cancel is
  'Cancels a waiting task at once; asks a running one to stop (force: kills it). The status now: running means asked.';

create function lockgate.retry(task bigint) returns void
language plpgsql security definer set search_path = lockgate, pg_temp as $$
declare
  v_row lockgate.task;
begin
  v_row := lockgate.lock_task(task);
  if v_row.status not in ('failed', 'cancelled') then
    raise exception 'task % is %: only a failed or cancelled task can be retried', task, v_row.status
      using errcode = 'LG007';
  end if;
  -- The attempt that ended the task, unless it has put the task back before: then it is on record.
  if v_row.attempt > 0 and not exists (
      select from lockgate.attempt a
      where a.task = v_row.id and a.attempt = v_row.attempt and a.outcome <> 'returned') then
    insert into lockgate.attempt (task, attempt, lease, outcome, runner, start_time, end_time, exec_time, error)
      values (v_row.id, v_row.attempt, v_row.lease, 'failed', v_row.runner, v_row.start_time, v_row.finish_time,
              v_row.exec_time, v_row.error);
  end if;
  perform lockgate.keep_uncounted(v_row);
  update lockgate.task t
  set status = 'queued', finish_time = null, run_at = now(), cancel_requested = null, progress = null,
    max_attempts = least(greatest(t.max_attempts, t.attempt + 1), 1000)
  where t.id = retry.task;
  perform lockgate.notify_due(v_row.queue, 'now');
exception when unique_violation then
  raise exception 'another unfinished task of queue "%" has dedupe key "%"', v_row.queue, v_row.dedupe_key
    using errcode = 'LG008';
end
$$;
comment on function lockgate.retry is
  'failed, cancelled -> queued, due now, with at least one more attempt; its attempts so far are kept. LG007 for others.';

create function lockgate.change_task(task bigint, changes jsonb) returns void
language plpgsql security definer set search_path = lockgate, pg_temp as $$
declare
  v_unknown text;
  v_row lockgate.task;
  v_new record;
begin
  select k into v_unknown from jsonb_object_keys(changes - '{priority,run_at,tags,max_attempts}'::text[]) k limit 1;
  if found then
    raise exception '"%" of a task cannot be changed', v_unknown using errcode = '22023', column = v_unknown;
  end if;
  perform lockgate.check_size('tags are', octet_length((changes -> 'tags')::text), 4);
  v_row := lockgate.lock_task(task);
  if v_row.status not in ('scheduled', 'queued') then
    raise exception 'task % is %: only a task that waits can be changed', task, v_row.status using errcode = 'LG007';
  end if;
  select coalesce(n.priority, 0) as priority, coalesce(n.run_at, now()) as run_at, coalesce(n.tags, '{}') as tags,
      coalesce(n.max_attempts, q.max_attempts) as max_attempts
    into v_new
    from lockgate.queue q,
      jsonb_to_record(changes) as n (priority smallint, run_at timestamptz, tags text[], max_attempts int)
    where q.name = v_row.queue;
  if changes ? 'max_attempts' and v_new.max_attempts <= v_row.attempt then
    raise exception 'max_attempts has to be more than the % attempts there were', v_row.attempt
      using errcode = '23514', constraint = 'max_attempts_are_more_than_the_attempts';
  end if;
  update lockgate.task t
  set priority = case when changes ? 'priority' then v_new.priority else t.priority end,
    tags = case when changes ? 'tags' then v_new.tags else t.tags end,
    max_attempts = case when changes ? 'max_attempts' then v_new.max_attempts else t.max_attempts end,
    run_at = case when changes ? 'run_at' then v_new.run_at else t.run_at end,
    status = case when not changes ? 'run_at' then t.status
                  when v_new.run_at > now() then 'scheduled' else 'queued' end::lockgate.status
  where t.id = change_task.task;
  if changes ? 'run_at' then
    perform lockgate.notify_due(t.queue, lockgate.due(t.status, t.run_at))
      from lockgate.task t where t.id = change_task.task;
  end if;
end
$$;
comment on function lockgate.change_task is
  'Changes priority, run_at (null: now), tags or max_attempts of a task that waits: change_task(17, ''{"priority": 5}''). '
  'LG007 for others.';

create function lockgate.remove(p_tasks bigint[]) returns int
language sql security definer set search_path = lockgate, pg_temp as $$
  with gone as (
    delete from lockgate.task t where t.id = any (p_tasks) returning 1
  ), attempts as (
    delete from lockgate.attempt a where a.task = any (p_tasks)
  ), outputs as (
    delete from lockgate.output o where o.task = any (p_tasks)
  )
  select count(*)::int from gone
$$;
comment on function lockgate.remove is
  'Deletes tasks that its caller has locked, with their attempts and output; how many.';

create function lockgate.delete_task(task bigint) returns void
language plpgsql security definer set search_path = lockgate, pg_temp as $$
begin
  perform from lockgate.task t where t.id = delete_task.task for update;  -- waits for write_output, and that for this
  if (lockgate.lock_task(task)).status = 'running' then
    raise exception 'task % is running: cancel it first', task using errcode = 'LG007';
  end if;
  perform lockgate.remove(array[task]);
end
$$;
comment on function lockgate.delete_task is
  'Deletes a task that is not running, with its attempts and output. LG007 while it runs.';

create function lockgate.purge(queue text, batch int default 1000) returns int
language sql security definer set search_path = lockgate, pg_temp as $$
  select lockgate.remove(array(
    select t.id from lockgate.task t
    where t.queue = purge.queue and t.status in ('succeeded', 'failed', 'cancelled')
    order by t.finish_time limit batch for update skip locked))
$$;
comment on function lockgate.purge is
  'Deletes a batch of the ended tasks of a queue of any age, the oldest end first; how many.';

create function lockgate.delete_expired(p_batch int default 500) returns int
language plpgsql security definer set search_path = lockgate, pg_temp as $$
declare
  v_removed int;
begin
  if not lockgate.holds_slot(0, 0) and not pg_try_advisory_lock(lockgate.lock_class(0), 0) then
    return null;
  end if;
  v_removed := lockgate.remove(array(
    select t.id
    from lockgate.queue q cross join lateral (
      select t.id from lockgate.task t
      where t.queue = q.name and t.status in ('succeeded', 'failed', 'cancelled')
        and t.finish_time < now() - q.retention * interval '1 second'
      order by t.finish_time limit p_batch for update skip locked) t
    where q.retention is not null
    limit p_batch));
  return v_removed;
end
$$;
comment on function lockgate.delete_expired is
  'Removes a batch of ended tasks older than their queue''s retention; how many, or null while another session has the '
  'chores. Keeps the chores lock for the session.';

-- Runner sessions ----------------------------------------------------------------------------------------------------

create function lockgate.register(
  p_runner text, p_host text, p_pid int, p_version text, p_concurrency int, p_queues text[], p_kinds text[])
returns int
language plpgsql security definer set search_path = lockgate, pg_temp as $$
declare
  v_session int;
  v_draining boolean := exists (select from lockgate.runner r where r.runner = p_runner and r.draining);
begin
  -- Never waits for a standby: a runner that comes back has executors to keep alive. Commits that name this session
  -- come after this one, and reach a standby after it.
  perform set_config('synchronous_commit', 'local', true);
  -- Deletes sessions that are gone for a day. A row is visible only once its lock is held.
  delete from lockgate.runner r
  where r.since < now() - interval '1 day' and not exists (
    select from lockgate.held_locks l where l.queue = 0 and l.slot = r.session);
  insert into lockgate.runner (runner, host, pid, backend_pid, version, concurrency, queues, kinds, draining)
    values (p_runner, p_host, p_pid, pg_backend_pid(), p_version, p_concurrency, p_queues, p_kinds, v_draining)
    returning session into v_session;
  perform pg_advisory_lock(lockgate.lock_class(0), v_session);
  return v_session;
end
$$;
comment on function lockgate.register is
  'Announces a runner''s session and takes its session lock; the session''s number.';

create function lockgate.announce_schemas(p_session int, p_schemas jsonb) returns void
language plpgsql security definer set search_path = lockgate, pg_temp as $$
begin
  perform lockgate.check_size('schemas are', octet_length(p_schemas::text), 256);
  perform set_config('synchronous_commit', 'local', true);
  update lockgate.runner set schemas = p_schemas where session = p_session;
end
$$;
comment on function lockgate.announce_schemas is
  'Says, by kind, which JSON Schema the payloads of a runner''s handlers have; for kind_overview.';

create function lockgate.deregister(p_session int) returns void
language sql security definer set search_path = lockgate, pg_temp as $$
  delete from lockgate.runner where session = p_session;
  select pg_advisory_unlock_all();
$$;
comment on function lockgate.deregister is 'Ends a runner''s session and frees every lock it holds.';

create function lockgate.drain_runner(runner text) returns void
language plpgsql security definer set search_path = lockgate, pg_temp as $$
begin
  perform lockgate.set_draining(runner, true);
end
$$;
comment on function lockgate.drain_runner is
  'Tells a runner to take no more tasks and free its slots, each once the task in it has ended. It stays, and '
  'takes part in adoption, until resume_runner or its end. LG010 if there is no such runner.';

create function lockgate.resume_runner(runner text) returns void
language plpgsql security definer set search_path = lockgate, pg_temp as $$
begin
  perform lockgate.set_draining(runner, false);
end
$$;
comment on function lockgate.resume_runner is 'Ends what drain_runner began. LG010 if there is no such runner.';

create function lockgate.set_draining(p_runner text, p_draining boolean) returns void
language plpgsql security definer set search_path = lockgate, pg_temp as $$
begin
  -- All its sessions: it may be about to register another.
  update lockgate.runner set draining = p_draining where runner = p_runner;
  if not found then
    raise exception 'there is no runner "%"', p_runner using errcode = 'LG010',
      hint = 'select runner from lockgate.runner_overview where alive';
  end if;
  perform pg_notify('lockgate', 'drain ' || p_runner);
end
$$;
comment on function lockgate.set_draining is 'For drain_runner and resume_runner.';

create function lockgate.is_draining(p_session int) returns boolean
language sql stable security definer set search_path = lockgate, pg_temp
as $$ select draining from lockgate.runner where session = p_session $$;
comment on function lockgate.is_draining is
  'Whether that session''s runner was told to take no more tasks; null = unknown.';

create function lockgate.poll_queues(p_queues text[] default null)
returns table (
  queue int, name text, slots int, paused boolean, grace double precision, due boolean, next_due double precision)
language sql stable security definer set search_path = lockgate, pg_temp as $$
  select q.id, q.name, q.slots, q.paused, q.grace,
    -- Not EXISTS, which drops the order and with it the index: a queue just emptied would cost a read of the table.
    -- Reads from the end of the index, where claims leave no dead entries.
    (select true from lockgate.task t where t.queue = q.name and t.status = 'queued'
     order by lockgate.claim_order(t.priority, t.id) desc limit 1) is not null or coalesce(s.run_at <= now(), false),
    extract(epoch from s.run_at - now())::double precision
  from lockgate.queue q
  left join lateral (
    select t.run_at from lockgate.task t
    where t.queue = q.name and t.status = 'scheduled' order by t.run_at limit 1) s on true
  where p_queues is null or q.name = any (p_queues)
  order by q.id
$$;
comment on function lockgate.poll_queues is
  'The queues a runner serves: whether each has work due now, and in how many seconds its next scheduled task is.';

create function lockgate.occupied_slots()
returns table (
  queue int, slot int, task bigint, lease bigint, runner text, session int, grace double precision,
  cancel_requested lockgate.cancel_mode, pid int)
language sql stable security definer set search_path = lockgate, pg_temp as $$
  with held as materialized (
    select queue, slot, pid from lockgate.held_locks where queue > 0
  ), busy as (
    select q.id as queue, t.slot, t.id, t.lease, t.runner, t.session, t.grace, t.cancel_requested
    from lockgate.running() t join lockgate.queue q on q.name = t.queue
  )
  select q.id, coalesce(b.slot, h.slot), b.id, b.lease, b.runner, b.session, coalesce(b.grace, q.grace),
    b.cancel_requested, h.pid
  from held h
  full join busy b on b.queue = h.queue and b.slot = h.slot
  join lockgate.queue q on q.id = coalesce(b.queue, h.queue)
$$;
comment on function lockgate.occupied_slots is
  'Every slot that has a running task or a held lock: the task, and the backend that holds the lock (null = free).';

-- Runs with the rights of the caller, who sees the activity of sessions of its own login role (or of all, with
-- pg_read_all_stats). state_change moves with every statement, so a holder only has to send one.
create function lockgate.slot_activity()
returns table (
  queue int, slot int, task bigint, lease bigint, runner text, session int, grace double precision,
  cancel_requested lockgate.cancel_mode, pid int, backend_start timestamptz, state_change timestamptz)
language sql stable as $$
  select o.*, a.backend_start, a.state_change
  from lockgate.occupied_slots() o left join pg_stat_get_activity(null) a on a.pid = o.pid
$$;
comment on function lockgate.slot_activity is
  'occupied_slots(), with when the holder''s backend started and last did anything: what every runner checks on each poll.';

create function lockgate.standing_by() returns int
language sql stable as $$
  select count(*)::int from (
    select from lockgate.held_locks group by pid having max(queue) = 0 and max(slot) > 0) s
$$;
comment on function lockgate.standing_by is 'How many runners'' sessions are alive and hold no slot.';

-- Queues -------------------------------------------------------------------------------------------------------------

create function lockgate.change_queue(queue text, settings jsonb) returns void
language plpgsql security definer set search_path = lockgate, pg_temp as $$
declare
  v_unknown text;
begin
  select k into v_unknown from jsonb_object_keys(settings) k
    where k not in ('slots', 'paused', 'grace', 'max_attempts', 'timeout', 'backoff_base', 'backoff_max', 'retention',
                    'depth_max', 'kinds')
    limit 1;
  if found then
    raise exception 'a queue has no setting "%"', v_unknown using errcode = '22023', column = v_unknown;
  end if;
  update lockgate.queue q
  set (slots, paused, grace, max_attempts, timeout, backoff_base, backoff_max, retention, depth_max, kinds) = (
    select n.slots, n.paused, n.grace, n.max_attempts, n.timeout, n.backoff_base, n.backoff_max, n.retention,
      n.depth_max, n.kinds
    from jsonb_populate_record(q, settings) n)
  where q.name = change_queue.queue;
  if not found then
    raise exception 'there is no queue "%"', queue using errcode = 'LG001';
  end if;
  perform pg_notify('lockgate', 'slots ' || queue);
end
$$;
comment on function lockgate.change_queue is
  'Changes the given settings of a queue, such as {"slots": 4, "timeout": null}; takes effect while runners work. Slots '
  'lowered, running tasks above the new number end first.';

create function lockgate.create_queue(queue text, settings jsonb default '{}') returns void
language plpgsql security definer set search_path = lockgate, pg_temp as $$
begin
  insert into lockgate.queue (name) values (queue);
  perform lockgate.change_queue(queue, settings);
exception when unique_violation then
  raise exception 'there is a queue "%" already', queue using errcode = '23505', constraint = 'a_queue_name_is_unique';
end
$$;
comment on function lockgate.create_queue is 'Makes a queue: select create_queue(''gpu'', ''{"slots": 1}'').';

create function lockgate.set_slots(queue text, slots int) returns void
language sql security definer set search_path = lockgate, pg_temp
as $$ select lockgate.change_queue(queue, jsonb_build_object('slots', slots)) $$;
comment on function lockgate.set_slots is
  'How many tasks of a queue may execute at once from now on. Lowered, running tasks above it end first.';

create function lockgate.pause(queue text) returns void
language sql security definer set search_path = lockgate, pg_temp
as $$ select lockgate.change_queue(queue, '{"paused": true}') $$;
comment on function lockgate.pause is 'Nothing of the queue is claimed any more; what runs goes on.';

create function lockgate.resume(queue text) returns void
language sql security definer set search_path = lockgate, pg_temp
as $$ select lockgate.change_queue(queue, '{"paused": false}') $$;
comment on function lockgate.resume is 'Ends a pause.';

-- submit holds a row exclusive lock on task until it commits, so under this lock no submit is half-way in.
create function lockgate.delete_queue(queue text) returns void
language plpgsql security definer set search_path = lockgate, pg_temp as $$
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
      or exists (select from lockgate.running() t where t.queue = v_queue.name)
      or exists (select from lockgate.task t where t.queue = v_queue.name
                 and t.status in ('succeeded', 'failed', 'cancelled')) then
    raise exception 'queue "%" is not empty', queue using errcode = 'LG009',
      hint = 'cancel what waits, and purge what has ended';
  end if;
  if exists (select from lockgate.held_locks l where l.queue = v_queue.id)
      or exists (select from generate_series(1, v_queue.slots) s
                 where not pg_try_advisory_xact_lock(lockgate.lock_class(v_queue.id), s)) then
    raise exception 'runners still hold slots of queue "%"', queue using errcode = 'LG009',
      hint = 'set its slots to 0; they let go within a poll';
  end if;
  perform lockgate.forget_statistics(v_queue.name), lockgate.revoke_keys_of(v_queue.name);
  delete from lockgate.queue q where q.id = v_queue.id;
end
$$;
comment on function lockgate.delete_queue is
  'Deletes a queue that is empty and whose slots no session holds, else LG009; revokes the keys that were for it alone.';

create function lockgate.waiting(p_queue text, out queued int, out scheduled int, out oldest timestamptz)
language sql stable security definer set search_path = lockgate, pg_temp as $$
  select q.n, s.n, q.oldest
  from (
    select count(*)::int as n, min(c.run_at) as oldest
    from (select t.run_at from lockgate.task t where t.queue = p_queue and t.status = 'queued'
          order by lockgate.claim_order(t.priority, t.id) limit 10001) c) q,
  (
    select count(*)::int as n
    from (select from lockgate.task t where t.queue = p_queue and t.status = 'scheduled'
          order by t.run_at limit 10001) c) s
$$;
comment on function lockgate.waiting is
  'How many tasks of a queue are due, and wait for their time, each counted to 10,001; since when the oldest of the first '
  'that are due has been.';

-- Views --------------------------------------------------------------------------------------------------------------

create view lockgate.task_detail as
  select id, queue, kind, status, priority, create_time, run_at, start_time, finish_time, exec_time, attempt,
    max_attempts, timeout, slot, lease, runner, cancel_requested, payload, result, error, progress, tags, metadata,
    idempotency_key, dedupe_key
  from lockgate.task;
comment on view lockgate.task_detail is 'Tasks as the outside world sees them.';

create view lockgate.task_version as
  select id, finish_time is not null as has_ended, xmin::text as version from lockgate.task;
comment on view lockgate.task_version is
  'For waiting on many tasks: whether each has ended, and a version that changes with every change of the row.';

create view lockgate.attempt_detail as
  select task, attempt, lease, outcome, runner, slot, start_time, end_time, exec_time, error from lockgate.attempt;
comment on view lockgate.attempt_detail is 'Attempts that ended without ending their task.';

create view lockgate.output_detail as select task, lease, text from lockgate.output;
comment on view lockgate.output_detail is 'What handlers printed, by task and lease: the last 64 KiB of each attempt.';

create view lockgate.queue_detail as
  select name as queue, slots, paused, grace, max_attempts, timeout, backoff_base, backoff_max, retention, depth_max,
    kinds, create_time
  from lockgate.queue;
comment on view lockgate.queue_detail is 'Queues and all their settings; durations in seconds.';

create function lockgate.schema_version() returns int
language sql stable security definer set search_path = lockgate, pg_temp
as $$ select version from lockgate.release $$;
comment on function lockgate.schema_version is 'The version of this schema.';

-- Chapters -----------------------------------------------------------------------------------------------------------

-- What the core can do without. It calls three functions of these: keep_uncounted (retry), forget_statistics and
-- revoke_keys_of (delete_queue).

\ir schema/bulk.sql
\ir schema/lists.sql
\ir schema/overviews.sql
\ir schema/statistics.sql
\ir schema/outbox.sql
\ir schema/api_keys.sql

-- Roles: the index of the contract -----------------------------------------------------------------------------------

-- Group roles, shared by the databases of a cluster; logins are made members of them. Only the owner may touch a
-- table, except that the viewer may read all of them. `lockgate migrate` executes what follows each time.

do $$
declare
  v_role text;
begin
  foreach v_role in array array['lockgate_service', 'lockgate_runner', 'lockgate_viewer'] loop
    -- Another may have made it, with a right to do so that we do not have.
    continue when exists (select from pg_roles where rolname = v_role);
    begin
      execute format('create role %I nologin', v_role);
    exception when duplicate_object or unique_violation then null;
    end;
  end loop;
end
$$;

revoke all on schema lockgate from public;
revoke execute on all functions in schema lockgate from public;
grant usage on schema lockgate to lockgate_service, lockgate_runner, lockgate_viewer;
grant execute on function lockgate.schema_version, lockgate.lock_class, lockgate.holds_slot
  to lockgate_service, lockgate_runner, lockgate_viewer;
grant select on lockgate.held_locks to lockgate_service, lockgate_runner, lockgate_viewer;

grant execute on function
  lockgate.submit, lockgate.submit_batch, lockgate.submit_all, lockgate.due, lockgate.notify_due,
  lockgate.cancel, lockgate.retry, lockgate.change_task, lockgate.delete_task, lockgate.purge,
  lockgate.cancel_tasks, lockgate.retry_tasks, lockgate.delete_tasks,
  lockgate.create_queue, lockgate.change_queue, lockgate.set_slots, lockgate.pause, lockgate.resume,
  lockgate.delete_queue, lockgate.drain_runner, lockgate.resume_runner,
  lockgate.add_key, lockgate.revoke_key, lockgate.has_keys, lockgate.keys_in_force, lockgate.note_key_use,
  lockgate.set_outbox, lockgate.outbox_lock, lockgate.outbox_next, lockgate.outbox_ack, lockgate.outbox_purge
  to lockgate_service;
grant select on lockgate.task_detail, lockgate.task_version, lockgate.attempt_detail, lockgate.output_detail,
  lockgate.queue_detail, lockgate.queue_overview, lockgate.runner_overview, lockgate.slot_overview,
  lockgate.task_recent, lockgate.failures, lockgate.queue_stats, lockgate.stats_total_detail, lockgate.slot_detail,
  lockgate.key_overview, lockgate.kind_overview, lockgate.outbox_overview
  to lockgate_service;
grant execute on function lockgate.list_tasks, lockgate.claim_order, lockgate.failure, lockgate.running,
  lockgate.occupied_slots, lockgate.slot_activity, lockgate.waiting, lockgate.ended_since, lockgate.series
  to lockgate_service, lockgate_viewer;

grant execute on function
  lockgate.poll_queues, lockgate.occupied_slots, lockgate.slot_activity, lockgate.standing_by,
  lockgate.register, lockgate.deregister, lockgate.is_draining, lockgate.announce_schemas,
  lockgate.take_slot, lockgate.retake_slot, lockgate.release_slot, lockgate.pass_slot_on,
  lockgate.claim, lockgate.finish, lockgate.finish_and_claim, lockgate.fail, lockgate.return_task,
  lockgate.adopt, lockgate.reconfirm, lockgate.wait_until_durable,
  lockgate.report_progress, lockgate.write_output, lockgate.delete_expired, lockgate.roll_up
  to lockgate_runner;

grant select on all tables in schema lockgate to lockgate_viewer;
