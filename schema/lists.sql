-- Lists: pages of tasks by filter, newest first, and failures in groups.

-- Nothing here may be stable, or it would be called for each row instead of being part of the statement.
create function lockgate.failure(p_error jsonb) returns text
language sql immutable as $$
  select coalesce(left(p_error ->> 'type', 100) || ': ', '') || coalesce(regexp_replace(
    left(split_part(ltrim(left(p_error ->> 'message', 1000), e' \r\n\t'), e'\n', 1), 200) collate "C",
    '\w*\d\w*', '#', 'g'), '')
$$;
comment on function lockgate.failure is
  'What tells one kind of failure from another: type and first line of an error, with # for each word that has a digit.';

create view lockgate.failures as
  select queue, kind, lockgate.failure(error) as failure, count(*) as tasks, min(finish_time) as first,
    max(finish_time) as last, max(id) as latest_task
  from (
    select id, queue, kind, error, finish_time from lockgate.task where status = 'failed' order by id desc limit 2000) t
  group by 1, 2, 3
  order by last desc;
comment on view lockgate.failures is
  'The newest 2,000 failed tasks by queue, kind and failure: how many, since when, the latest.';

-- task_claim has the numbers of a queue in their order within each priority. Reads from the lowest priority up, and
-- from the end of each, where no claim has left dead entries.
create function lockgate.newest_queued(p_queue text, p_below bigint, p_limit int) returns setof bigint
language plpgsql stable security definer set search_path = lockgate, pg_temp as $$
declare
  v_queue text;
  v_upper bigint;
  v_priority smallint;
  v_found bigint[] := '{}';
begin
  for v_queue in select q.name from lockgate.queue q where p_queue is null or q.name = p_queue loop
    v_upper := lockgate.claim_order((-101)::smallint, 0);
    loop
      select t.priority into v_priority from lockgate.task t
      where t.queue = v_queue and t.status = 'queued' and lockgate.claim_order(t.priority, t.id) < v_upper
      order by lockgate.claim_order(t.priority, t.id) desc limit 1;
      exit when not found;
      v_found := v_found || array(
        select t.id from lockgate.task t
        where t.queue = v_queue and t.status = 'queued'
          and lockgate.claim_order(t.priority, t.id) >= lockgate.claim_order(v_priority, 0)
          and lockgate.claim_order(t.priority, t.id) < lockgate.claim_order(v_priority, least(p_below, 1::bigint << 48))
        order by lockgate.claim_order(t.priority, t.id) desc limit p_limit);
      v_upper := lockgate.claim_order(v_priority, 0);
    end loop;
  end loop;
  return query select f from unnest(v_found) f order by f desc limit p_limit;
end
$$;
comment on function lockgate.newest_queued is
  'The newest queued tasks with a smaller number than that, of one queue or all.';

-- By halves, over the primary key: tasks are created about in the order of their numbers. The time of a task is that
-- of the beginning of its transaction, so tasks of one that took long have smaller times than their neighbours.
create function lockgate.created_since(p_time timestamptz) returns bigint
language plpgsql stable security definer set search_path = lockgate, pg_temp as $$
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
comment on function lockgate.created_since is
  'The number from which on tasks were created at that time or later, as far as transactions are short.';

-- Each claim pays for each index, so most filters have none. A list walks through what an index offers, a window
-- at a time, and when its time is up it says how far it came; the next page goes on from there. The parts it walks
-- through hold between them every task the filter may apply to:
--   all tasks, by number; or those of one status in task_aside; or the numbers of the queued, the running, the ended.
create function lockgate.list_tasks(
  p_filter jsonb default '{}', p_below bigint default null, p_limit int default 50, p_window int default 5000,
  p_sparse_window int default 1000, p_ids_max int default 2000, p_seconds double precision default 0.02,
  out ids bigint[], out rest bigint)
language plpgsql stable security definer set search_path = lockgate, pg_temp as $$
declare
  v_end timestamptz := clock_timestamp() + p_seconds * interval '1 second';
  v_slack interval := '1 minute';  -- tasks of transactions that were open for longer may be missed by their create_time
  v_below bigint := coalesce(p_below, 9223372036854775807);
  v_above bigint := 0;
  v_any_queued boolean := jsonb_strip_nulls(p_filter) - '{status,queue}'::text[] = '{}';
  f record;
  v_where text;
  v_statuses lockgate.status[];
  v_parts text[] := '{}';
  v_part text;
  v_from text;
  v_floor bigint;
  v_limit int;
  v_ended bigint[] := '{}';
  v_named bigint[];
  v_most int;
  v_found bigint[];
  v_all bigint[];
begin
  select * into f from jsonb_to_record(p_filter) as f (
    status lockgate.status[], queue text, kind text, tag text, runner text, error text, failure text,
    created_after timestamptz, created_before timestamptz, finished_after timestamptz, finished_before timestamptz);
  v_where := concat_ws(' and ', 'true',
    'status = any (' || quote_literal(f.status) || ')', 'queue = ' || quote_literal(f.queue),
    'kind = ' || quote_literal(f.kind), 'tags @> array[' || quote_literal(f.tag) || ']',
    'runner = ' || quote_literal(f.runner),
    'status = ''failed'' and strpos(lower(concat_ws('': '', error ->> ''type'', error ->> ''message'')), lower('
      || quote_literal(f.error) || ')) > 0',
    'status = ''failed'' and lockgate.failure(error) = ' || quote_literal(f.failure),
    'create_time >= ' || quote_literal(f.created_after), 'create_time < ' || quote_literal(f.created_before),
    'finish_time >= ' || quote_literal(f.finished_after), 'finish_time < ' || quote_literal(f.finished_before));

  -- Between which numbers, and through which parts.
  if f.created_before is not null or f.finished_before is not null then
    v_below := least(v_below, lockgate.created_since(least(f.created_before, f.finished_before) + v_slack));
  end if;
  if f.created_after is not null then
    v_above := lockgate.created_since(f.created_after - v_slack) - 1;
  end if;
  if f.finished_after is not null or f.finished_before is not null then
    -- In the order of its index, or a plan that expects many tasks reads the whole table to find none.
    v_ended := array(
      select t.id from lockgate.queue q cross join lateral (
        select t.id from lockgate.task t
        where t.queue = q.name and t.status in ('succeeded', 'failed', 'cancelled')
          and t.finish_time >= coalesce(f.finished_after, '-infinity')
          and t.finish_time < coalesce(f.finished_before, 'infinity')
        order by t.finish_time desc limit p_ids_max + 1) t
      where f.queue is null or q.name = f.queue limit p_ids_max + 1);
  end if;
  v_statuses := array(
    select s from unnest(coalesce(f.status, enum_range(null::lockgate.status))) s
    where (f.error is null and f.failure is null or s = 'failed')
      and (f.finished_after is null and f.finished_before is null or s in ('succeeded', 'failed', 'cancelled')));
  if (f.finished_after is not null or f.finished_before is not null) and cardinality(v_ended) <= p_ids_max then
    v_parts := '{ended}';
  elsif 'succeeded' = any (v_statuses) then
    v_parts := '{all}';
  else
    v_parts := v_statuses;
  end if;
  if f.error is not null or f.failure is not null then
    p_window := p_sparse_window;  -- each of its tasks has a text to be searched
  end if;

  ids := '{}';
  loop
    v_limit := p_limit + 1 - cardinality(ids);
    v_all := '{}';
    rest := 0;
    foreach v_part in array v_parts loop
      v_named := null;
      if v_part = 'queued' then
        v_most := case when v_any_queued then least(v_limit, p_ids_max) else p_ids_max end;
        v_named := array(select lockgate.newest_queued(f.queue, v_below, v_most));
      elsif v_part = 'running' then
        v_most := p_ids_max;
        v_named := array(select r.id from lockgate.running() r where r.id < v_below order by r.id desc limit v_most);
      end if;
      if v_named is not null then
        v_from := 'id = any ($3)';
        v_floor := v_named[v_most];
      else
        v_from := case v_part when 'all' then 'true' when 'ended' then 'id = any ($3)'
                  else format('status = %L', v_part) end;
        v_named := v_ended;
        execute format(
          'select id from lockgate.task where %s and id < $1 and id > $2 order by id desc offset $4 - 1 limit 1', v_from)
          into v_floor using v_below, v_above, v_named,
            case when v_part in ('all', 'ended') then p_window else p_sparse_window end;
      end if;
      v_floor := coalesce(v_floor, 0);
      execute format(
        'select array(select id from lockgate.task where %s and %s and id < $1 and id > $2 and id >= $4'
        ' order by id desc limit $5)', v_from, v_where)
        into v_found using v_below, v_above, v_named, v_floor, v_limit;
      v_all := v_all || v_found;
      rest := greatest(rest, coalesce(v_found[v_limit], v_floor));  -- a full page ends before its window does
    end loop;
    -- What is older than `rest`, one of the parts has not looked at.
    v_all := array(select n from unnest(v_all) n where n >= rest order by n desc limit v_limit);
    rest := greatest(rest, v_all[v_limit]);
    v_below := rest;
    ids := ids || v_all;
    if cardinality(ids) > p_limit then
      ids := ids[:p_limit];
      rest := ids[p_limit];
      return;
    end if;
    rest := case when rest > v_above + 1 then rest end;
    exit when rest is null or clock_timestamp() >= v_end;
  end loop;
end
$$;
comment on function lockgate.list_tasks is
  'A page of tasks, newest first: the numbers of at most p_limit tasks below p_below that match the filter (status, queue, '
  'kind, tag, runner, error, failure, created_after, created_before, finished_after, finished_before); fewer, though there '
  'are more, when p_seconds are over. Tasks below rest have not been looked at; null = there are none.';
