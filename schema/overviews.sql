-- Overviews: queues, slots, runners and kinds in numbers, for people and for the service.

create view lockgate.queue_stats as
  with running as materialized (select queue, count(*)::int as n from lockgate.running() group by queue),
  held as materialized (select * from lockgate.held_locks),
  alive as materialized (
    select r.backend_pid, r.queues, r.concurrency,
      (select count(*) from held h where h.pid = r.backend_pid and h.queue > 0) as slots
    from lockgate.runner r
    where not r.draining and exists (select from held h where h.queue = 0 and h.slot = r.session)
  )
  select q.name as queue, q.slots, q.paused, q.grace,
    coalesce((select r.n from running r where r.queue = q.name), 0) as running,
    (select count(*)::int from held h where h.queue = q.id) as held,
    a.runners, a.standbys, w.queued, w.scheduled, w.oldest
  from lockgate.queue q
  cross join lateral lockgate.waiting(q.name) w
  cross join lateral (
    select count(*)::int as runners, count(*) filter (
      where a.slots < a.concurrency and not exists (
        select from held h where h.pid = a.backend_pid and h.queue = q.id))::int as standbys
    from alive a where a.queues is null or q.name = any (a.queues)) a
  order by q.name;
comment on view lockgate.queue_stats is
  'Queues in numbers: slots with a task and slots held, the runners that serve it and those that stand by; what waits, '
  'counted to 10,001, and since when the oldest of those has been due.';

create view lockgate.queue_overview as
  with running as materialized (select queue, count(*) as n from lockgate.running() group by queue)
  select q.name as queue, q.slots, q.paused,
    coalesce((select r.n from running r where r.queue = q.name), 0) as running,
    case when w.queued > 10000 then '10000+' else w.queued::text end as queued,
    case when w.scheduled > 10000 then '10000+' else w.scheduled::text end as scheduled,
    round(extract(epoch from clock_timestamp() - w.oldest)::numeric, 1) as oldest_wait
  from lockgate.queue q cross join lateral lockgate.waiting(q.name) w
  order by q.name;
comment on view lockgate.queue_overview is
  'Queues: slots, what is running and waiting (counted to 10,000), and the seconds the oldest of those has been due.';

create view lockgate.task_recent as
  select id, queue, kind, status, priority, attempt || '/' || max_attempts as attempt, slot,
    round(extract(epoch from clock_timestamp() - create_time)::numeric, 1) as age,
    round(coalesce(exec_time, case when status = 'running'
                              then extract(epoch from clock_timestamp() - start_time) end)::numeric, 2) as seconds,
    progress, left(error ->> 'type' || ': ' || (error ->> 'message'), 60) as error
  from lockgate.task
  order by id desc limit 40;
comment on view lockgate.task_recent is 'The 40 newest tasks, on one screen.';

create view lockgate.slot_detail as
  with seen as materialized (select * from lockgate.slot_activity())
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
  'Slots: the runner that holds each, when its session was last heard of (null = free, or not for this login to see), and what '
  'executes in it. Those above a number that was lowered stay until they are let go. status: free; held = ready for a '
  'task; running; abandoned = its runner''s session is gone, and its task will be adopted; silent = its runner has not '
  'been heard of for a grace.';

create view lockgate.slot_overview as
  select queue, slot, runner, backend_pid, task, kind,
    round(extract(epoch from clock_timestamp() - start_time)::numeric, 1) as seconds,
    round(extract(epoch from clock_timestamp() - heard)::numeric, 1) as seconds_silent
  from lockgate.slot_detail
  order by queue, slot;
comment on view lockgate.slot_overview is
  'Slots: the runner that holds each, what executes in it and for how long, and how long its holder''s session has been silent. '
  'Those above a number that was lowered stay until they are let go.';

create view lockgate.runner_overview as
  with running as materialized (select runner, count(*) as n from lockgate.running() group by runner)
  select r.session, r.runner, r.host, r.pid, r.backend_pid, r.version, r.concurrency, r.queues, r.kinds, r.since,
    exists (select from lockgate.held_locks l where l.queue = 0 and l.slot = r.session) as alive,
    coalesce((select b.n from running b where b.runner = r.runner), 0) as running, r.draining
  from lockgate.runner r
  order by r.session;
comment on view lockgate.runner_overview is
  'Runner sessions, whether each is alive, how many tasks it runs, and whether it was told to take no more.';

create view lockgate.kind_overview as
  select k.kind, count(distinct r.runner)::int as runners,
    case when not bool_or(r.queues is null) then array_agg(distinct u.queue) end as queues,
    (array_agg(r.schemas -> k.kind order by r.session desc) filter (where r.schemas ? k.kind))[1] as payload_schema
  from lockgate.runner r
  cross join lateral unnest(r.kinds) k (kind)
  left join lateral unnest(r.queues) u (queue) on true
  where not r.draining and exists (select from lockgate.held_locks l where l.queue = 0 and l.slot = r.session)
  group by k.kind
  order by k.kind;
comment on view lockgate.kind_overview is
  'Kinds that runners serve now: how many do, in which queues (null = all), and the JSON Schema of the payload, as the '
  'newest of them has it (null = anything is taken).';
