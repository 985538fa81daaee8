-- Outbox: each end of a task, for a publisher. The transaction that ends the task writes it, by a trigger that exists
-- only while set_outbox(true) holds: otherwise an end costs nothing. The row holds the whole event, since the task
-- may be retried or deleted before the event is published.

create table lockgate.outbox (
  id bigint generated always as identity,
  task bigint not null,
  queue text collate "C" not null,
  kind text collate "C" not null,
  status lockgate.status not null,
  time timestamptz not null default now(),
  body json not null,
  constraint outbox_pkey primary key (id)
);
comment on table lockgate.outbox is
  'How tasks ended, each until it is published; written only while set_outbox(true) holds.';
comment on column lockgate.outbox.id is 'Grows from one end of a task to the next.';
comment on column lockgate.outbox.body is 'The event as it is published.';

create function lockgate.record_in_outbox() returns trigger
language plpgsql security definer set search_path = lockgate, pg_temp as $$
declare
  v_id bigint := nextval('lockgate.outbox_id_seq');
  v_form text := 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"';
  v_fits boolean := coalesce(octet_length(new.result::text) <= 65536, true);
begin
  insert into lockgate.outbox (id, task, queue, kind, status, body)
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
comment on function lockgate.record_in_outbox is 'Writes how a task ended. For the trigger of set_outbox.';

create function lockgate.set_outbox(enabled boolean) returns boolean
language plpgsql security definer set search_path = lockgate, pg_temp as $$
begin
  if enabled = exists (select from pg_trigger t where t.tgrelid = 'lockgate.task'::regclass
                       and t.tgname = 'an_end_goes_into_the_outbox') then
    return false;
  end if;
  -- Waits for transactions that write tasks, and keeps others from beginning meanwhile.
  perform set_config('lock_timeout', '1s', true);
  if enabled then
    create or replace trigger an_end_goes_into_the_outbox after update of finish_time on lockgate.task for each row
      when (old.finish_time is null and new.finish_time is not null) execute function lockgate.record_in_outbox();
  else
    drop trigger if exists an_end_goes_into_the_outbox on lockgate.task;
  end if;
  return true;
end
$$;
comment on function lockgate.set_outbox is
  'Whether each end of a task is written down to be published, from now on: false at first. Whether that is a change.';

create function lockgate.outbox_lock() returns boolean
language sql security definer set search_path = lockgate, pg_temp as $$
  select case when lockgate.holds_slot(0, -2) then true
         else pg_try_advisory_lock(lockgate.lock_class(0), -2) end
$$;
comment on function lockgate.outbox_lock is
  'Takes the lock of the one session that publishes outcomes, or keeps it; whether this session has it.';

-- Returns the first of each task only, so that a publisher of several at once keeps the order of each task. They are
-- read and then waited for: what was committed before is safe when this returns, also on synchronous standbys.
create function lockgate.outbox_next(p_batch int default 500)
returns table (
  id bigint, queue text, kind text, status lockgate.status, "time" timestamptz, correlation_id text, body text)
language plpgsql security definer set search_path = lockgate, pg_temp as $$
#variable_conflict use_column
begin
  if not lockgate.holds_slot(0, -2) then
    raise exception 'this session does not publish outcomes' using errcode = 'LG004',
      hint = 'take the lock first (outbox_lock), on this connection';
  end if;
  return query
  with first as materialized (
    select o.*, row_number() over (partition by o.task order by o.id) as nth,
      sum(octet_length(o.body::text)) over (order by o.id) as bytes, row_number() over (order by o.id) as n
    from (select * from lockgate.outbox order by id limit p_batch) o
  )
  select f.id, f.queue, f.kind, f.status, f.time, f.body -> 'metadata' ->> 'correlation_id', f.body::text
  from first f where f.nth = 1 and (f.n = 1 or f.bytes <= 8388608) order by f.id;
  if found then
    perform lockgate.wait_until_durable();
  end if;
end
$$;
comment on function lockgate.outbox_next is
  'The oldest outcomes that are not published, one of each task, up to 8 MiB; for the session that leads.';

-- If this is lost, they are published once more.
create function lockgate.outbox_ack(p_ids bigint[]) returns int
language plpgsql security definer set search_path = lockgate, pg_temp as $$
declare
  v_gone int;
begin
  perform set_config('synchronous_commit', 'off', true);
  delete from lockgate.outbox where id = any (p_ids);
  get diagnostics v_gone = row_count;
  return v_gone;
end
$$;
comment on function lockgate.outbox_ack is 'Removes outcomes that were published; how many there were.';

create function lockgate.outbox_purge(batch int default 10000) returns int
language sql security definer set search_path = lockgate, pg_temp as $$
  with old as materialized (select id from lockgate.outbox order by id limit batch),
  gone as (delete from lockgate.outbox o using old where o.id = old.id returning 1)
  select count(*)::int from gone
$$;
comment on function lockgate.outbox_purge is
  'Deletes a batch of the outbox unpublished, the oldest first; how many.';

create view lockgate.outbox_overview as
  select exists (select from pg_trigger t where t.tgrelid = 'lockgate.task'::regclass
                 and t.tgname = 'an_end_goes_into_the_outbox') as enabled,
    exists (select from lockgate.held_locks l where l.queue = 0 and l.slot = -2) as publishing,
    (select count(*)::int from (select from lockgate.outbox limit 10001) o) as waiting,
    (select extract(epoch from clock_timestamp() - o.time)::double precision
     from lockgate.outbox o order by o.id limit 1) as oldest_wait;
comment on view lockgate.outbox_overview is
  'Whether ends are written down to be published, whether a session publishes them, how many wait (counted to 10,001) and '
  'for how many seconds the oldest has.';
