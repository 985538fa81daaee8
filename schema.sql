-- Lockgate: the contract.
--
-- A task queue whose only moving part is Postgres. Anything that may call `submit` puts rows into `task`; runners
-- take them out, one at a time, each inside a slot of the task's queue. Every status and every rule is defined here,
-- as a type, a constraint or a function; the programs on either side only decode, call one function and encode.
--
--              submit (due now)                 claim                finish
--                ───────────────► queued ──────────────► running ──────────────► succeeded
--   submit (later)                  ▲  ▲                   │ │ │
--     ─────► scheduled ── promote ──┘  │ adopt, give back  │ │ └── fail, no attempts left ─► failed
--                 ▲                    └───────────────────┤ │
--                 └──── fail: retry, after a back-off ─────┘ └── cancel ─► cancelled
--                                                                 (also from queued and scheduled)
--
-- A slot is a session-level advisory lock: class = lock_class(queue.id), object = the slot's number. Whoever holds
-- slot k may claim into it. Three guards, each against a different failure:
--   the session lock       two runners never start work in one slot at once;
--   task.turn              a slot's claims are numbered. The next turn begins only after the latest has ended, and a
--                          turn is taken once: the table never shows more running tasks than slots;
--   task.lease             new and greater at each claim. Every write about a running task names its (id, lease,
--                          runner), so the words of a runner that lost its slot unknowingly change nothing.
--
-- Only two may end a running row: its owner (finish, fail, give_back), after its handler answered or is dead; and an
-- adopter (adopt), which took the slot's lock and waited out the row's `grace` after it first saw that lock free.
-- Whichever commits first wins.
--
-- Promised: at most `slots` tasks of a queue execute at any moment; every accepted task is executed at least once
-- unless it is cancelled or its attempts are used up by dying runners; its outcome is recorded exactly once.
--
-- Errors have SQLSTATEs of our own:
--   LG001 unknown queue            LG004 the slot (or the lock of who publishes) is not held by this session
--   LG002 the lease is lost        LG005 this kind is not allowed in this queue
--   LG003 idempotency key reused   LG006 unknown task
--   LG007 not allowed in this status   LG008 the dedupe key is taken   LG009 the queue is not empty, or still served
--   LG010 unknown runner           LG011 the queue is full
--   LG012 an item of a batch is refused
-- A broken limit is 23514 (check_violation) and names its constraint, which is a sentence.
--
-- Notifications on channel `lockgate` say where to look and never carry a task: `queue NAME` (something is due), `later
-- NAME` (something will be within a minute), `cancel ID`, `slots NAME`, `drain RUNNER`. The poll is what correctness rests on; a
-- notification only makes it early.
--
-- Times are timestamptz; every duration is a double in seconds. Parameters begin with p_ and locals with v_, except in
-- `submit`, `cancel` and the queue functions, whose parameter names people type.
--
-- Applying this file to any released version brings it forward and keeps the data; applying it again is safe: it reads
-- the version, touches nothing and takes no lock. Types and tables are made once and altered by the upgrades below them;
-- functions, views and grants are always replaced.

do $schema$
declare
  v_current constant int := 3;
  v_version int;
  v_role text;
begin

if to_regclass('lockgate.release') is not null then
  select version into v_version from lockgate.release;
  if v_version >= v_current then
    return;
  end if;
end if;

-- One applier at a time, and none that makes the others wait: without a lock within a second this fails whole and
-- can be tried again.
perform set_config('lock_timeout', '1s', true);
perform pg_advisory_xact_lock(1279721472, -1);
-- Not to_regclass again: it would answer from a cache that taking an advisory lock does not bring up to date.
if exists (select from pg_class c where c.relname = 'release'
           and c.relnamespace = (select oid from pg_namespace where nspname = 'lockgate')) then
  select version into v_version from lockgate.release;
  if v_version >= v_current then
    return;
  end if;
end if;

if v_version is null then

create schema lockgate;
comment on schema lockgate is 'A task queue with a hard limit on what runs at once. Start at lockgate.task.';

create table lockgate.release (
  version int not null,
  applied_at timestamptz not null default now()
);
comment on table lockgate.release is 'One row: the version of this schema.';
insert into lockgate.release (version) values (v_current);

end if;  -- of a new database; its tables follow what they are made of


-- Limits of one value are those of a type, looked at when the value is written; the constraints of a table are read and
-- looked at anew by every update of a row, and a task is updated twice.

if v_version is null or v_version < 3 then
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

  create type lockgate.scope as enum ('read', 'submit', 'admin');
  comment on type lockgate.scope is 'What an API key is good for; each includes those before it.';

  create table lockgate.api_key (
    id text collate "C" not null,
    name text collate "C" not null,
    owner text collate "C" not null,
    digest bytea not null,
    scope lockgate.scope not null,
    queue text collate "C",
    create_time timestamptz not null default now(),
    last_used timestamptz,
    revoke_time timestamptz,
    constraint api_key_pkey primary key (id),
    constraint a_key_id_is_12_letters_and_digits check (id ~ '^[a-z0-9]{12}$'),
    constraint a_key_name_is_short_and_plain check (name ~ '^[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}$'),
    constraint an_owner_is_short_and_plain check (owner ~ '^[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}$'),
    constraint a_digest_has_32_bytes check (octet_length(digest) = 32)
  );
  create unique index a_key_name_is_in_force_once on lockgate.api_key (name) where revoke_time is null;  -- revoke_key
  comment on table lockgate.api_key is 'Keys of the HTTP API. Of the secret only its digest is kept.';
  comment on column lockgate.api_key.id is 'The part of the key that is no secret, and tells which it is.';
  comment on column lockgate.api_key.owner is
    'The scope of its idempotency keys. Keys of one owner share them, so that one can replace another.';
  -- A slow hash protects secrets that can be guessed. This one has 256 random bits.
  comment on column lockgate.api_key.digest is 'SHA-256 of the whole key.';
  comment on column lockgate.api_key.queue is 'The only queue it is good for; null = all.';
  comment on column lockgate.api_key.last_used is 'About when it was last used, to some minutes.';
end if;


-- Order -------------------------------------------------------------------------------------------------------------
-- Two numbers that only ever grow, so that the newest index entry is found without a crawl over the dead ones before
-- it: those stay for as long as anybody anywhere keeps an old transaction open.

create or replace function lockgate.rank(p_priority smallint, p_id bigint) returns bigint
language sql immutable
return p_id - (p_priority::bigint << 48);
comment on function lockgate.rank(smallint, bigint) is
  'Where a task stands in the line of its queue: the smallest goes first. Higher priority, then smaller id.';

create or replace function lockgate.first_turn(p_slot int) returns bigint
language sql immutable
return p_slot::bigint << 40;
comment on function lockgate.first_turn(int) is
  'Turns of a slot lie between its own first turn and the first turn of the next slot.';


if v_version is null then

-- Types -------------------------------------------------------------------------------------------------------------

create type lockgate.status as enum (
  'scheduled',  -- submit with a later run_at; fail -> back-off. Waits outside the claim index.
  'queued',     -- submit; scheduled -> promote; running -> adopt, give_back
  'running',    -- queued -> claim
  'succeeded',  -- running -> finish
  'failed',     -- running -> fail, adopt (no attempts left)
  'cancelled'   -- scheduled, queued -> cancel; running -> fail, give_back, adopt once a cancel was asked
);
comment on type lockgate.status is 'Where a task is in its life.';

create type lockgate.cancel_mode as enum ('ask', 'force');
comment on type lockgate.cancel_mode is 'ask: the handler is asked to stop, then killed; force: it is killed at once.';

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


-- Tables ------------------------------------------------------------------------------------------------------------

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
comment on column lockgate.queue.slots is 'How many of its tasks may execute at once. Lowered, those above it end first.';
comment on column lockgate.queue.grace is
  'Seconds an adopter waits after it first saw a running task''s slot lock free; copied to the task at claim.';
comment on column lockgate.queue.timeout is 'Seconds one attempt may take, for tasks that name none; null = no limit.';
comment on column lockgate.queue.backoff_base is 'Seconds before the first retry; doubles with each attempt, +-20 %.';
comment on column lockgate.queue.backoff_max is 'Seconds no back-off exceeds, before the +-20 %.';
comment on column lockgate.queue.retention is 'Seconds an ended task is kept; null = for ever.';
comment on column lockgate.queue.depth_max is
  'How many tasks may wait, queued or scheduled, for more to be submitted; null = no limit. See room.';
comment on column lockgate.queue.kinds is 'The kinds that may be submitted here; null = any.';

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
comment on column lockgate.task.id is 'The task''s number.';
comment on column lockgate.task.kind is 'Which handler executes it.';
comment on column lockgate.task.priority is 'Higher goes first; -100 to 100.';
comment on column lockgate.task.run_at is 'Not before this time.';
comment on column lockgate.task.exec_time is 'Seconds the latest attempt took, by its runner''s monotonic clock.';
comment on column lockgate.task.attempt is 'Attempts counted so far, the current one included.';
comment on column lockgate.task.timeout is 'Seconds one attempt may take; null = no limit.';
comment on column lockgate.task.slot is 'The slot it executes in; null unless running.';
comment on column lockgate.task.turn is
  'Which turn of its slot the latest attempt took. Stays when it has ended: a slot''s newest turn tells whether it is free.';
comment on column lockgate.task.lease is 'The latest claim''s number: new and greater at each claim. Stays on ended rows.';
comment on column lockgate.task.runner is 'The name of the runner process of the latest attempt.';
comment on column lockgate.task.session is 'That runner''s database session (runner.session), rewritten when it reconnects.';
comment on column lockgate.task.grace is 'queue.grace as it was at the claim: the number owner and adopter both use.';
comment on column lockgate.task.cancel_requested is 'How a running task was asked to stop; null = it was not.';
comment on column lockgate.task.error is '{"type", "message", "traceback"} of the latest attempt that did not succeed.';
comment on column lockgate.task.progress is 'What the handler last reported.';
comment on column lockgate.task.idempotency_key is 'Unique per scope for as long as the row lives.';
comment on column lockgate.task.request_digest is 'Digest of the request that came with the idempotency key.';
comment on column lockgate.task.dedupe_key is 'At most one unfinished task per queue and key.';

-- Every index taxes every claim; below, each says what it serves, and python -m bench.indexes what it costs.
create index task_claim on lockgate.task (queue, lockgate.rank(priority, id)) where status = 'queued';
create unique index a_turn_is_taken_once on lockgate.task (queue, turn) where turn is not null;
create index task_due on lockgate.task (queue, run_at) where status = 'scheduled';
create unique index task_idempotency on lockgate.task (idempotency_scope, idempotency_key)
  where idempotency_key is not null;
create unique index task_dedupe on lockgate.task (queue, dedupe_key)
  where dedupe_key is not null and status in ('scheduled', 'queued', 'running');
create index task_ended on lockgate.task (queue, finish_time, id) where status in ('succeeded', 'failed', 'cancelled');
create index task_aside on lockgate.task (status, id) where status in ('scheduled', 'failed', 'cancelled');

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
  'Attempts that ended without ending their task. Written only then, so a task that succeeds at once pays nothing.';

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
  constraint runner_pkey primary key (session)
);
comment on table lockgate.runner is
  'One row per runner session. A session is alive exactly while it holds its session lock: see runner_overview.';
comment on column lockgate.runner.session is 'Number of the session, and object of its advisory lock (class lock_class(0)).';
comment on column lockgate.runner.runner is 'Name of the runner process; the same over reconnects, never reused.';
comment on column lockgate.runner.queues is 'The queues it serves; null = all.';
comment on column lockgate.runner.kinds is 'The kinds it has handlers for.';

create table lockgate.output (
  task bigint not null,
  lease bigint not null,
  text text not null,
  constraint output_pkey primary key (task, lease)
);
comment on table lockgate.output is 'What handlers printed: the last 64 KiB of each attempt that printed anything.';

insert into lockgate.queue (name) values ('default');

end if;  -- of a new database


if v_version is null or v_version < 3 then

create table lockgate.minute (
  queue text collate "C" not null,
  minute timestamptz not null,
  succeeded int not null default 0,
  failed int not null default 0,
  cancelled int not null default 0,
  waited int not null default 0,
  wait_sum double precision not null default 0,
  wait_histogram int[],
  ran int not null default 0,
  run_sum double precision not null default 0,
  run_histogram int[],
  queued int,
  scheduled int,
  running int,
  constraint minute_pkey primary key (queue, minute)
);
comment on table lockgate.minute is
  'What ended in each minute, and how much waited at its beginning; kept for 7 days. Minutes without either have no row.';
comment on column lockgate.minute.waited is 'How many of those that ended had started since they were due.';
comment on column lockgate.minute.wait_sum is 'Seconds they waited from when they were due until they started, in all.';
comment on column lockgate.minute.wait_histogram is 'How many waited how long: see histogram().';
comment on column lockgate.minute.ran is 'How many of them reported how long they executed.';
comment on column lockgate.minute.run_sum is 'Seconds their latest attempts took, in all.';
comment on column lockgate.minute.queued is 'How many were due, counted to 10,001; null = not looked at.';

create table lockgate.total (
  queue text collate "C" not null,
  finish_time timestamptz not null,
  id bigint not null,
  succeeded bigint not null default 0,
  failed bigint not null default 0,
  cancelled bigint not null default 0,
  waited bigint not null default 0,
  wait_sum double precision not null default 0,
  wait_histogram bigint[],
  ran bigint not null default 0,
  run_sum double precision not null default 0,
  run_histogram bigint[],
  constraint total_pkey primary key (queue)
);
comment on table lockgate.total is
  'All that has ended in each queue since there is this table, up to and including the end (finish_time, id).';

create table lockgate.removed (
  queue text collate "C" not null,
  finish_time timestamptz not null,
  id bigint not null,
  status lockgate.status not null,
  waited double precision,
  ran double precision,
  constraint removed_pkey primary key (queue, finish_time, id)
);
comment on table lockgate.removed is
  'Ends that were deleted or retried before they were counted; kept until they are.';

create table lockgate.outcome (
  id bigint generated always as identity,
  task bigint not null,
  queue text collate "C" not null,
  kind text collate "C" not null,
  status lockgate.status not null,
  time timestamptz not null default now(),
  body json not null,
  constraint outcome_pkey primary key (id)
);
comment on table lockgate.outcome is
  'How tasks ended, each until it is published; written only while set_outcomes(true) holds.';
comment on column lockgate.outcome.id is 'Grows from one end of a task to the next.';
comment on column lockgate.outcome.body is 'The event as it is published.';

alter table lockgate.runner
  add column draining boolean not null default false,
  add column schemas jsonb;
comment on column lockgate.runner.draining is 'Whether the process was told to take no more tasks.';
comment on column lockgate.runner.schemas is 'By kind: the JSON Schema of the payload, where the handler has type hints.';

end if;  -- of what is new in version 3


-- Upgrades ----------------------------------------------------------------------------------------------------------
-- One step per released version, in order; each does to the tables what is written above already.

if v_version = 1 then
  create table lockgate.output (
    task bigint not null,
    lease bigint not null,
    text text not null,
    constraint output_pkey primary key (task, lease)
  );
  comment on table lockgate.output is 'What handlers printed: the last 64 KiB of each attempt that printed anything.';
  create index task_ended on lockgate.task (queue, finish_time) where status in ('succeeded', 'failed', 'cancelled');
  drop view lockgate.queue_overview;
  alter table lockgate.task
    drop constraint if exists slot_is_1_to_1000,
    add constraint slot_is_1_to_1000 check (slot between 1 and 1000),
    add constraint idempotency_key_is_1_to_200_characters check (length(idempotency_key) between 1 and 200),
    add constraint dedupe_key_is_1_to_200_characters check (length(dedupe_key) between 1 and 200);
  v_version := 2;
end if;

if v_version = 2 then
  drop index lockgate.task_claim, lockgate.task_ended, lockgate.task_failed;
  create index task_aside on lockgate.task (status, id) where status in ('scheduled', 'failed', 'cancelled');
  create index task_ended on lockgate.task (queue, finish_time, id)
    where status in ('succeeded', 'failed', 'cancelled');
  create index task_claim on lockgate.task (queue, lockgate.rank(priority, id)) where status = 'queued';
  drop view if exists lockgate.task_detail, lockgate.task_recent, lockgate.failures, lockgate.slot_overview,
    lockgate.queue_overview, lockgate.queue_detail;
  alter type lockgate.submit_outcome add value 'queue_full';
  alter table lockgate.queue
    add column depth_max int,
    add constraint depth_max_is_0_to_1000000 check (depth_max between 0 and 1000000);
  comment on column lockgate.queue.depth_max is
    'How many tasks may wait, queued or scheduled, for more to be submitted; null = no limit. See room.';
  alter table lockgate.task
    drop constraint kind_is_1_to_200_characters, alter column kind type lockgate.kind,
    drop constraint priority_is_between_minus_100_and_100, alter column priority type lockgate.priority,
    drop constraint run_at_is_finite, alter column run_at type lockgate.run_at
      using least(greatest(run_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00'),
    drop constraint max_attempts_are_1_to_1000, alter column max_attempts type lockgate.max_attempts,
    drop constraint timeout_is_positive_and_at_most_30_days, alter column timeout type lockgate.timeout,
    drop constraint idempotency_key_is_1_to_200_characters,
    alter column idempotency_key type lockgate.idempotency_key,
    drop constraint dedupe_key_is_1_to_200_characters, alter column dedupe_key type lockgate.dedupe_key,
    add column turn bigint;
  update lockgate.task set turn = lockgate.first_turn(slot) + 1 where status = 'running';
  alter table lockgate.task
    drop constraint started_before_it_runs,
    add constraint started_before_it_runs
      check (status <> 'running' or (start_time is not null and turn is not null and lease is not null
                                     and runner is not null and session is not null and grace is not null
                                     and attempt > 0)),
    add constraint a_turn_is_of_its_slot check (turn >> 40 = slot);
  drop index lockgate.one_running_task_per_slot;
  create unique index a_turn_is_taken_once on lockgate.task (queue, turn) where turn is not null;
  comment on column lockgate.task.turn is
    'Which turn of its slot the latest attempt took. Stays when it has ended: a slot''s newest turn tells whether it is free.';
  v_version := 3;
end if;
update lockgate.release set version = v_current, applied_at = now() where version <> v_current;

comment on index lockgate.task_pkey is
  'Whatever names tasks by their numbers; lists without a status or by times of creation.';
comment on index lockgate.task_claim is
  'claim, look, room; places in the line; lists and numbers of queued tasks.';
comment on index lockgate.a_turn_is_taken_once is
  'Refuses a second claim of a slot''s next turn, whatever the programs do. claim, take_slot, running; lists of running tasks.';
comment on index lockgate.task_due is
  'promote, look; when the next scheduled task is due; numbers of scheduled tasks.';
comment on index lockgate.task_idempotency is
  'submit_batch: one task for each scope and idempotency key. Only tasks that have a key.';
comment on index lockgate.task_dedupe is
  'submit_batch: one unfinished task for each queue and dedupe key. Only tasks that have a key.';
comment on index lockgate.task_ended is
  'tidy, purge, roll_up, ended_since; lists by times of the end.';
comment on index lockgate.task_aside is
  'Lists of scheduled, failed or cancelled tasks; failures.';


-- Locks -------------------------------------------------------------------------------------------------------------
-- Class lock_class(0) is our own: object n > 0 is runner session n, 0 the chores, -1 the applier of this file, -2 who
-- publishes outcomes.

create or replace function lockgate.lock_class(p_queue int) returns int
language sql immutable
return 1279721472 + p_queue;
comment on function lockgate.lock_class(int) is 'Advisory lock class of a queue''s slots: a fixed base plus queue.id.';

-- pg_locks is the one place that tells without touching anything; asking it takes 50 microseconds and more.
create or replace function lockgate.holds_slot(p_queue int, p_slot int) returns boolean
language sql stable
as $$
  select exists (
    select from pg_locks
    where locktype = 'advisory' and granted and pid = pg_backend_pid()
      and classid = lockgate.lock_class(p_queue)::oid and objid = p_slot::oid and objsubid = 2)
$$;
comment on function lockgate.holds_slot(int, int) is 'Whether this session holds the lock of that slot.';

-- For claims, where every microsecond counts. The lock of the transaction keeps all others out while the lock of the
-- session is put down, which tells whether it was there, and taken up again. Nothing can come between: the lock's
-- entry in shared memory exists already.
create or replace function lockgate.keep_slot(p_queue int, p_slot int) returns boolean
language sql volatile
as $$
  select pg_try_advisory_xact_lock(lockgate.lock_class(p_queue), p_slot)
    and pg_advisory_unlock(lockgate.lock_class(p_queue), p_slot)
    and pg_try_advisory_lock(lockgate.lock_class(p_queue), p_slot)
$$;
comment on function lockgate.keep_slot(int, int) is
  'Whether this session holds the lock of that slot; if so nobody else can before this transaction has ended.';

-- The newest turn of each slot, read backwards: never the turns before it, dead or alive.
create or replace function lockgate.running() returns setof lockgate.task
language sql stable security definer set search_path = lockgate, pg_temp
as $$
  select t.*
  from lockgate.queue q
  cross join lateral generate_series(1, greatest(q.slots, (
    select (t.turn >> 40)::int from lockgate.task t
    where t.queue = q.name and t.turn is not null order by t.turn desc limit 1))) s
  cross join lateral (
    select * from lockgate.task t
    where t.queue = q.name and t.turn >= lockgate.first_turn(s) and t.turn < lockgate.first_turn(s + 1)
    order by t.turn desc limit 1) t
  where t.status = 'running'
$$;
comment on function lockgate.running() is 'The running tasks: at most one per slot.';

-- Called by a runner with room. Tries the free slots one by one by literal number, because a lock function in a
-- WHERE with a LIMIT locks rows that are never returned. Leaves a slot alone while its row still says running: its
-- owner may be reconnecting, and needs the lock free.
create or replace function lockgate.take_slot(p_queue int) returns int
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
declare
  v_slot int;
begin
  for v_slot in
    select s
    from lockgate.queue q cross join generate_series(1, q.slots) s
    where q.id = p_queue and not q.paused
      and (select t.status from lockgate.task t
           where t.queue = q.name and t.turn >= lockgate.first_turn(s) and t.turn < lockgate.first_turn(s + 1)
           order by t.turn desc limit 1) is distinct from 'running'
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
comment on function lockgate.take_slot(int) is 'Takes the lock of a free slot of that queue; its number, or null.';

-- Called by a runner that wants one slot back after a reconnect, and by an adopter. A session can take a lock twice and
-- is told yes twice, hence the look first.
create or replace function lockgate.retake_slot(p_queue int, p_slot int) returns boolean
language sql volatile
as $$
  select case when lockgate.holds_slot(p_queue, p_slot) then true
         else pg_try_advisory_lock(lockgate.lock_class(p_queue), p_slot) end
$$;
comment on function lockgate.retake_slot(int, int) is 'Takes the lock of this slot; whether this session holds it now.';

create or replace function lockgate.release_slot(p_queue int, p_slot int) returns boolean
language sql volatile
as $$
  select case when lockgate.holds_slot(p_queue, p_slot)
         then pg_advisory_unlock(lockgate.lock_class(p_queue), p_slot) else false end
$$;
comment on function lockgate.release_slot(int, int) is 'Frees the lock of this slot; whether this session held it.';

create or replace function lockgate.pass_slot_on(p_queue int, p_slot int) returns boolean
language sql security definer set search_path = lockgate, pg_temp
as $$
  select pg_notify('lockgate', 'slots ' || name) from lockgate.queue where id = p_queue;
  select lockgate.release_slot(p_queue, p_slot)
$$;
comment on function lockgate.pass_slot_on(int, int) is
  'Frees the lock of this slot and tells those who stand by; whether this session held it.';


-- Submitting --------------------------------------------------------------------------------------------------------

create or replace function lockgate.kept_metadata(p_envelope jsonb, p_metadata jsonb) returns jsonb
language sql immutable
return case when p_envelope is null then p_metadata
            else p_envelope || coalesce(nullif(p_metadata, 'null'), '{}') end;
comment on function lockgate.kept_metadata(jsonb, jsonb) is
  'The metadata of a task: what came around its request, under what the request itself says.';

create or replace function lockgate.digest(p_request jsonb) returns uuid
language sql immutable
return md5((p_request - '{envelope,idempotency_scope}'::text[])::text)::uuid;
comment on function lockgate.digest(jsonb) is 'Tells one request from another with the same idempotency key and scope.';

-- Counting takes as long as there is something to count. So a count holds for twenty times the time it took, and with it
-- what this session adds; what others submit in that time may exceed the limit. From the end of the line, where no claim
-- has left dead entries.
create or replace function lockgate.room(p_queue lockgate.queue, p_wanted int) returns int
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
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
      order by lockgate.rank(priority, id) desc limit p_queue.depth_max) q;
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
comment on function lockgate.room(lockgate.queue, int) is
  'How many of so many more tasks a queue with a depth_max takes, which are counted as submitted by this.';

-- The one door into the table. p_tasks is a JSON array of objects with kind and, if wanted, queue, payload, priority,
-- run_at or delay, max_attempts, timeout, tags, metadata, idempotency_key, dedupe_key, and idempotency_scope where that
-- is another than p_scope; and an envelope: what came around the request (headers of a message) and may differ when the
-- same request comes again. It is kept in metadata, under what the request says there itself. Either every item gets an
-- outcome or, for an item that breaks a limit, nothing is stored. Does not notify: callers do, once, after they commit.
create or replace function lockgate.submit_batch(p_tasks jsonb, p_scope text default '')
returns table (item int, task bigint, outcome lockgate.submit_outcome)
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
#variable_conflict use_column
declare
  v_queue lockgate.queue;
  v_payload int;  -- bytes of the largest
  v_metadata int;
  v_tags int;
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
      max(octet_length(lockgate.kept_metadata(e -> 'envelope', e -> 'metadata')::text)),
      max(octet_length((e -> 'tags')::text)),
      bool_or(e ? 'idempotency_key' or e ? 'dedupe_key')
    into v_payload, v_metadata, v_tags, v_keyed from jsonb_array_elements(p_tasks) e;
  if v_payload > 1048576 then
    raise exception 'payload is larger than 1 MiB' using errcode = '23514', constraint = 'payload_is_at_most_1_mib';
  end if;
  if v_metadata > 16384 then
    raise exception 'metadata is larger than 16 KiB' using errcode = '23514', constraint = 'metadata_is_at_most_16_kib';
  end if;
  if v_tags > 4096 then
    raise exception 'tags are larger than 4 KiB' using errcode = '23514', constraint = 'tags_are_at_most_4_kib';
  end if;
  if v_keyed then
    -- Stored in this order, or two batches with the same keys could wait for each other. Found out apart from the rows,
    -- whose width would make it a fifth of the work.
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
      v_over := v_over || v_items[lockgate.room(v_queue, cardinality(v_items)) + 1:];
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
        coalesce(lockgate.kept_metadata(r.envelope, r.metadata), '{}'), coalesce(r.idempotency_scope, p_scope),
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

    -- What was not stored met a key or a rule. A new statement sees what a rival committed meanwhile; a rival that
    -- vanished again leaves its item open for another round.
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
      -- What we found may have been committed and not have reached a synchronous standby: the wait for that was
      -- cancelled, or cut short by a restart. We wait for it here, and only a transaction that writes does wait.
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
comment on function lockgate.submit_batch(jsonb, text) is
  'Submits a JSON array of tasks; one row per item: its number from 1, the task, the outcome. Does not notify.';

-- All or nothing, also for what is refused without an error. DETAIL says which item it was, as JSON: {"item": 3}, with
-- the outcome and the task it met where it was refused.
create or replace function lockgate.submit_all(p_tasks jsonb, p_scope text default '')
returns table (item int, task bigint, outcome lockgate.submit_outcome, queue text, due text)
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
#variable_conflict use_column
declare
  v_items int[];
  v_tasks bigint[];
  v_outcomes lockgate.submit_outcome[];
  v_refused int;
  v_state text;
  v_message text;
  v_constraint text;
  v_table text;
  v_datatype text;
begin
  begin
    select array_agg(b.item), array_agg(b.task), array_agg(b.outcome) into v_items, v_tasks, v_outcomes
      from lockgate.submit_batch(p_tasks, p_scope) b;
  exception when data_exception or integrity_constraint_violation or program_limit_exceeded then
    -- Which one is it? The first that cannot be stored alone either. What can be is taken back.
    for v_n in 1 .. case jsonb_typeof(p_tasks) when 'array' then jsonb_array_length(p_tasks) else 0 end loop
      begin
        perform lockgate.submit_batch(jsonb_build_array(p_tasks -> (v_n - 1)), p_scope);
        raise exception using errcode = 'LG000';
      exception when sqlstate 'LG000' then
        null;
      when data_exception or integrity_constraint_violation or program_limit_exceeded then
        get stacked diagnostics v_state = returned_sqlstate, v_message = message_text,
          v_constraint = constraint_name, v_table = table_name, v_datatype = pg_datatype_name;
        raise exception using errcode = v_state, message = v_message, constraint = v_constraint, table = v_table,
          datatype = v_datatype, detail = jsonb_build_object('item', v_n);
      end;
    end loop;
    raise;
  end;
  select u.n into v_refused from unnest(v_items, v_outcomes) u(n, outcome)
    where u.outcome not in ('created', 'replayed', 'deduplicated') order by u.n limit 1;
  if found then
    raise exception 'item % is refused: %', v_refused, v_outcomes[array_position(v_items, v_refused)]
      using errcode = 'LG012', detail = jsonb_build_object(
        'item', v_refused, 'outcome', v_outcomes[array_position(v_items, v_refused)],
        'task', v_tasks[array_position(v_items, v_refused)]);
  end if;
  return query
    select u.item, u.task, u.outcome, t.queue,
      case when t.status = 'queued' then 'now'
           when t.status = 'scheduled' and t.run_at < now() + interval '1 minute' then 'soon' end
    from unnest(v_items, v_tasks, v_outcomes) u(item, task, outcome) left join lockgate.task t on t.id = u.task
    order by u.item;
end
$$;
comment on function lockgate.submit_all(jsonb, text) is
  'submit_batch, but nothing is stored unless every item is; and where each task is, and whether it is due now or soon.';

create or replace function lockgate.wake(p_queue text) returns void
language sql
as $$ select pg_notify('lockgate', 'queue ' || p_queue) $$;
comment on function lockgate.wake(text) is 'Tells idle runners to look at that queue now.';

create or replace function lockgate.wake_later(p_queue text) returns void
language sql
as $$ select pg_notify('lockgate', 'later ' || p_queue) $$;
comment on function lockgate.wake_later(text) is
  'Tells idle runners that a task of that queue is due within a minute: sooner than they may look by themselves.';

-- For people and for SQL in somebody's own transaction: raises instead of returning an outcome, and notifies. The
-- notification serialises commits; `set lockgate.notify = off` leaves it to the poll.
create or replace function lockgate.submit(
  queue text, kind text, payload jsonb default '{}', priority int default null, run_at timestamptz default null,
  delay double precision default null, max_attempts int default null, timeout double precision default null,
  tags text[] default null, metadata jsonb default null, idempotency_key text default null,
  dedupe_key text default null)
returns bigint
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
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
comment on function lockgate.submit is
  'Submits one task and returns its number: select submit(''default'', ''sleep'', ''{"max": 3}'', priority => 5). '
  'Takes part in your transaction.';


-- What runners look at ----------------------------------------------------------------------------------------------

create or replace function lockgate.look(p_queues text[] default null)
returns table (
  queue int, name text, slots int, paused boolean, grace double precision, due boolean, next_due double precision)
language sql stable security definer set search_path = lockgate, pg_temp
as $$
  select q.id, q.name, q.slots, q.paused, q.grace,
    -- Not EXISTS, which drops the order and with it the index: a queue just emptied would cost a read of the table. From
    -- the end of the line, where no claim has left dead entries.
    (select true from lockgate.task t where t.queue = q.name and t.status = 'queued'
     order by lockgate.rank(t.priority, t.id) desc limit 1) is not null or coalesce(s.run_at <= now(), false),
    extract(epoch from s.run_at - now())::double precision
  from lockgate.queue q
  left join lateral (
    select t.run_at from lockgate.task t
    where t.queue = q.name and t.status = 'scheduled' order by t.run_at limit 1) s on true
  where p_queues is null or q.name = any (p_queues)
  order by q.id
$$;
comment on function lockgate.look(text[]) is
  'The queues a runner serves: whether each has work due now, and in how many seconds its next scheduled task is.';

create or replace function lockgate.occupied()
returns table (
  queue int, slot int, task bigint, lease bigint, runner text, session int, grace double precision,
  cancel_requested lockgate.cancel_mode, pid int)
language sql stable security definer set search_path = lockgate, pg_temp
as $$
  with held as materialized (
    select classid::bigint - lockgate.lock_class(0) as queue, objid::bigint as slot, pid
    from pg_locks
    where locktype = 'advisory' and granted and objsubid = 2 and classid > lockgate.lock_class(0)::oid
      and database = (select oid from pg_database where datname = current_database())
  ), busy as (
    select q.id as queue, t.slot, t.id, t.lease, t.runner, t.session, t.grace, t.cancel_requested
    from lockgate.running() t join lockgate.queue q on q.name = t.queue
  )
  select q.id, coalesce(b.slot, h.slot::int), b.id, b.lease, b.runner, b.session, coalesce(b.grace, q.grace),
    b.cancel_requested, h.pid
  from held h
  full join busy b on b.queue = h.queue and b.slot = h.slot
  join lockgate.queue q on q.id = coalesce(b.queue, h.queue)
$$;
comment on function lockgate.occupied() is
  'Every slot that has a running task or a held lock: the task, and the backend that holds the lock (null = free).';

-- With the rights of the caller, who sees the activity of sessions of its own login role (or of all, with
-- pg_read_all_stats). state_change moves with every statement, so a holder that pings shows it here for free.
create or replace function lockgate.watch()
returns table (
  queue int, slot int, task bigint, lease bigint, runner text, session int, grace double precision,
  cancel_requested lockgate.cancel_mode, pid int, backend_start timestamptz, state_change timestamptz)
language sql stable
as $$
  select o.*, a.backend_start, a.state_change
  from lockgate.occupied() o left join pg_stat_get_activity(null) a on a.pid = o.pid
$$;
comment on function lockgate.watch() is
  'occupied(), with when the holder''s backend started and last did anything: what every runner checks on each poll.';

create or replace function lockgate.standing_by() returns int
language sql stable
as $$
  select count(*)::int from (
    select from pg_locks
    where locktype = 'advisory' and granted and objsubid = 2 and classid >= lockgate.lock_class(0)::oid
      and database = (select oid from pg_database where datname = current_database())
    group by pid having max(classid) = lockgate.lock_class(0)::oid) s
$$;
comment on function lockgate.standing_by() is 'How many runners'' sessions are alive and hold no slot.';


-- A runner's session ------------------------------------------------------------------------------------------------

create or replace function lockgate.register(
  p_runner text, p_host text, p_pid int, p_version text, p_concurrency int, p_queues text[], p_kinds text[])
returns int
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
declare
  v_session int;
  v_draining boolean := exists (select from lockgate.runner r where r.runner = p_runner and r.draining);
begin
  -- Never waits for a standby: a runner that comes back has hands to keep alive. What bears this session's number and
  -- has to reach a standby is committed after it, and reaches it after it.
  perform set_config('synchronous_commit', 'local', true);
  -- Sessions gone for a day are history nobody asks for. A row is visible only once its lock is held.
  delete from lockgate.runner r
  where r.since < now() - interval '1 day' and not exists (
    select from pg_locks l where l.locktype = 'advisory' and l.objsubid = 2
      and l.classid = lockgate.lock_class(0)::oid and l.objid = r.session::oid);
  insert into lockgate.runner (runner, host, pid, backend_pid, version, concurrency, queues, kinds, draining)
    values (p_runner, p_host, p_pid, pg_backend_pid(), p_version, p_concurrency, p_queues, p_kinds, v_draining)
    returning session into v_session;
  perform pg_advisory_lock(lockgate.lock_class(0), v_session);
  return v_session;
end
$$;
comment on function lockgate.register(text, text, int, text, int, text[], text[]) is
  'Announces a runner''s session and takes its session lock; the session''s number.';

create or replace function lockgate.announce_schemas(p_session int, p_schemas jsonb) returns void
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
begin
  if octet_length(p_schemas::text) > 262144 then
    raise exception 'schemas are larger than 256 KiB' using errcode = '23514',
      constraint = 'schemas_are_at_most_256_kib';
  end if;
  perform set_config('synchronous_commit', 'local', true);
  update lockgate.runner set schemas = p_schemas where session = p_session;
end
$$;
comment on function lockgate.announce_schemas(int, jsonb) is
  'Says, by kind, which JSON Schema the payloads of a runner''s handlers have; for kind_overview.';

create or replace function lockgate.deregister(p_session int) returns void
language sql security definer set search_path = lockgate, pg_temp
as $$
  delete from lockgate.runner where session = p_session;
  select pg_advisory_unlock_all();
$$;
comment on function lockgate.deregister(int) is 'Ends a runner''s session and frees every lock it holds.';


create or replace function lockgate.drain_runner(runner text) returns void
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
begin
  perform lockgate.set_draining(runner, true);
end
$$;
comment on function lockgate.drain_runner(text) is
  'Tells a runner process to take no more tasks and let its slots go, each once the task in it has ended. It stays, and '
  'takes part in adoption, until resume_runner or its end. LG010 if there is no such runner.';

create or replace function lockgate.resume_runner(runner text) returns void
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
begin
  perform lockgate.set_draining(runner, false);
end
$$;
comment on function lockgate.resume_runner(text) is 'Ends what drain_runner began. LG010 if there is no such runner.';

create or replace function lockgate.set_draining(p_runner text, p_draining boolean) returns void
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
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
comment on function lockgate.set_draining(text, boolean) is 'For drain_runner and resume_runner.';

create or replace function lockgate.is_draining(p_session int) returns boolean
language sql stable security definer set search_path = lockgate, pg_temp
as $$ select draining from lockgate.runner where session = p_session $$;
comment on function lockgate.is_draining(int) is 'Whether that session''s runner was told to take no more tasks; null = unknown.';


-- The life of a task ------------------------------------------------------------------------------------------------

create or replace function lockgate.promote(p_queue text) returns int
language sql security definer set search_path = lockgate, pg_temp
as $$
  with due as materialized (
    select id from lockgate.task
    where queue = p_queue and status = 'scheduled' and run_at <= now()
    order by run_at limit 100 for no key update skip locked
  ), moved as (
    update lockgate.task t set status = 'queued' from due where t.id = due.id returning 1
  )
  select count(*)::int from moved
$$;
comment on function lockgate.promote(text) is
  'scheduled -> queued for at most 100 tasks whose time has come; called by every claim. How many it moved.';

-- Claims leave dead entries at the head of each priority's line, and they stay there while any transaction is open that is
-- older than they are. Where a look from the very beginning had to read more than a hundred of them, the session goes on
-- for a while from where it was last in each priority, which it keeps in settings of its own. What came into the line
-- further ahead meanwhile (put back, promoted, retried, committed late) is found by the next look from the beginning:
-- when the short way finds nothing, and otherwise as often as takes a twentieth of the time.
create or replace function lockgate.first_in_line(p_queue int, p_name text) returns tid
language plpgsql
as $$
declare
  v_heads_setting text := 'lockgate.heads_' || p_queue;
  v_short_setting text := 'lockgate.short_until_' || p_queue;
  v_heads bigint[] := coalesce(nullif(current_setting(v_heads_setting, true), ''), '{}')::bigint[];  -- ascending ranks
  v_begin timestamptz := clock_timestamp();
  v_read bigint;
  v_from bigint := lockgate.rank(101::smallint, 0);
  v_place tid;
  v_rank bigint;
  v_i int := 1;
begin
  if v_begin < nullif(current_setting(v_short_setting, true), '')::timestamptz then
    -- From each head to where the next head's priority begins.
    for v_n in 1 .. cardinality(v_heads) + 1 loop
      select ctid, lockgate.rank(priority, id) into v_place, v_rank from lockgate.task
      where queue = p_name and status = 'queued' and lockgate.rank(priority, id) >= v_from
        and lockgate.rank(priority, id) < coalesce((v_heads[v_n] >> 48) << 48, lockgate.rank((-101)::smallint, 0))
      order by lockgate.rank(priority, id) limit 1 for no key update skip locked;
      exit when found;
      v_from := v_heads[v_n];
    end loop;
  end if;
  if v_place is null then
    v_read := pg_stat_get_xact_tuples_returned('lockgate.task_claim'::regclass);
    select ctid, lockgate.rank(priority, id) into v_place, v_rank from lockgate.task
    where queue = p_name and status = 'queued'
    order by lockgate.rank(priority, id) limit 1 for no key update skip locked;
    if pg_stat_get_xact_tuples_returned('lockgate.task_claim'::regclass) - v_read > 100 then
      perform set_config(v_short_setting, (clock_timestamp() + 20 * (clock_timestamp() - v_begin))::text, false);
    else
      perform set_config(v_short_setting, '', false);
    end if;
  end if;
  if v_place is not null then
    while v_heads[v_i] >> 48 < v_rank >> 48 loop
      v_i := v_i + 1;
    end loop;
    if v_heads[v_i] >> 48 = v_rank >> 48 then
      v_heads[v_i] := v_rank;
    else
      v_heads := v_heads[:v_i - 1] || v_rank || v_heads[v_i:];
    end if;
    perform set_config(v_heads_setting, v_heads::text, false);
  end if;
  return v_place;
end
$$;
comment on function lockgate.first_in_line(int, text) is
  'Locks the queued task that goes first in that queue (and that nobody else has locked); where it lies, or null.';

-- Called when a statement about an attempt matched no running row: true if this very lease has ended already (the
-- answer to an earlier call was lost), else the lease belongs to somebody else now.
create or replace function lockgate.lease_has_ended(p_task bigint, p_lease bigint, p_runner text) returns boolean
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
begin
  perform from lockgate.task where id = p_task and lease = p_lease and runner = p_runner and status <> 'running';
  if found then
    perform lockgate.settle();
    return true;
  end if;
  raise exception 'lease % of task % is lost', p_lease, p_task using errcode = 'LG002',
    hint = 'the slot was adopted; drop the result';
end
$$;
comment on function lockgate.lease_has_ended(bigint, bigint, text) is
  'Whether the end of that lease is already recorded; raises LG002 when the lease is lost.';

-- Ends it where its turn lies: the index of turns holds no task that waits, so it stays small where millions do.
create or replace function lockgate.succeed(
  p_queue text, p_turn bigint, p_task bigint, p_lease bigint, p_runner text, p_exec_time double precision, p_result jsonb)
returns boolean
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
begin
  if octet_length(p_result::text) > 1048576 then
    raise exception 'result is larger than 1 MiB' using errcode = '23514', constraint = 'result_is_at_most_1_mib';
  end if;
  perform set_config('synchronous_commit', 'on', true);
  update lockgate.task
  set status = 'succeeded', slot = null, finish_time = now(), exec_time = p_exec_time, result = p_result
  where queue = p_queue and turn = p_turn
    and id = p_task and lease = p_lease and runner = p_runner and status = 'running';
  if found then
    return true;
  end if;
  return not lockgate.lease_has_ended(p_task, p_lease, p_runner);
end
$$;
comment on function lockgate.succeed(text, bigint, bigint, bigint, text, double precision, jsonb) is
  'finish, for who knows the task''s queue and turn.';

create or replace function lockgate.finish(
  p_task bigint, p_lease bigint, p_runner text, p_exec_time double precision, p_result jsonb)
returns boolean
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
declare
  v_queue text;
  v_turn bigint;
begin
  select queue, turn into v_queue, v_turn from lockgate.task where id = p_task;
  return lockgate.succeed(v_queue, v_turn, p_task, p_lease, p_runner, p_exec_time, p_result);
end
$$;
comment on function lockgate.finish(bigint, bigint, text, double precision, jsonb) is
  'running -> succeeded. False if this lease''s end was already recorded; LG002 if the lease is lost.';

-- The slot's newest turn is looked up once, for both. Only when the end is recorded does it ask whether the session holds
-- the slot: that a lease is lost is the graver news.
create or replace function lockgate.finish_and_claim(
  p_task bigint, p_lease bigint, p_runner text, p_exec_time double precision, p_result jsonb,
  p_queue int, p_slot int, p_session int)
returns setof lockgate.claimed
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
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
    perform lockgate.succeed(v_queue.name, v_turn, p_task, p_lease, p_runner, p_exec_time, p_result);
    v_status := 'succeeded';
  elsif p_task is not null then
    perform lockgate.finish(p_task, p_lease, p_runner, p_exec_time, p_result);
  end if;
  if not lockgate.keep_slot(p_queue, p_slot) then
    raise exception 'session % does not hold slot % of queue %', p_session, p_slot, p_queue using errcode = 'LG004',
      hint = 'take the slot first, on this connection';
  end if;
  if v_queue.paused is not false or p_slot not between 1 and v_queue.slots then
    return;
  end if;
  if v_status = 'running' then
    return;
  end if;
  perform set_config('synchronous_commit', 'on', true);
  -- In the order of task_due: asked for any due row, a plan that expects many reads the whole table to find none.
  if (select run_at from lockgate.task where queue = v_queue.name and status = 'scheduled' order by run_at limit 1)
      <= now() then
    perform lockgate.promote(v_queue.name);
  end if;
  v_next := lockgate.first_in_line(p_queue, v_queue.name);
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
comment on function lockgate.finish_and_claim(bigint, bigint, text, double precision, jsonb, int, int, int) is
  'finish, then claim the next task into the same slot: one round trip, one commit.';

-- Called by a runner for a slot it holds.
create or replace function lockgate.claim(p_queue int, p_slot int, p_runner text, p_session int)
returns setof lockgate.claimed
language sql security definer set search_path = lockgate, pg_temp
as $$
  select * from lockgate.finish_and_claim(null, null, p_runner, null, null, p_queue, p_slot, p_session)
$$;
comment on function lockgate.claim(int, int, text, int) is
  'queued -> running: the next task of that queue into a slot this session holds. Nothing while the queue is paused, '
  'the slot is above its number, or the slot''s last task still says running.';

-- Puts a running row that its caller has locked back in line, and keeps a record of the attempt.
create or replace function lockgate.put_back(
  p_row lockgate.task, p_outcome lockgate.attempt_outcome, p_delay double precision, p_error jsonb,
  p_exec_time double precision)
returns lockgate.status
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
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
comment on function lockgate.put_back(lockgate.task, lockgate.attempt_outcome, double precision, jsonb, double precision) is
  'running -> queued or, with a delay, scheduled; writes the attempt. For fail, give_back and adopt.';

-- Ends a running row that its caller has locked, without success.
create or replace function lockgate.end_task(
  p_row lockgate.task, p_status lockgate.status, p_error jsonb, p_exec_time double precision, p_adopted boolean)
returns lockgate.status
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
begin
  update lockgate.task
  set status = p_status, slot = null, finish_time = now(), exec_time = p_exec_time, error = p_error,
    lease = case when p_adopted then nextval('lockgate.lease') else p_row.lease end
  where id = p_row.id;
  return p_status;
end
$$;
comment on function lockgate.end_task(lockgate.task, lockgate.status, jsonb, double precision, boolean) is
  'running -> failed or cancelled. For fail, give_back and adopt.';

create or replace function lockgate.fail(
  p_task bigint, p_lease bigint, p_runner text, p_exec_time double precision, p_error jsonb,
  p_retry_after double precision default null, p_discard boolean default false)
returns lockgate.status
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
declare
  v_row lockgate.task;
  v_queue lockgate.queue;
  v_delay double precision;
begin
  perform set_config('synchronous_commit', 'on', true);
  select * into v_row from lockgate.task
    where id = p_task and lease = p_lease and runner = p_runner and status = 'running' for no key update;
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
comment on function lockgate.fail(bigint, bigint, text, double precision, jsonb, double precision, boolean) is
  'running -> scheduled after a back-off (or p_retry_after seconds), failed when discarded or without attempts left, '
  'cancelled when that was asked. The status now; LG002 if the lease is lost.';

create or replace function lockgate.backoff(p_queue lockgate.queue, p_attempt int) returns double precision
language sql volatile
as $$
  select least(p_queue.backoff_max, p_queue.backoff_base * 2.0 ^ least(p_attempt - 1, 60)) * (0.8 + 0.4 * random())
$$;
comment on function lockgate.backoff(lockgate.queue, int) is
  'Seconds before the attempt after this one: backoff_base, doubled per attempt, at most backoff_max, +-20 %.';

create or replace function lockgate.give_back(p_task bigint, p_lease bigint, p_runner text) returns lockgate.status
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
declare
  v_row lockgate.task;
begin
  select * into v_row from lockgate.task
    where id = p_task and lease = p_lease and runner = p_runner and status = 'running' for no key update;
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
comment on function lockgate.give_back(bigint, bigint, text) is
  'running -> queued, the attempt not counted: for a runner that stops. The status now; LG002 if the lease is lost.';

-- Called by a runner that saw this row's slot lock free, with lease and session unchanged, for the row's grace, and
-- then took the lock. Re-reads the row: only then is it certain that nobody holds it.
create or replace function lockgate.adopt(p_queue int, p_slot int, p_task bigint, p_lease bigint, p_session int)
returns lockgate.status
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
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
  -- The first death may be bad luck; a second in a row backs off, or a poison task would fell one runner after another.
  select outcome = 'adopted' into v_again from lockgate.attempt where task = p_task order by lease desc limit 1;
  return lockgate.put_back(
    v_row, 'adopted', case when v_again then lockgate.backoff(v_queue, v_row.attempt) else 0 end, v_error, null);
end
$$;
comment on function lockgate.adopt(int, int, bigint, bigint, int) is
  'running -> queued for a task whose runner is gone, the attempt counted; failed when that was its last, cancelled '
  'when that was asked. The status now, or null if the row is no longer as it was seen.';

-- Called by a runner that reconnected and took one of its slots again. Names the row by slot and runner, so that it
-- also finds a task that a finish_and_claim gave it in an answer that was lost: the lease tells which.
create or replace function lockgate.reconfirm(p_queue int, p_slot int, p_runner text, p_session int)
returns setof lockgate.claimed
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
begin
  if not lockgate.holds_slot(p_queue, p_slot) then
    raise exception 'session % does not hold slot % of queue %', p_session, p_slot, p_queue using errcode = 'LG004',
      hint = 'take the slot first, on this connection';
  end if;
  -- Never waits for a standby, like register. Whoever waits to adopt sees the mark on this server; on a standby that was
  -- promoted without it, he has only begun to wait.
  perform set_config('synchronous_commit', 'local', true);
  return query
  update lockgate.task t set session = p_session
  from lockgate.queue q, lateral (
    select n.id from lockgate.task n
    where n.queue = q.name and n.turn >= lockgate.first_turn(p_slot) and n.turn < lockgate.first_turn(p_slot + 1)
    order by n.turn desc limit 1) newest
  where q.id = p_queue and t.id = newest.id and t.status = 'running' and t.runner = p_runner
  returning t.id, t.lease, t.queue, t.kind::text, t.payload, t.attempt, t.max_attempts::int,
    t.timeout::double precision, t.grace, t.cancel_requested;
end
$$;
comment on function lockgate.reconfirm(int, int, text, int) is
  'Marks the running task of this slot and runner with its new session, which ends every adopter''s wait for it. Settle '
  'before you start a task that you find this way.';

-- A commit whose wait for a standby was cancelled, or cut short by a restart, is seen by everybody and not safe yet. Only
-- a transaction that writes waits, and a standby that has its commit has all those before.
create or replace function lockgate.settle() returns void
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
begin
  perform set_config('synchronous_commit', 'on', true);
  perform pg_logical_emit_message(true, 'lockgate', '');
end
$$;
comment on function lockgate.settle() is
  'Returns when whatever was committed before is safe: on disk, and on the disks of synchronous standbys.';

create or replace function lockgate.cancel(task bigint, force boolean default false) returns lockgate.status
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
declare
  v_status lockgate.status;
begin
  select t.status into v_status from lockgate.task t where t.id = cancel.task for no key update;
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
comment on function lockgate.cancel(bigint, boolean) is
  'Cancels a waiting task at once; asks a running one to stop (force: kills it). The status now: running means asked.';

create or replace function lockgate.retry(task bigint) returns void
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
declare
  v_row lockgate.task;
begin
  select * into v_row from lockgate.task t where t.id = retry.task for no key update;
  if not found then
    raise exception 'there is no task %', task using errcode = 'LG006';
  end if;
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
  insert into lockgate.removed (queue, finish_time, id, status, waited, ran)
    select v_row.queue, v_row.finish_time, v_row.id, v_row.status,
      lockgate.waited(v_row.start_time, v_row.run_at, v_row.create_time),
      lockgate.ran(v_row.start_time, v_row.run_at, v_row.exec_time)
    where lockgate.is_uncounted(v_row.queue, v_row.finish_time, v_row.id)
    on conflict do nothing;
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
comment on function lockgate.retry(bigint) is
  'failed, cancelled -> queued, due now, with at least one more attempt; its attempts so far are kept. LG007 for others.';

create or replace function lockgate.remove(p_tasks bigint[]) returns int
language sql security definer set search_path = lockgate, pg_temp
as $$
  with gone as (
    delete from lockgate.task t where t.id = any (p_tasks) returning 1
  ), attempts as (
    delete from lockgate.attempt a where a.task = any (p_tasks)
  ), outputs as (
    delete from lockgate.output o where o.task = any (p_tasks)
  )
  select count(*)::int from gone
$$;
comment on function lockgate.remove(bigint[]) is
  'Deletes tasks that its caller has locked, with their attempts and output; how many. For delete_task, purge and tidy.';

create or replace function lockgate.delete_task(task bigint) returns void
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
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
  perform lockgate.remove(array[task]);
end
$$;
comment on function lockgate.delete_task(bigint) is
  'Deletes a task that is not running, with its attempts and output. LG007 while it runs.';

create or replace function lockgate.change_task(task bigint, changes jsonb) returns void
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
declare
  v_unknown text;
  v_row lockgate.task;
  v_new record;
begin
  select k into v_unknown from jsonb_object_keys(changes - array['priority', 'run_at', 'tags', 'max_attempts']) k limit 1;
  if found then
    raise exception '"%" of a task cannot be changed', v_unknown using errcode = '22023', column = v_unknown;
  end if;
  if octet_length((changes -> 'tags')::text) > 4096 then
    raise exception 'tags are larger than 4 KiB' using errcode = '23514', constraint = 'tags_are_at_most_4_kib';
  end if;
  select * into v_row from lockgate.task t where t.id = change_task.task for no key update;
  if not found then
    raise exception 'there is no task %', task using errcode = 'LG006';
  end if;
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
  if changes ? 'run_at' and v_new.run_at <= now() then
    perform lockgate.wake(v_row.queue);
  elsif changes ? 'run_at' and v_new.run_at < now() + interval '1 minute' then
    perform lockgate.wake_later(v_row.queue);
  end if;
end
$$;
comment on function lockgate.change_task(bigint, jsonb) is
  'Changes priority, run_at (null: now), tags or max_attempts of a task that waits: change_task(17, ''{"priority": 5}''). '
  'LG007 for others.';

-- Many tasks at a time. Each does what it can and returns how many that were: tasks that are gone, of another status or
-- queue than named, or that it may not touch, are left as they are. Locks are taken in the order of the ids.

create or replace function lockgate.cancel_tasks(
  p_tasks bigint[], p_force boolean default false, p_statuses lockgate.status[] default null, p_queue text default null)
returns int
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
declare
  v_task record;
  v_cancelled int := 0;
begin
  for v_task in
    select t.id from lockgate.task t
    where t.id = any (p_tasks) and t.status in ('scheduled', 'queued', 'running')
      and (p_statuses is null or t.status = any (p_statuses)) and (p_queue is null or t.queue = p_queue)
    order by t.id for no key update
  loop
    perform lockgate.cancel(v_task.id, p_force);
    v_cancelled := v_cancelled + 1;
  end loop;
  return v_cancelled;
end
$$;
comment on function lockgate.cancel_tasks(bigint[], boolean, lockgate.status[], text) is
  'cancel for many: how many were cancelled or, running, asked to stop.';

create or replace function lockgate.retry_tasks(
  p_tasks bigint[], p_statuses lockgate.status[] default null, p_queue text default null)
returns int
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
declare
  v_task record;
  v_retried int := 0;
begin
  for v_task in
    select t.id from lockgate.task t
    where t.id = any (p_tasks) and t.status in ('failed', 'cancelled')
      and (p_statuses is null or t.status = any (p_statuses)) and (p_queue is null or t.queue = p_queue)
    order by t.id for no key update
  loop
    begin
      perform lockgate.retry(v_task.id);
      v_retried := v_retried + 1;
    exception when sqlstate 'LG008' then
      null;
    end;
  end loop;
  return v_retried;
end
$$;
comment on function lockgate.retry_tasks(bigint[], lockgate.status[], text) is
  'retry for many: how many are queued again. Leaves those whose dedupe key an unfinished task has.';

create or replace function lockgate.delete_tasks(
  p_tasks bigint[], p_statuses lockgate.status[] default null, p_queue text default null)
returns int
language sql security definer set search_path = lockgate, pg_temp
as $$
  select lockgate.remove(array(
    select t.id from lockgate.task t
    where t.id = any (p_tasks) and t.status <> 'running'
      and (p_statuses is null or t.status = any (p_statuses)) and (p_queue is null or t.queue = p_queue)
    order by t.id for update))
$$;
comment on function lockgate.delete_tasks(bigint[], lockgate.status[], text) is
  'delete_task for many: how many are gone. Leaves those that run.';

-- What a handler says while it executes ------------------------------------------------------------------------------

create or replace function lockgate.report_progress(p_task bigint, p_lease bigint, p_runner text, p_progress jsonb)
returns boolean
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
begin
  if octet_length(p_progress::text) > 16384 then
    raise exception 'progress is larger than 16 KiB' using errcode = '23514', constraint = 'progress_is_at_most_16_kib';
  end if;
  update lockgate.task set progress = p_progress
  where id = p_task and lease = p_lease and runner = p_runner and status = 'running';
  return found;
end
$$;
comment on function lockgate.report_progress(bigint, bigint, text, jsonb) is
  'Stores what a handler reported last; false when the lease is lost or its end recorded.';

-- Locks the row against its deletion, which would not see what is written here and leave it behind for ever. Others
-- lock rows `for no key update`, which does not wait for this.
create or replace function lockgate.write_output(p_task bigint, p_lease bigint, p_text text) returns void
language sql security definer set search_path = lockgate, pg_temp
as $$
  insert into lockgate.output as o (task, lease, text)
  select id, p_lease, right(p_text, 65536) from lockgate.task where id = p_task for key share
  on conflict (task, lease) do update set text = right(o.text || excluded.text, 65536)
$$;
comment on function lockgate.write_output(bigint, bigint, text) is
  'Adds to what an attempt printed, of which the last 65,536 characters are kept. Nothing for a task that is gone.';

-- Chores -------------------------------------------------------------------------------------------------------------

create or replace function lockgate.purge(queue text, batch int default 1000) returns int
language sql security definer set search_path = lockgate, pg_temp
as $$
  select lockgate.remove(array(
    select t.id from lockgate.task t
    where t.queue = purge.queue and t.status in ('succeeded', 'failed', 'cancelled')
    order by t.finish_time limit batch for update skip locked))
$$;
comment on function lockgate.purge(text, int) is
  'Deletes a batch of the ended tasks of a queue, the longest ended first, whatever their age; how many.';

create or replace function lockgate.tidy(p_batch int default 500) returns int
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
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
  delete from lockgate.removed where finish_time < now() - interval '1 day';  -- runners before version 3 do not count
  return v_removed;
end
$$;
comment on function lockgate.tidy(int) is
  'Removes a batch of ended tasks older than their queue''s retention; how many, or null while another session has the '
  'chores. Keeps the chores lock for the session.';


-- Counting -----------------------------------------------------------------------------------------------------------
-- What has ended is counted by the minute, in the order (finish_time, id) of each queue, some seconds after it has ended:
-- by the chores, so that a claim and a finish pay nothing for it. Each end is counted once, also if its task is retried
-- or deleted before: then the end is put aside, in the transaction that removes it, and counted from there.

create or replace function lockgate.waited(
  p_start_time timestamptz, p_run_at timestamptz, p_create_time timestamptz) returns double precision
language sql immutable
return case when p_start_time >= p_run_at
  then least(greatest(extract(epoch from p_start_time - greatest(p_run_at, p_create_time)), 0), 1e9) end;
comment on function lockgate.waited(timestamptz, timestamptz, timestamptz) is
  'Seconds from when an ended task was due until it started; null = it has not started since it was due.';

-- Whatever a runner says of its clock, sums stay numbers.
create or replace function lockgate.ran(
  p_start_time timestamptz, p_run_at timestamptz, p_exec_time double precision) returns double precision
language sql immutable
return case when p_start_time >= p_run_at then least(greatest(p_exec_time, 0), 1e9) end;
comment on function lockgate.ran(timestamptz, timestamptz, double precision) is
  'Seconds that the attempt took which ended a task; null = none has since it was due, or its runner died.';

create or replace function lockgate.is_uncounted(p_queue text, p_finish_time timestamptz, p_id bigint) returns boolean
language sql stable security definer set search_path = lockgate, pg_temp
as $$
  select p_finish_time > now() - interval '7 days' and not exists (
    select from lockgate.total t where t.queue = p_queue and (p_finish_time, p_id) <= (t.finish_time, t.id))
$$;
comment on function lockgate.is_uncounted(text, timestamptz, bigint) is 'Whether an end is still to be counted.';

-- What was counted meanwhile by somebody else, which this transaction does not see, is put aside for nothing: counting
-- has passed it by.
create or replace function lockgate.put_ends_aside() returns trigger
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
begin
  insert into lockgate.removed (queue, finish_time, id, status, waited, ran)
  select g.queue, g.finish_time, g.id, g.status, lockgate.waited(g.start_time, g.run_at, g.create_time),
    lockgate.ran(g.start_time, g.run_at, g.exec_time)
  from gone g
  where g.finish_time is not null and lockgate.is_uncounted(g.queue, g.finish_time, g.id)
  on conflict do nothing;
  return null;
end
$$;
comment on function lockgate.put_ends_aside() is 'Keeps the ends of deleted tasks that are not counted yet.';

create or replace trigger ends_are_put_aside after delete on lockgate.task
  referencing old table as gone for each statement execute function lockgate.put_ends_aside();

create or replace function lockgate.ends_after(
  p_queue text, p_finish_time timestamptz, p_id bigint, p_before timestamptz, p_limit int)
returns table (finish_time timestamptz, id bigint, status lockgate.status, waited double precision, ran double precision)
language sql stable security definer set search_path = lockgate, pg_temp
as $$
  (select t.finish_time, t.id, t.status, lockgate.waited(t.start_time, t.run_at, t.create_time),
     lockgate.ran(t.start_time, t.run_at, t.exec_time)
   from lockgate.task t
   where t.queue = p_queue and t.status in ('succeeded', 'failed', 'cancelled')
     and (t.finish_time, t.id) > (p_finish_time, p_id) and t.finish_time < p_before
   order by t.finish_time, t.id limit p_limit)
  union all
  (select r.finish_time, r.id, r.status, r.waited, r.ran
   from lockgate.removed r
   where r.queue = p_queue and (r.finish_time, r.id) > (p_finish_time, p_id) and r.finish_time < p_before
   order by r.finish_time, r.id limit p_limit)
  order by 1, 2 limit p_limit
$$;
comment on function lockgate.ends_after(text, timestamptz, bigint, timestamptz, int) is
  'The ends of a queue in their order: those after (finish_time, id), deleted and retried tasks included.';

create or replace function lockgate.histogram(p_seconds double precision[]) returns bigint[]
language sql immutable
as $$
  select array_agg(coalesce(c.n, 0) order by b)
  from generate_series(0, 81) b
  left join (
    select width_bucket(log(least(greatest(s, 1e-6), 1e9)), -3, 5, 80) as b, count(*) as n
    from unnest(p_seconds) s where s is not null group by 1) c using (b)
$$;
comment on function lockgate.histogram(double precision[]) is
  'How many lie in each of 82 buckets, ten to a power of ten: the first ends at a millisecond, the last but one at 100,000 s.';

create or replace function lockgate.add_up(p_one bigint[], p_other bigint[]) returns bigint[]
language sql immutable
as $$
  select array_agg(coalesce(one, 0) + coalesce(other, 0) order by n)
  from unnest(p_one, p_other) with ordinality u(one, other, n)
$$;
comment on function lockgate.add_up(bigint[], bigint[]) is 'Two histograms as one.';

create or replace function lockgate.quantile(p_histogram bigint[], p_share double precision) returns double precision
language sql immutable
as $$
  select round((case b when 0 then 0.001 when 81 then 1e5 else 10 ^ (-3 + (b - 0.5) / 10) end)::numeric, 4)  -- its middle
  from (
    select ordinality - 1 as b, n::double precision, sum(n) over (order by ordinality) as upto,
      p_share * sum(n) over () as wanted
    from unnest(p_histogram) with ordinality h(n, ordinality)) h
  where n > 0 and upto >= wanted
  order by b limit 1
$$;
comment on function lockgate.quantile(bigint[], double precision) is
  'The seconds that this share of a histogram stays below, to within an eighth; null = it is empty.';

create or replace function lockgate.waiting(p_queue text, out queued int, out scheduled int, out oldest timestamptz)
language sql stable security definer set search_path = lockgate, pg_temp
as $$
  select q.n, s.n, q.oldest
  from (
    select count(*)::int as n, min(c.run_at) as oldest
    from (select t.run_at from lockgate.task t where t.queue = p_queue and t.status = 'queued'
          order by lockgate.rank(t.priority, t.id) limit 10001) c) q,
  (
    select count(*)::int as n
    from (select from lockgate.task t where t.queue = p_queue and t.status = 'scheduled'
          order by t.run_at limit 10001) c) s
$$;
comment on function lockgate.waiting(text) is
  'How many tasks of a queue are due, and wait for their time, each counted to 10,001; since when the oldest of the first '
  'that are due has been.';

-- A bounded step, since it is the slot session that a runner does its chores on: who holds slots has to answer. Nothing is
-- lost with an unsafe commit: what was counted is forgotten together with how far counting had come.
create or replace function lockgate.roll_up(p_batch int default 1000) returns int
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
declare
  v_queue record;
  v_done int;
  v_left int := p_batch;
begin
  if not lockgate.holds_slot(0, 0) and not pg_try_advisory_lock(lockgate.lock_class(0), 0) then
    return null;
  end if;
  perform set_config('synchronous_commit', 'off', true);
  for v_queue in
    select q.name, greatest(t.finish_time, now() - interval '7 days') as finish_time, coalesce(t.id, 0) as id,
      coalesce(r.n, 0) as running
    from lockgate.queue q left join lockgate.total t on t.queue = q.name
    left join (select queue, count(*) as n from lockgate.running() group by queue) r on r.queue = q.name
    order by t.finish_time nulls first
  loop
    exit when v_left <= 0;
    with ends as materialized (
      -- What ended just now may not be committed yet.
      select * from lockgate.ends_after(
        v_queue.name, v_queue.finish_time, v_queue.id, now() - interval '5 seconds', v_left)
    ), counted as (
      select date_bin('1 minute', finish_time, 'epoch') as minute, max(finish_time) as finish_time,
        count(*) filter (where status = 'succeeded') as succeeded, count(*) filter (where status = 'failed') as failed,
        count(*) filter (where status = 'cancelled') as cancelled,
        count(waited) as waited, coalesce(sum(waited), 0) as wait_sum, lockgate.histogram(array_agg(waited)) as waits,
        count(ran) as ran, coalesce(sum(ran), 0) as run_sum, lockgate.histogram(array_agg(ran)) as runs
      from ends group by 1
    ), minutes as (
      insert into lockgate.minute as m (
        queue, minute, succeeded, failed, cancelled, waited, wait_sum, wait_histogram, ran, run_sum, run_histogram)
      select v_queue.name, minute, succeeded, failed, cancelled, waited, wait_sum, waits, ran, run_sum, runs from counted
      on conflict (queue, minute) do update
      set succeeded = m.succeeded + excluded.succeeded, failed = m.failed + excluded.failed,
        cancelled = m.cancelled + excluded.cancelled,
        waited = m.waited + excluded.waited, wait_sum = m.wait_sum + excluded.wait_sum,
        wait_histogram = lockgate.add_up(m.wait_histogram::bigint[], excluded.wait_histogram::bigint[]),
        ran = m.ran + excluded.ran, run_sum = m.run_sum + excluded.run_sum,
        run_histogram = lockgate.add_up(m.run_histogram::bigint[], excluded.run_histogram::bigint[])
    ), latest as (
      select finish_time, id from ends order by finish_time desc, id desc limit 1
    ), totals as (
      insert into lockgate.total as t (
        queue, finish_time, id, succeeded, failed, cancelled, waited, wait_sum, wait_histogram, ran, run_sum,
        run_histogram)
      select v_queue.name, l.finish_time, l.id, e.succeeded, e.failed, e.cancelled, e.waited, e.wait_sum, e.waits, e.ran,
        e.run_sum, e.runs
      from latest l, (
        select sum(succeeded) as succeeded, sum(failed) as failed, sum(cancelled) as cancelled,
          sum(waited) as waited, sum(wait_sum) as wait_sum,
          (select lockgate.histogram(array_agg(waited)) from ends) as waits,
          sum(ran) as ran, sum(run_sum) as run_sum, (select lockgate.histogram(array_agg(ran)) from ends) as runs
        from counted) e
      on conflict (queue) do update
      set finish_time = excluded.finish_time, id = excluded.id, succeeded = t.succeeded + excluded.succeeded,
        failed = t.failed + excluded.failed, cancelled = t.cancelled + excluded.cancelled,
        waited = t.waited + excluded.waited, wait_sum = t.wait_sum + excluded.wait_sum,
        wait_histogram = lockgate.add_up(t.wait_histogram, excluded.wait_histogram),
        ran = t.ran + excluded.ran, run_sum = t.run_sum + excluded.run_sum,
        run_histogram = lockgate.add_up(t.run_histogram, excluded.run_histogram)
    )
    select count(*) into v_done from ends;
    v_left := v_left - v_done;
    delete from lockgate.removed r using lockgate.total t
      where t.queue = v_queue.name and r.queue = t.queue and (r.finish_time, r.id) <= (t.finish_time, t.id);
    delete from lockgate.minute m where m.queue = v_queue.name and m.minute < now() - interval '7 days';
    if not exists (select from lockgate.minute m where m.queue = v_queue.name
                   and m.minute = date_bin('1 minute', now(), 'epoch') and m.queued is not null) then
      insert into lockgate.minute as m (queue, minute, queued, scheduled, running)
      select v_queue.name, date_bin('1 minute', now(), 'epoch'), w.queued, w.scheduled, v_queue.running
      from lockgate.waiting(v_queue.name) w
      where w.queued + w.scheduled + v_queue.running > 0
      on conflict (queue, minute) do update
      set queued = excluded.queued, scheduled = excluded.scheduled, running = excluded.running;
      if found then
        v_left := v_left - 100;
      end if;
    end if;
  end loop;
  return p_batch - v_left;
end
$$;
comment on function lockgate.roll_up(int) is
  'Counts what has ended, a batch at a time, and looks once a minute how much waits; about how many it dealt with, or null '
  'while another session has the chores. Keeps the chores lock for the session.';

create or replace function lockgate.ended_since(p_since timestamptz)
returns table (
  queue text, succeeded bigint, failed bigint, cancelled bigint, wait_median double precision,
  wait_p95 double precision, run_median double precision, run_p95 double precision)
language sql stable security definer set search_path = lockgate, pg_temp
as $$
  with minute as materialized (
    select q.name as queue, m.succeeded, m.failed, m.cancelled, m.wait_histogram, m.run_histogram
    from lockgate.queue q
    join lockgate.minute m on m.queue = q.name and m.minute >= date_bin('1 minute', p_since, 'epoch')
    union all
    -- And what is not counted yet, up to some thousands of it.
    select q.name, e.*
    from lockgate.queue q
    left join lockgate.total t on t.queue = q.name
    cross join lateral (
      select count(*) filter (where status = 'succeeded'), count(*) filter (where status = 'failed'),
        count(*) filter (where status = 'cancelled'), lockgate.histogram(array_agg(waited)),
        lockgate.histogram(array_agg(ran))
      from lockgate.ends_after(q.name, greatest(t.finish_time, p_since), coalesce(t.id, 0), 'infinity', 2000)) e
  ), counted as (
    select queue, coalesce(sum(succeeded), 0)::bigint as succeeded, coalesce(sum(failed), 0)::bigint as failed,
      coalesce(sum(cancelled), 0)::bigint as cancelled
    from minute group by grouping sets ((queue), ())
  ), bucket as (
    select queue, b, sum(waits)::bigint as waits, sum(runs)::bigint as runs
    from minute cross join lateral unnest(wait_histogram, run_histogram) with ordinality h(waits, runs, b)
    group by grouping sets ((queue, b), (b))
  ), histogram as (
    select queue, array_agg(waits order by b) as waits, array_agg(runs order by b) as runs from bucket group by queue
  )
  select c.queue, c.succeeded, c.failed, c.cancelled, lockgate.quantile(h.waits, 0.5), lockgate.quantile(h.waits, 0.95),
    lockgate.quantile(h.runs, 0.5), lockgate.quantile(h.runs, 0.95)
  from counted c left join histogram h on h.queue is not distinct from c.queue
  order by c.queue nulls first
$$;
comment on function lockgate.ended_since(timestamptz) is
  'What has ended in each queue, and in all (queue is null), since the minute of that time, of which the last 7 days are '
  'known; how long those tasks had waited when they last started, and how long they executed: in seconds, to within an '
  'eighth.';

create or replace function lockgate.series(
  p_from timestamptz, p_to timestamptz, p_step double precision, p_queue text default null)
returns table (
  "time" timestamptz, succeeded bigint, failed bigint, cancelled bigint, queued bigint, scheduled bigint, running bigint,
  wait_mean double precision, run_mean double precision)
language sql stable security definer set search_path = lockgate, pg_temp
as $$
  with step as materialized (
    select s as begin, s + p_step * interval '1 second' as "end"
    from generate_series(p_from, p_to - interval '1 microsecond', p_step * interval '1 second') s
  ), minute as materialized (
    select m.minute, sum(m.succeeded) as succeeded, sum(m.failed) as failed, sum(m.cancelled) as cancelled,
      sum(m.queued) as queued, sum(m.scheduled) as scheduled, sum(m.running) as running,
      sum(m.waited) as waited, sum(m.wait_sum) as wait_sum, sum(m.ran) as ran, sum(m.run_sum) as run_sum
    from lockgate.queue q join lockgate.minute m on m.queue = q.name and m.minute >= p_from and m.minute < p_to
    where p_queue is null or q.name = p_queue
    group by m.minute
  ), counted as (
    select date_bin(p_step * interval '1 second', minute, p_from) as begin, sum(succeeded) as succeeded,
      sum(failed) as failed, sum(cancelled) as cancelled, max(queued) as queued, max(scheduled) as scheduled,
      max(running) as running, sum(waited) as waited, sum(wait_sum) as wait_sum, sum(ran) as ran, sum(run_sum) as run_sum
    from minute group by 1
  )
  select s.begin, coalesce(c.succeeded, 0)::bigint, coalesce(c.failed, 0)::bigint, coalesce(c.cancelled, 0)::bigint,
    coalesce(c.queued, 0)::bigint, coalesce(c.scheduled, 0)::bigint, coalesce(c.running, 0)::bigint,
    round((c.wait_sum / nullif(c.waited, 0))::numeric, 3), round((c.run_sum / nullif(c.ran, 0))::numeric, 3)
  from step s left join counted c on c.begin = s.begin
  order by s.begin
$$;
comment on function lockgate.series(timestamptz, timestamptz, double precision, text) is
  'The minutes from p_from to p_to in steps of p_step seconds, a multiple of 60: what ended, the most that waited and '
  'executed at the beginning of a minute, and the mean seconds of waiting and executing. Of one queue or all.';


-- Outcomes -----------------------------------------------------------------------------------------------------------
-- Each end of a task, for others to hear of. It is written in the transaction that ends the task, by a trigger that is
-- there only while somebody wants it: otherwise an end costs nothing. The row holds all of the event, since the task may
-- be retried or deleted before that is published.

create or replace function lockgate.record_outcome() returns trigger
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
declare
  v_id bigint := nextval('lockgate.outcome_id_seq');
  v_form text := 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"';
  v_fits boolean := coalesce(octet_length(new.result::text) <= 65536, true);
begin
  insert into lockgate.outcome (id, task, queue, kind, status, body)
  overriding system value
  values (v_id, new.id, new.queue, new.kind, new.status, json_build_object(
    'event', v_id, 'task', new.id, 'queue', new.queue, 'kind', new.kind, 'status', new.status,
    'create_time', to_char(new.create_time at time zone 'UTC', v_form),
    'start_time', to_char(new.start_time at time zone 'UTC', v_form),
    'finish_time', to_char(new.finish_time at time zone 'UTC', v_form),
    'exec_time', new.exec_time, 'attempt', new.attempt, 'lease', new.lease,
    'error', case when octet_length(new.error::text) <= 65536 then new.error
                  when new.error is not null then jsonb_build_object(
                    'type', left(new.error ->> 'type', 200), 'message', left(new.error ->> 'message', 1000)) end,
    'result', case when v_fits then new.result end, 'result_left_out', not v_fits,
    'tags', new.tags, 'metadata', new.metadata, 'idempotency_key', new.idempotency_key));
  return null;
end
$$;
comment on function lockgate.record_outcome() is 'Writes how a task ended. For the trigger of set_outcomes.';

create or replace function lockgate.set_outcomes(enabled boolean) returns boolean
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
begin
  if enabled = exists (select from pg_trigger t where t.tgrelid = 'lockgate.task'::regclass
                       and t.tgname = 'an_end_is_an_outcome') then
    return false;
  end if;
  -- Waits for whoever is writing a task, and lets nobody begin meanwhile.
  perform set_config('lock_timeout', '1s', true);
  if enabled then
    create or replace trigger an_end_is_an_outcome after update of finish_time on lockgate.task for each row
      when (old.finish_time is null and new.finish_time is not null) execute function lockgate.record_outcome();
  else
    drop trigger if exists an_end_is_an_outcome on lockgate.task;
  end if;
  return true;
end
$$;
comment on function lockgate.set_outcomes(boolean) is
  'Whether each end of a task is written down to be published, from now on: false at first. Whether that is a change.';

create or replace function lockgate.lead_outcomes() returns boolean
language sql security definer set search_path = lockgate, pg_temp
as $$
  select case when lockgate.holds_slot(0, -2) then true
         else pg_try_advisory_lock(lockgate.lock_class(0), -2) end
$$;
comment on function lockgate.lead_outcomes() is
  'Takes the lock of the one session that publishes outcomes, or keeps it; whether this session has it.';

-- The first of each task only, so that whoever publishes several at once keeps the order of each task. They are read and
-- then waited for: what was committed before is safe when this returns, also on synchronous standbys.
create or replace function lockgate.next_outcomes(p_batch int default 500)
returns table (
  id bigint, queue text, kind text, status lockgate.status, "time" timestamptz, correlation_id text, body text)
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
#variable_conflict use_column
begin
  if not lockgate.holds_slot(0, -2) then
    raise exception 'this session does not publish outcomes' using errcode = 'LG004',
      hint = 'take the lock first (lead_outcomes), on this connection';
  end if;
  return query
  with first as materialized (
    select o.*, row_number() over (partition by o.task order by o.id) as nth,
      sum(octet_length(o.body::text)) over (order by o.id) as bytes, row_number() over (order by o.id) as n
    from (select * from lockgate.outcome order by id limit p_batch) o
  )
  select f.id, f.queue, f.kind, f.status, f.time, f.body -> 'metadata' ->> 'correlation_id', f.body::text
  from first f where f.nth = 1 and (f.n = 1 or f.bytes <= 8388608) order by f.id;
  if found then
    perform lockgate.settle();
  end if;
end
$$;
comment on function lockgate.next_outcomes(int) is
  'The oldest outcomes that are not published, one of each task, up to 8 MiB; for the session that leads.';

-- If this is lost, they are published once more.
create or replace function lockgate.forget_outcomes(p_ids bigint[]) returns int
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
declare
  v_gone int;
begin
  perform set_config('synchronous_commit', 'off', true);
  delete from lockgate.outcome where id = any (p_ids);
  get diagnostics v_gone = row_count;
  return v_gone;
end
$$;
comment on function lockgate.forget_outcomes(bigint[]) is 'Removes outcomes that were published; how many there were.';

create or replace function lockgate.purge_outcomes(batch int default 10000) returns int
language sql security definer set search_path = lockgate, pg_temp
as $$
  with old as materialized (select id from lockgate.outcome order by id limit batch),
  gone as (delete from lockgate.outcome o using old where o.id = old.id returning 1)
  select count(*)::int from gone
$$;
comment on function lockgate.purge_outcomes(int) is
  'Drops a batch of outcomes that nobody will publish any more, the oldest first; how many.';


-- Queues ------------------------------------------------------------------------------------------------------------

create or replace function lockgate.change_queue(queue text, settings jsonb) returns void
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
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
comment on function lockgate.change_queue(text, jsonb) is
  'Changes the given settings of a queue, such as {"slots": 4, "timeout": null}; takes effect while runners work. Slots '
  'lowered, running tasks above the new number end first.';

create or replace function lockgate.create_queue(queue text, settings jsonb default '{}') returns void
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
begin
  insert into lockgate.queue (name) values (queue);
  perform lockgate.change_queue(queue, settings);
exception when unique_violation then
  raise exception 'there is a queue "%" already', queue using errcode = '23505', constraint = 'a_queue_name_is_unique';
end
$$;
comment on function lockgate.create_queue(text, jsonb) is 'Makes a queue: select create_queue(''gpu'', ''{"slots": 1}'').';

create or replace function lockgate.set_slots(queue text, slots int) returns void
language sql security definer set search_path = lockgate, pg_temp
as $$ select lockgate.change_queue(queue, jsonb_build_object('slots', slots)) $$;
comment on function lockgate.set_slots(text, int) is
  'How many tasks of a queue may execute at once from now on. Lowered, running tasks above it end first.';

create or replace function lockgate.pause(queue text) returns void
language sql security definer set search_path = lockgate, pg_temp
as $$ select lockgate.change_queue(queue, '{"paused": true}') $$;
comment on function lockgate.pause(text) is 'Nothing of the queue is claimed any more; what runs goes on.';

create or replace function lockgate.resume(queue text) returns void
language sql security definer set search_path = lockgate, pg_temp
as $$ select lockgate.change_queue(queue, '{"paused": false}') $$;
comment on function lockgate.resume(text) is 'Ends a pause.';

-- An inserting submit holds a row exclusive lock on task until it commits, so under this one nobody is half-way in.
create or replace function lockgate.delete_queue(queue text) returns void
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
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
  if exists (select from pg_locks l where l.locktype = 'advisory' and l.objsubid = 2
             and l.classid = lockgate.lock_class(v_queue.id)::oid
             and l.database = (select oid from pg_database where datname = current_database()))
      or exists (select from generate_series(1, v_queue.slots) s
                 where not pg_try_advisory_xact_lock(lockgate.lock_class(v_queue.id), s)) then
    raise exception 'runners still hold slots of queue "%"', queue using errcode = 'LG009',
      hint = 'set its slots to 0; they let go within a poll';
  end if;
  delete from lockgate.minute m where m.queue = v_queue.name;
  delete from lockgate.total t where t.queue = v_queue.name;
  delete from lockgate.removed r where r.queue = v_queue.name;
  -- Or they would be good for whatever is called so later.
  update lockgate.api_key k set revoke_time = now() where k.queue = v_queue.name and k.revoke_time is null;
  delete from lockgate.queue q where q.id = v_queue.id;
end
$$;
comment on function lockgate.delete_queue(text) is
  'Deletes a queue that is empty and whose slots nobody holds, else LG009; revokes the keys that were for it alone.';


-- Keys of the API ---------------------------------------------------------------------------------------------------
-- The secret never comes here: who makes a key hands in its digest, and who is shown one compares the digests. All keys
-- in force are read at once and kept for seconds, hence a bound on how many there are.

create or replace function lockgate.add_key(
  id text, name text, digest bytea, scope lockgate.scope, queue text default null, owner text default null)
returns void
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
begin
  perform from lockgate.queue q where q.name = add_key.queue for key share;  -- who deletes it waits, or we do
  if queue is not null and not found then
    raise exception 'there is no queue "%"', queue using errcode = 'LG001', hint = 'select queue from queue_detail';
  end if;
  if (select count(*) from lockgate.api_key k where k.revoke_time is null) >= 1000 then
    raise exception 'there are 1000 keys already' using errcode = '23514', constraint = 'at_most_1000_keys_are_in_force';
  end if;
  insert into lockgate.api_key (id, name, owner, digest, scope, queue)
    values (add_key.id, add_key.name, coalesce(add_key.owner, add_key.name), add_key.digest, add_key.scope, add_key.queue);
exception when unique_violation then
  raise exception 'there is a key "%" already', name using errcode = '23505', constraint = 'a_key_name_is_in_force_once';
end
$$;
comment on function lockgate.add_key(text, text, bytea, lockgate.scope, text, text) is
  'Stores a key of the API by its SHA-256. `owner` unless given is the name. `lockgate keys add` makes one.';

create or replace function lockgate.revoke_key(name text) returns boolean
language sql security definer set search_path = lockgate, pg_temp
as $$
  with revoked as (
    update lockgate.api_key k set revoke_time = now() where k.name = revoke_key.name and k.revoke_time is null returning 1
  )
  select exists (select from revoked)
$$;
comment on function lockgate.revoke_key(text) is 'The key in force of this name is good for nothing any more; whether there was one.';

create or replace function lockgate.has_keys() returns boolean
language sql stable security definer set search_path = lockgate, pg_temp
as $$ select exists (select from lockgate.api_key) $$;
comment on function lockgate.has_keys() is 'Whether a key was ever made, revoked or not.';

create or replace function lockgate.keys_in_force()
returns table (id text, owner text, digest bytea, scope lockgate.scope, queue text)
language sql stable security definer set search_path = lockgate, pg_temp
as $$ select id, owner, digest, scope, queue from lockgate.api_key where revoke_time is null $$;
comment on function lockgate.keys_in_force() is 'The keys that are not revoked, at most 1000, with the SHA-256 of each.';

create or replace function lockgate.note_key_use(ids text[]) returns void
language plpgsql security definer set search_path = lockgate, pg_temp
as $$
begin
  perform set_config('synchronous_commit', 'off', true);
  update lockgate.api_key k set last_used = now()
  where k.id = any (ids) and (k.last_used is null or k.last_used < now() - interval '30 seconds');
end
$$;
comment on function lockgate.note_key_use(text[]) is 'These keys have been used of late.';


-- Views -------------------------------------------------------------------------------------------------------------

create or replace view lockgate.task_detail as
  select id, queue, kind, status, priority, create_time, run_at, start_time, finish_time, exec_time, attempt,
    max_attempts, timeout, slot, lease, runner, cancel_requested, payload, result, error, progress, tags, metadata,
    idempotency_key, dedupe_key
  from lockgate.task;
comment on view lockgate.task_detail is 'Tasks as the outside world sees them.';

create or replace view lockgate.task_sight as
  select id, finish_time is not null as has_ended, xmin::text as version from lockgate.task;
comment on view lockgate.task_sight is
  'For who waits for many tasks: whether each has ended, and a version that is another after every change.';

create or replace view lockgate.attempt_detail as
  select task, attempt, lease, outcome, runner, slot, start_time, end_time, exec_time, error from lockgate.attempt;
comment on view lockgate.attempt_detail is 'Attempts that ended without ending their task.';

create or replace view lockgate.output_detail as select task, lease, text from lockgate.output;
comment on view lockgate.output_detail is 'What handlers printed, by task and lease: the last 64 KiB of each attempt.';

create or replace view lockgate.queue_detail as
  select name as queue, slots, paused, grace, max_attempts, timeout, backoff_base, backoff_max, retention, depth_max,
    kinds, create_time
  from lockgate.queue;
comment on view lockgate.queue_detail is 'Queues and all their settings; durations in seconds.';

create or replace view lockgate.queue_stats as
  with running as materialized (select queue, count(*)::int as n from lockgate.running() group by queue),
  held as materialized (
    select l.classid, l.objid, l.pid from pg_locks l
    where l.locktype = 'advisory' and l.granted and l.objsubid = 2 and l.classid >= lockgate.lock_class(0)::oid
      and l.database = (select oid from pg_database where datname = current_database())
  ), alive as materialized (
    select r.backend_pid, r.queues, r.concurrency,
      (select count(*) from held h where h.pid = r.backend_pid and h.classid > lockgate.lock_class(0)::oid) as slots
    from lockgate.runner r
    where not r.draining
      and exists (select from held h where h.classid = lockgate.lock_class(0)::oid and h.objid = r.session::oid)
  )
  select q.name as queue, q.slots, q.paused, q.grace,
    coalesce((select r.n from running r where r.queue = q.name), 0) as running,
    (select count(*)::int from held h where h.classid = lockgate.lock_class(q.id)::oid) as held,
    a.runners, a.standbys, w.queued, w.scheduled, w.oldest
  from lockgate.queue q
  cross join lateral lockgate.waiting(q.name) w
  cross join lateral (
    select count(*)::int as runners, count(*) filter (
      where a.slots < a.concurrency and not exists (
        select from held h where h.pid = a.backend_pid and h.classid = lockgate.lock_class(q.id)::oid))::int as standbys
    from alive a where a.queues is null or q.name = any (a.queues)) a
  order by q.name;
comment on view lockgate.queue_stats is
  'Queues in numbers: slots with a task and slots held, the runners that serve it and those that stand by; what waits, '
  'counted to 10,001, and since when the oldest of those has been due.';

create or replace view lockgate.total_detail as
  select q.name as queue, coalesce(t.succeeded, 0) as succeeded, coalesce(t.failed, 0) as failed,
    coalesce(t.cancelled, 0) as cancelled, coalesce(t.waited, 0) as waited, coalesce(t.wait_sum, 0) as wait_sum,
    t.wait_histogram, coalesce(t.ran, 0) as ran, coalesce(t.run_sum, 0) as run_sum, t.run_histogram
  from lockgate.queue q left join lockgate.total t on t.queue = q.name
  order by q.name;
comment on view lockgate.total_detail is 'All that has been counted in each queue; only ever grows.';

create or replace view lockgate.outcome_overview as
  select exists (select from pg_trigger t where t.tgrelid = 'lockgate.task'::regclass
                 and t.tgname = 'an_end_is_an_outcome') as enabled,
    exists (select from pg_locks l
            where l.locktype = 'advisory' and l.granted and l.objsubid = 2
              and l.classid = lockgate.lock_class(0)::oid and l.objid = (-2)::oid
              and l.database = (select oid from pg_database where datname = current_database())) as publishing,
    (select count(*)::int from (select from lockgate.outcome limit 10001) o) as waiting,
    (select extract(epoch from clock_timestamp() - o.time)::double precision
     from lockgate.outcome o order by o.id limit 1) as oldest_wait;
comment on view lockgate.outcome_overview is
  'Whether ends are written down to be published, whether a session publishes them, how many wait (counted to 10,001) and '
  'for how many seconds the oldest has.';

create or replace view lockgate.queue_overview as
  with running as materialized (select queue, count(*) as n from lockgate.running() group by queue)
  select q.name as queue, q.slots, q.paused,
    coalesce((select r.n from running r where r.queue = q.name), 0) as running,
    case when queued.n > 10000 then '10000+' else queued.n::text end as queued,
    case when scheduled.n > 10000 then '10000+' else scheduled.n::text end as scheduled,
    round(extract(epoch from clock_timestamp() - queued.oldest)::numeric, 1) as oldest_wait
  from lockgate.queue q
  cross join lateral (
    select count(*) as n, min(c.run_at) as oldest
    from (select t.run_at from lockgate.task t where t.queue = q.name and t.status = 'queued'
          order by lockgate.rank(t.priority, t.id) limit 10001) c) queued
  cross join lateral (
    select count(*) as n
    from (select from lockgate.task t where t.queue = q.name and t.status = 'scheduled'
          order by t.run_at limit 10001) c) scheduled
  order by q.name;
comment on view lockgate.queue_overview is
  'Queues: slots, what is running and waiting (counted to 10,000), and the seconds the oldest of those has been due.';

create or replace view lockgate.task_recent as
  select id, queue, kind, status, priority, attempt || '/' || max_attempts as attempt, slot,
    round(extract(epoch from clock_timestamp() - create_time)::numeric, 1) as age,
    round(coalesce(exec_time, case when status = 'running'
                              then extract(epoch from clock_timestamp() - start_time) end)::numeric, 2) as seconds,
    progress, left(error ->> 'type' || ': ' || (error ->> 'message'), 60) as error
  from (select * from lockgate.task order by id desc limit 40) t
  order by id desc;
comment on view lockgate.task_recent is 'The 40 newest tasks, on one screen.';

-- Nothing here may be stable, or it would be called for each row instead of being part of the statement.
create or replace function lockgate.failure(p_error jsonb) returns text
language sql immutable
as $$
  select coalesce(left(p_error ->> 'type', 100) || ': ', '') || coalesce(regexp_replace(
    left(split_part(ltrim(left(p_error ->> 'message', 1000), e' \r\n\t'), e'\n', 1), 200) collate "C",
    '\w*\d\w*', '#', 'g'), '')
$$;
comment on function lockgate.failure(jsonb) is
  'What tells one kind of failure from another: type and first line of an error, with # for each word that has a digit.';

create or replace view lockgate.failures as
  select queue, kind, lockgate.failure(error) as failure, count(*) as tasks, min(finish_time) as first,
    max(finish_time) as last, max(id) as latest_task
  from (select * from lockgate.task where status = 'failed' order by id desc limit 2000) t
  group by 1, 2, 3
  order by last desc;
comment on view lockgate.failures is
  'The newest 2,000 failed tasks by queue, kind and failure: how many, since when, the latest.';

create or replace view lockgate.slot_detail as
  with seen as materialized (select * from lockgate.watch())
  select q.name as queue, s.slot,
    coalesce(o.runner, (select r.runner from lockgate.runner r where r.backend_pid = o.pid
                        order by r.session desc limit 1)) as runner,
    o.pid as backend_pid, o.task, t.kind, t.attempt, t.start_time, t.progress, t.cancel_requested,
    coalesce(o.grace, q.grace) as grace, o.state_change as heard,
    case when o.task is not null and o.pid is null then 'abandoned'
         when o.state_change < clock_timestamp() - coalesce(o.grace, q.grace) * interval '1 second' then 'silent'
         when o.task is not null then 'running'
         when o.pid is not null then 'held'
         else 'free' end as status
  from lockgate.queue q
  cross join lateral (
    select generate_series(1, q.slots) as slot
    union select x.slot from seen x where x.queue = q.id) s
  left join seen o on o.queue = q.id and o.slot = s.slot
  left join lockgate.task t on t.id = o.task
  order by q.name, s.slot;
comment on view lockgate.slot_detail is
  'Slots: who holds each, when its session was last heard of (null = free, or not for this login to see), and what '
  'executes in it. Those above a number that was lowered stay until they are let go. status: free; held = ready for a '
  'task; running; abandoned = its runner''s session is gone, and its task will be adopted; silent = its runner has not '
  'been heard of for a grace.';

create or replace view lockgate.slot_overview as
  select queue, slot, runner, backend_pid, task, kind,
    round(extract(epoch from clock_timestamp() - start_time)::numeric, 1) as seconds,
    round(extract(epoch from clock_timestamp() - heard)::numeric, 1) as seconds_silent
  from lockgate.slot_detail
  order by queue, slot;
comment on view lockgate.slot_overview is
  'Slots: who holds each, what executes in it and for how long, and how long its holder''s session has been silent. '
  'Those above a number that was lowered stay until they are let go.';

create or replace view lockgate.runner_overview as
  with running as materialized (select runner, count(*) as n from lockgate.running() group by runner)
  select r.session, r.runner, r.host, r.pid, r.backend_pid, r.version, r.concurrency, r.queues, r.kinds, r.since,
    exists (
      select from pg_locks l
      where l.locktype = 'advisory' and l.objsubid = 2 and l.granted
        and l.classid = lockgate.lock_class(0)::oid and l.objid = r.session::oid
        and l.database = (select oid from pg_database where datname = current_database())) as alive,
    coalesce((select b.n from running b where b.runner = r.runner), 0) as running, r.draining
  from lockgate.runner r
  order by r.session;
comment on view lockgate.runner_overview is
  'Runner sessions, whether each is alive, how many tasks it runs, and whether it was told to take no more.';

create or replace view lockgate.key_overview as
  select id, name, owner, scope, queue, create_time, last_used, revoke_time from lockgate.api_key;
comment on view lockgate.key_overview is 'Keys of the API, revoked ones too, without what they are compared by.';

create or replace view lockgate.kind_overview as
  select k.kind, count(distinct r.runner)::int as runners,
    case when not bool_or(r.queues is null) then array_agg(distinct u.queue) end as queues,
    (array_agg(r.schemas -> k.kind order by r.session desc) filter (where r.schemas ? k.kind))[1] as payload_schema
  from lockgate.runner r
  cross join lateral unnest(r.kinds) k (kind)
  left join lateral unnest(r.queues) u (queue) on true
  where not r.draining and exists (
    select from pg_locks l
    where l.locktype = 'advisory' and l.objsubid = 2 and l.granted
      and l.classid = lockgate.lock_class(0)::oid and l.objid = r.session::oid
      and l.database = (select oid from pg_database where datname = current_database()))
  group by k.kind
  order by k.kind;
comment on view lockgate.kind_overview is
  'Kinds that runners serve now: how many do, in which queues (null = all), and the JSON Schema of the payload, as the '
  'newest of them has it (null = anything is taken).';

-- The line of a queue is in the order of the numbers within each priority. From the lowest one up, and from the end of
-- each, where no claim has left dead entries.
create or replace function lockgate.newest_queued(p_queue text, p_below bigint, p_limit int) returns setof bigint
language plpgsql stable security definer set search_path = lockgate, pg_temp
as $$
declare
  v_queue text;
  v_upper bigint;
  v_priority smallint;
  v_found bigint[] := '{}';
begin
  for v_queue in select q.name from lockgate.queue q where p_queue is null or q.name = p_queue loop
    v_upper := lockgate.rank((-101)::smallint, 0);
    loop
      select t.priority into v_priority from lockgate.task t
      where t.queue = v_queue and t.status = 'queued' and lockgate.rank(t.priority, t.id) < v_upper
      order by lockgate.rank(t.priority, t.id) desc limit 1;
      exit when not found;
      v_found := v_found || array(
        select t.id from lockgate.task t
        where t.queue = v_queue and t.status = 'queued'
          and lockgate.rank(t.priority, t.id) >= lockgate.rank(v_priority, 0)
          and lockgate.rank(t.priority, t.id) < lockgate.rank(v_priority, least(p_below, 1::bigint << 48))
        order by lockgate.rank(t.priority, t.id) desc limit p_limit);
      v_upper := lockgate.rank(v_priority, 0);
    end loop;
  end loop;
  return query select f from unnest(v_found) f order by f desc limit p_limit;
end
$$;
comment on function lockgate.newest_queued(text, bigint, int) is
  'The newest queued tasks with a smaller number than that, of one queue or all, whatever else there is.';

-- By halves, over the primary key: tasks are created about in the order of their numbers. The time of a task is that of
-- the beginning of its transaction, so tasks of one that took long have smaller times than their neighbours.
create or replace function lockgate.created_since(p_time timestamptz) returns bigint
language plpgsql stable security definer set search_path = lockgate, pg_temp
as $$
declare
  v_from bigint := 0;
  v_to bigint := coalesce((select t.id from lockgate.task t order by t.id desc limit 1), 0) + 1;
  v_middle bigint;
  v_row record;
begin
  -- Tasks up to v_from are older, those from v_to on are not.
  while v_from + 1 < v_to loop
    v_middle := v_from + (v_to - v_from) / 2;
    select t.id, t.create_time into v_row from lockgate.task t where t.id >= v_middle order by t.id limit 1;
    if found and v_row.create_time < p_time then
      v_from := v_row.id;
    else
      v_to := v_middle;
    end if;
  end loop;
  return v_to;
end
$$;
comment on function lockgate.created_since(timestamptz) is
  'The number from which on tasks were created at that time or later, as far as transactions are short.';

create or replace function lockgate.schema_version() returns int
language sql stable security definer set search_path = lockgate, pg_temp
as $$ select version from lockgate.release $$;
comment on function lockgate.schema_version() is 'The version of this schema.';


-- Roles: the index of the contract ----------------------------------------------------------------------------------
-- Group roles, shared by the databases of a cluster; logins are made members of them. Nobody but the owner may touch a
-- table, except that the viewer may read all of them.

foreach v_role in array array['lockgate_service', 'lockgate_runner', 'lockgate_viewer'] loop
  -- Made by somebody else, perhaps, who may do that where we may not.
  continue when exists (select from pg_roles where rolname = v_role);
  begin
    execute format('create role %I nologin', v_role);
  exception when duplicate_object or unique_violation then null;
  end;
end loop;

revoke all on schema lockgate from public;
revoke execute on all functions in schema lockgate from public;
grant usage on schema lockgate to lockgate_service, lockgate_runner, lockgate_viewer;
grant execute on function lockgate.schema_version(), lockgate.lock_class(int), lockgate.holds_slot(int, int)
  to lockgate_service, lockgate_runner, lockgate_viewer;

grant execute on function
  lockgate.submit, lockgate.submit_batch(jsonb, text), lockgate.submit_all(jsonb, text), lockgate.wake(text), lockgate.wake_later(text), lockgate.cancel(bigint, boolean),
  lockgate.retry(bigint), lockgate.delete_task(bigint), lockgate.purge(text, int), lockgate.change_task(bigint, jsonb),
  lockgate.cancel_tasks(bigint[], boolean, lockgate.status[], text),
  lockgate.retry_tasks(bigint[], lockgate.status[], text), lockgate.delete_tasks(bigint[], lockgate.status[], text),
  lockgate.create_queue(text, jsonb), lockgate.change_queue(text, jsonb), lockgate.set_slots(text, int),
  lockgate.pause(text), lockgate.resume(text), lockgate.delete_queue(text),
  lockgate.add_key(text, text, bytea, lockgate.scope, text, text), lockgate.revoke_key(text), lockgate.has_keys(),
  lockgate.keys_in_force(), lockgate.note_key_use(text[]),
  lockgate.drain_runner(text), lockgate.resume_runner(text),
  lockgate.set_outcomes(boolean), lockgate.lead_outcomes(), lockgate.next_outcomes(int),
  lockgate.forget_outcomes(bigint[]), lockgate.purge_outcomes(int)
  to lockgate_service;
grant select on lockgate.task_detail, lockgate.task_sight, lockgate.attempt_detail, lockgate.output_detail,
  lockgate.queue_detail, lockgate.queue_overview, lockgate.runner_overview, lockgate.slot_overview,
  lockgate.task_recent, lockgate.failures, lockgate.queue_stats, lockgate.total_detail, lockgate.slot_detail,
  lockgate.key_overview, lockgate.kind_overview, lockgate.outcome_overview
  to lockgate_service;
grant execute on function lockgate.created_since(timestamptz), lockgate.newest_queued(text, bigint, int),
  lockgate.rank(smallint, bigint), lockgate.failure(jsonb), lockgate.running(), lockgate.occupied(), lockgate.watch(),
  lockgate.waiting(text), lockgate.ended_since(timestamptz),
  lockgate.series(timestamptz, timestamptz, double precision, text)
  to lockgate_service, lockgate_viewer;

grant execute on function
  lockgate.look(text[]), lockgate.occupied(), lockgate.watch(), lockgate.standing_by(),
  lockgate.register(text, text, int, text, int, text[], text[]), lockgate.deregister(int),
  lockgate.take_slot(int), lockgate.retake_slot(int, int), lockgate.release_slot(int, int), lockgate.pass_slot_on(int, int),
  lockgate.claim(int, int, text, int), lockgate.reconfirm(int, int, text, int),
  lockgate.finish(bigint, bigint, text, double precision, jsonb),
  lockgate.finish_and_claim(bigint, bigint, text, double precision, jsonb, int, int, int),
  lockgate.fail(bigint, bigint, text, double precision, jsonb, double precision, boolean),
  lockgate.give_back(bigint, bigint, text), lockgate.adopt(int, int, bigint, bigint, int), lockgate.settle(),
  lockgate.report_progress(bigint, bigint, text, jsonb), lockgate.write_output(bigint, bigint, text),
  lockgate.tidy(int), lockgate.roll_up(int), lockgate.is_draining(int), lockgate.announce_schemas(int, jsonb)
  to lockgate_runner;

grant select on all tables in schema lockgate to lockgate_viewer;

end
$schema$;
