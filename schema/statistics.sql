-- Statistics: ends of tasks are counted by the minute, in the order (finish_time, id) of each queue, some seconds
-- after the end: by the chores, so that a claim and a finish pay nothing for it. Each end is counted once, also if
-- its task is retried or deleted before: the transaction that removes the end writes it to stats_uncounted, and it is
-- counted from there.

create table lockgate.stats_minute (
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
  constraint stats_minute_pkey primary key (queue, minute)
);
comment on table lockgate.stats_minute is
  'What ended in each minute, and how much waited at its beginning; kept for 7 days. Minutes without either have no row.';
comment on column lockgate.stats_minute.waited is 'How many of those that ended had started since they were due.';
comment on column lockgate.stats_minute.wait_sum is
  'Seconds they waited from when they were due until they started, in all.';
comment on column lockgate.stats_minute.wait_histogram is 'How many waited how long: see histogram().';
comment on column lockgate.stats_minute.ran is 'How many of them reported how long they executed.';
comment on column lockgate.stats_minute.run_sum is 'Seconds their latest attempts took, in all.';
comment on column lockgate.stats_minute.queued is 'How many were due, counted to 10,001; null = not looked at.';

create table lockgate.stats_total (
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
  constraint stats_total_pkey primary key (queue)
);
comment on table lockgate.stats_total is
  'All that has ended in each queue since there is this table, up to and including the end (finish_time, id).';

create table lockgate.stats_uncounted (
  queue text collate "C" not null,
  finish_time timestamptz not null,
  id bigint not null,
  status lockgate.status not null,
  waited double precision,
  ran double precision,
  constraint stats_uncounted_pkey primary key (queue, finish_time, id)
);
comment on table lockgate.stats_uncounted is
  'Ends that were deleted or retried before they were counted; kept until they are.';

create function lockgate.waited(
  p_start_time timestamptz, p_run_at timestamptz, p_create_time timestamptz) returns double precision
language sql immutable
return case when p_start_time >= p_run_at
  then least(greatest(extract(epoch from p_start_time - greatest(p_run_at, p_create_time)), 0), 1e9) end;
comment on function lockgate.waited is
  'Seconds from when an ended task was due until it started; null = it has not started since it was due.';

-- Bounded, so that sums stay numbers whatever a runner's clock says.
create function lockgate.ran(
  p_start_time timestamptz, p_run_at timestamptz, p_exec_time double precision) returns double precision
language sql immutable
return case when p_start_time >= p_run_at then least(greatest(p_exec_time, 0), 1e9) end;
comment on function lockgate.ran is
  'Seconds that the attempt took which ended a task; null = none has since it was due, or its runner died.';

create function lockgate.is_uncounted(p_queue text, p_finish_time timestamptz, p_id bigint) returns boolean
language sql stable security definer set search_path = lockgate, pg_temp as $$
  select p_finish_time > now() - interval '7 days' and not exists (
    select from lockgate.stats_total t where t.queue = p_queue and (p_finish_time, p_id) <= (t.finish_time, t.id))
$$;
comment on function lockgate.is_uncounted is 'Whether an end is still to be counted.';

create function lockgate.keep_uncounted(p_ended lockgate.task) returns void
language sql security definer set search_path = lockgate, pg_temp as $$
  insert into lockgate.stats_uncounted (queue, finish_time, id, status, waited, ran)
  select p_ended.queue, p_ended.finish_time, p_ended.id, p_ended.status,
    lockgate.waited(p_ended.start_time, p_ended.run_at, p_ended.create_time),
    lockgate.ran(p_ended.start_time, p_ended.run_at, p_ended.exec_time)
  where lockgate.is_uncounted(p_ended.queue, p_ended.finish_time, p_ended.id)
  on conflict do nothing
$$;
comment on function lockgate.keep_uncounted is
  'Keeps the end of a task that is retried before that end is counted. For retry.';

-- May also keep an end that another session has counted meanwhile, unseen by this transaction. That does no harm:
-- counting has passed it by.
create function lockgate.keep_uncounted_ends() returns trigger
language plpgsql security definer set search_path = lockgate, pg_temp as $$
begin
  insert into lockgate.stats_uncounted (queue, finish_time, id, status, waited, ran)
  select g.queue, g.finish_time, g.id, g.status, lockgate.waited(g.start_time, g.run_at, g.create_time),
    lockgate.ran(g.start_time, g.run_at, g.exec_time)
  from gone g
  where g.finish_time is not null and lockgate.is_uncounted(g.queue, g.finish_time, g.id)
  on conflict do nothing;
  return null;
end
$$;
comment on function lockgate.keep_uncounted_ends is 'Keeps the ends of deleted tasks that are not counted yet.';

create trigger uncounted_ends_are_kept after delete on lockgate.task
  referencing old table as gone for each statement execute function lockgate.keep_uncounted_ends();

create function lockgate.ends_after(
  p_queue text, p_finish_time timestamptz, p_id bigint, p_before timestamptz, p_limit int)
returns table (finish_time timestamptz, id bigint, status lockgate.status, waited double precision, ran double precision)
language sql stable security definer set search_path = lockgate, pg_temp as $$
  (select t.finish_time, t.id, t.status, lockgate.waited(t.start_time, t.run_at, t.create_time),
     lockgate.ran(t.start_time, t.run_at, t.exec_time)
   from lockgate.task t
   where t.queue = p_queue and t.status in ('succeeded', 'failed', 'cancelled')
     and (t.finish_time, t.id) > (p_finish_time, p_id) and t.finish_time < p_before
   order by t.finish_time, t.id limit p_limit)
  union all
  (select r.finish_time, r.id, r.status, r.waited, r.ran
   from lockgate.stats_uncounted r
   where r.queue = p_queue and (r.finish_time, r.id) > (p_finish_time, p_id) and r.finish_time < p_before
   order by r.finish_time, r.id limit p_limit)
  order by 1, 2 limit p_limit
$$;
comment on function lockgate.ends_after is
  'The ends of a queue in their order: those after (finish_time, id), deleted and retried tasks included.';

create function lockgate.histogram(p_seconds double precision[]) returns bigint[]
language sql immutable as $$
  select array_agg(coalesce(c.n, 0) order by b)
  from generate_series(0, 81) b
  left join (
    select width_bucket(log(least(greatest(s, 1e-6), 1e9)), -3, 5, 80) as b, count(*) as n
    from unnest(p_seconds) s where s is not null group by 1) c using (b)
$$;
comment on function lockgate.histogram is
  'How many lie in each of 82 buckets, ten to a power of ten: the first ends at a millisecond, the last but one at 100,000 s.';

create function lockgate.add_histograms(p_one bigint[], p_other bigint[]) returns bigint[]
language sql immutable as $$
  select array_agg(coalesce(one, 0) + coalesce(other, 0) order by n)
  from unnest(p_one, p_other) with ordinality u(one, other, n)
$$;
comment on function lockgate.add_histograms is 'Two histograms as one.';

create function lockgate.quantile(p_histogram bigint[], p_share double precision) returns double precision
language sql immutable as $$
  select round((case b when 0 then 0.001 when 81 then 1e5 else 10 ^ (-3 + (b - 0.5) / 10) end)::numeric, 4)  -- its middle
  from (
    select ordinality - 1 as b, n::double precision, sum(n) over (order by ordinality) as upto,
      p_share * sum(n) over () as wanted
    from unnest(p_histogram) with ordinality h(n, ordinality)) h
  where n > 0 and upto >= wanted
  order by b limit 1
$$;
comment on function lockgate.quantile is
  'The seconds that this share of a histogram stays below, to within an eighth; null = it is empty.';

-- A bounded step, since a runner does its chores on its slot session, which has to answer.
-- Nothing is lost with an unsafe commit: what was counted is forgotten together with how far counting had come.
create function lockgate.roll_up(p_batch int default 1000) returns int
language plpgsql security definer set search_path = lockgate, pg_temp as $$
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
    from lockgate.queue q left join lockgate.stats_total t on t.queue = q.name
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
      insert into lockgate.stats_minute as m (
        queue, minute, succeeded, failed, cancelled, waited, wait_sum, wait_histogram, ran, run_sum, run_histogram)
      select v_queue.name, minute, succeeded, failed, cancelled, waited, wait_sum, waits, ran, run_sum, runs from counted
      on conflict (queue, minute) do update
      set succeeded = m.succeeded + excluded.succeeded, failed = m.failed + excluded.failed,
        cancelled = m.cancelled + excluded.cancelled,
        waited = m.waited + excluded.waited, wait_sum = m.wait_sum + excluded.wait_sum,
        wait_histogram = lockgate.add_histograms(m.wait_histogram::bigint[], excluded.wait_histogram::bigint[]),
        ran = m.ran + excluded.ran, run_sum = m.run_sum + excluded.run_sum,
        run_histogram = lockgate.add_histograms(m.run_histogram::bigint[], excluded.run_histogram::bigint[])
    ), latest as (
      select finish_time, id from ends order by finish_time desc, id desc limit 1
    ), totals as (
      insert into lockgate.stats_total as t (
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
        wait_histogram = lockgate.add_histograms(t.wait_histogram, excluded.wait_histogram),
        ran = t.ran + excluded.ran, run_sum = t.run_sum + excluded.run_sum,
        run_histogram = lockgate.add_histograms(t.run_histogram, excluded.run_histogram)
    )
    select count(*) into v_done from ends;
    v_left := v_left - v_done;
    delete from lockgate.stats_uncounted r using lockgate.stats_total t
      where t.queue = v_queue.name and r.queue = t.queue and (r.finish_time, r.id) <= (t.finish_time, t.id);
    delete from lockgate.stats_minute m where m.queue = v_queue.name and m.minute < now() - interval '7 days';
    if not exists (select from lockgate.stats_minute m where m.queue = v_queue.name
                   and m.minute = date_bin('1 minute', now(), 'epoch') and m.queued is not null) then
      insert into lockgate.stats_minute as m (queue, minute, queued, scheduled, running)
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
comment on function lockgate.roll_up is
  'Counts what has ended, a batch at a time, and looks once a minute how much waits; about how many it dealt with, or null '
  'while another session has the chores. Keeps the chores lock for the session.';

create function lockgate.ended_since(p_since timestamptz)
returns table (
  queue text, succeeded bigint, failed bigint, cancelled bigint, wait_median double precision,
  wait_p95 double precision, run_median double precision, run_p95 double precision)
language sql stable security definer set search_path = lockgate, pg_temp as $$
  with minute as materialized (
    select q.name as queue, m.succeeded, m.failed, m.cancelled, m.wait_histogram, m.run_histogram
    from lockgate.queue q
    join lockgate.stats_minute m on m.queue = q.name and m.minute >= date_bin('1 minute', p_since, 'epoch')
    union all
    -- And what is not counted yet, up to some thousands of it.
    select q.name, e.*
    from lockgate.queue q
    left join lockgate.stats_total t on t.queue = q.name
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
comment on function lockgate.ended_since is
  'What has ended in each queue, and in all (queue is null), since the minute of that time, of which the last 7 days are '
  'known; how long those tasks had waited when they last started, and how long they executed: in seconds, to within an '
  'eighth.';

create function lockgate.series(
  p_from timestamptz, p_to timestamptz, p_step double precision, p_queue text default null)
returns table (
  "time" timestamptz, succeeded bigint, failed bigint, cancelled bigint, queued bigint, scheduled bigint, running bigint,
  wait_mean double precision, run_mean double precision)
language sql stable security definer set search_path = lockgate, pg_temp as $$
  with step as materialized (
    select s as begin, s + p_step * interval '1 second' as "end"
    from generate_series(p_from, p_to - interval '1 microsecond', p_step * interval '1 second') s
  ), minute as materialized (
    select m.minute, sum(m.succeeded) as succeeded, sum(m.failed) as failed, sum(m.cancelled) as cancelled,
      sum(m.queued) as queued, sum(m.scheduled) as scheduled, sum(m.running) as running,
      sum(m.waited) as waited, sum(m.wait_sum) as wait_sum, sum(m.ran) as ran, sum(m.run_sum) as run_sum
    from lockgate.queue q join lockgate.stats_minute m on m.queue = q.name and m.minute >= p_from and m.minute < p_to
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
comment on function lockgate.series is
  'The minutes from p_from to p_to in steps of p_step seconds, a multiple of 60: what ended, the most that waited and '
  'executed at the beginning of a minute, and the mean seconds of waiting and executing. Of one queue or all.';

create view lockgate.stats_total_detail as
  select q.name as queue, coalesce(t.succeeded, 0) as succeeded, coalesce(t.failed, 0) as failed,
    coalesce(t.cancelled, 0) as cancelled, coalesce(t.waited, 0) as waited, coalesce(t.wait_sum, 0) as wait_sum,
    t.wait_histogram, coalesce(t.ran, 0) as ran, coalesce(t.run_sum, 0) as run_sum, t.run_histogram
  from lockgate.queue q left join lockgate.stats_total t on t.queue = q.name
  order by q.name;
comment on view lockgate.stats_total_detail is 'All that has been counted in each queue; only ever grows.';

create function lockgate.forget_statistics(p_queue text) returns void
language sql security definer set search_path = lockgate, pg_temp as $$
  delete from lockgate.stats_minute where queue = p_queue;
  delete from lockgate.stats_total where queue = p_queue;
  delete from lockgate.stats_uncounted where queue = p_queue
$$;
comment on function lockgate.forget_statistics is 'Deletes all that was counted in a queue. For delete_queue.';
