"""``python -m bench.indexes``: the use of each index of the table `task`, and its cost for each write."""

import statistics
import time
from collections.abc import Mapping

from bench.report import Report, number
from bench.script import progress, run
from bench.testbed import Database, Scale, Testbed

BATCH = 500
INDEXES = b"""
select i.relname, pg_get_indexdef(i.oid), obj_description(i.oid, 'pg_class')
from pg_index x join pg_class i on i.oid = x.indexrelid
where x.indrelid = 'lockgate.task'::regclass order by x.indisprimary desc, i.relname
"""
SUBMIT = b"""
select lockgate.submit_batch((
  select jsonb_agg(jsonb_build_object(
    'kind', 'noop', 'idempotency_key', key, 'dedupe_key', key, 'delay', %(delay)s::int))
  from generate_series(1, %(batch)s) g, lateral (select %(part)s || ':' || g as key) k))
"""
# In the server, so that nothing but the functions is measured; each task in transactions of its own.
LIFE_CYCLE = """
do $$
declare
  v_begin timestamptz;
  v_task lockgate.claimed;
  v_claim double precision := 0;
  v_finish double precision := 0;
  v_fail double precision := 0;
begin
  loop
    v_begin := clock_timestamp();
    select * into v_task from lockgate.claim({queue}, 1, 'bench', {session});
    v_claim := v_claim + extract(epoch from clock_timestamp() - v_begin);
    exit when v_task.task is null;
    commit;
    v_begin := clock_timestamp();
    if v_task.task % 2 = 0 then
      perform lockgate.finish(v_task.task, v_task.lease, 'bench', 0.1, '1');
      v_finish := v_finish + extract(epoch from clock_timestamp() - v_begin);
    else
      perform lockgate.fail(
        v_task.task, v_task.lease, 'bench', 0.1, '{{"type": "Boom", "message": "no"}}', p_discard => true);
      v_fail := v_fail + extract(epoch from clock_timestamp() - v_begin);
    end if;
    commit;
  end loop;
  perform set_config('bench.seconds', array[v_claim, v_finish, v_fail]::text, false);
end
$$
"""

Cost = Mapping[str, float]
"""Microseconds a task, by operation."""


def measure(scale: Scale) -> Report:
    """Measures each index by a copy of it under another name: the copy costs as much as the index."""
    tasks, rounds = scale(10_000, 1000), scale(5, 2)
    report = Report(
        "12. Indexes",
        "python -m bench.indexes",
        "For each index of the table `task`: its use, and its cost in microseconds a task. The bench measures the "
        "functions in the server, without their commits, with a copy of the index and just before without it: "
        f"{tasks:,} tasks each time, all with both keys, medians of {rounds} differences. Some microseconds are noise.",
    )
    with Testbed(scale, {"max_wal_size": "4GB", "autovacuum": "off"}) as testbed:
        report.environment = testbed.describe()
        indexes = testbed.main.owner.execute(INDEXES).fetchall()
        without: list[Cost] = []
        more: dict[str, list[Cost]] = {name: [] for name, _, _ in indexes}
        for n in range(rounds):
            progress(f"round {n + 1} of {rounds}")
            for name, definition, _ in indexes:
                without.append(life_cycle(testbed.main, tasks))
                with_it = life_cycle(testbed.main, tasks, definition.replace(f" {name} ", " a_copy ", 1))
                more[name].append({what: cost - without[-1][what] for what, cost in with_it.items()})
        table = report.table("index", "serves", *without[0])
        for name, definition, serves in indexes:
            shown = f"`{name}` {definition.partition(' USING btree ')[2]}"
            table.add(shown, serves, *(number(median_of(more[name], what)) for what in without[0]))
        table.add("all that it takes", "", *(number(median_of(without, what)) for what in without[0]))
    return report


def median_of(costs: list[Cost], what: str) -> float:
    return statistics.median(one[what] for one in costs)


def life_cycle(database: Database, tasks: int, copy: str = "") -> Cost:
    """Submits, claims and ends tasks one after the other, and submits as many for later."""
    owner = database.owner
    owner.execute("truncate lockgate.task, lockgate.attempt, lockgate.output")
    if copy:
        owner.execute(copy.encode())
    seconds = [submitted(database, tasks, delay) for delay in (86400, 0)]
    owner.execute("vacuum (analyze) lockgate.task")
    owner.execute("checkpoint")
    queue = database.value("select id from lockgate.queue where name = 'default'")
    session = database.value("select lockgate.register('bench', 'here', 1, '0', 1, null, '{}')")
    owner.execute("select lockgate.retake_slot(%s, 1)", (queue,))
    owner.execute(LIFE_CYCLE.format(queue=queue, session=session).encode())
    ran: list[float] = database.value("select current_setting('bench.seconds')::float8[]")
    if copy:
        owner.execute("drop index lockgate.a_copy")
    later, now = (1e6 * each / tasks for each in seconds)
    claim, finish, fail = (1e6 * each / some for each, some in zip(ran, (tasks, tasks / 2, tasks / 2), strict=True))
    return {"submit": now, "submit for later": later, "claim": claim, "finish": finish, "fail": fail}


def submitted(database: Database, tasks: int, delay: int) -> float:
    """Submits tasks; returns the seconds."""
    begin = time.perf_counter()
    for part in range(0, tasks, BATCH):
        database.owner.execute(SUBMIT, {"part": f"{delay}:{part}", "delay": delay, "batch": BATCH})
    return time.perf_counter() - begin


if __name__ == "__main__":
    run(measure)
