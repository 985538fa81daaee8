-- Bulk: many tasks in one call.

-- All or nothing, also for what is refused without an error. DETAIL says which item it was, as JSON: {"item": 3}, with
-- the outcome and the task it met where it was refused.
create function lockgate.submit_all(p_tasks jsonb, p_scope text default '')
returns table (item int, task bigint, outcome lockgate.submit_outcome, queue text, due text)
language plpgsql security definer set search_path = lockgate, pg_temp as $$
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
    -- The item at fault is the first that cannot be stored alone either. Those that can be are rolled back.
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
    select u.item, u.task, u.outcome, t.queue, lockgate.due(t.status, t.run_at)
    from unnest(v_items, v_tasks, v_outcomes) u(item, task, outcome) left join lockgate.task t on t.id = u.task
    order by u.item;
end
$$;
comment on function lockgate.submit_all is
  'submit_batch, but nothing is stored unless every item is; and where each task is, and whether it is due now or soon.';

-- Each of these changes those tasks that it may, and returns their number. It leaves alone tasks that are gone, that
-- have another status or queue than named, or that it may not touch. Locks are taken in the order of the ids.

create function lockgate.cancel_tasks(
  p_tasks bigint[], p_force boolean default false, p_statuses lockgate.status[] default null, p_queue text default null)
returns int
language plpgsql security definer set search_path = lockgate, pg_temp as $$
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
comment on function lockgate.cancel_tasks is
  'cancel for many: how many were cancelled or, running, asked to stop.';

create function lockgate.retry_tasks(
  p_tasks bigint[], p_statuses lockgate.status[] default null, p_queue text default null)
returns int
language plpgsql security definer set search_path = lockgate, pg_temp as $$
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
comment on function lockgate.retry_tasks is
  'retry for many: how many are queued again. Leaves those whose dedupe key an unfinished task has.';

create function lockgate.delete_tasks(
  p_tasks bigint[], p_statuses lockgate.status[] default null, p_queue text default null)
returns int
language sql security definer set search_path = lockgate, pg_temp as $$
  select lockgate.remove(array(
    select t.id from lockgate.task t
    where t.id = any (p_tasks) and t.status <> 'running'
      and (p_statuses is null or t.status = any (p_statuses)) and (p_queue is null or t.queue = p_queue)
    order by t.id for update))
$$;
comment on function lockgate.delete_tasks is
  'delete_task for many: how many are gone. Leaves those that run.';
