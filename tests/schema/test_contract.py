"""What holds for the schema as a whole: comments, rights, safety."""

from collections.abc import Iterable

import psycopg
import pytest
from psycopg import errors

from tests.contract import Contract
from tests.database import Database, Role

ROLES: tuple[Role, ...] = ("service", "runner", "viewer")
EVERYBODY = set(ROLES)
NOBODY: set[Role] = set()

# Who may call what: the whole contract. A function that is not here fails the test.
FUNCTIONS: dict[str, set[Role]] = {
    "lock_class": EVERYBODY,
    "holds_slot": EVERYBODY,
    "schema_version": EVERYBODY,
    "list_tasks": {"service", "viewer"},
    "created_since": NOBODY,
    "newest_queued": NOBODY,
    "claim_order": {"service", "viewer"},
    "failure": {"service", "viewer"},
    "running": {"service", "viewer"},
    "submit": {"service"},
    "submit_batch": {"service"},
    "submit_all": {"service"},
    "due": {"service"},
    "notify_due": {"service"},
    "cancel": {"service"},
    "retry": {"service"},
    "delete_task": {"service"},
    "change_task": {"service"},
    "cancel_tasks": {"service"},
    "retry_tasks": {"service"},
    "delete_tasks": {"service"},
    "purge": {"service"},
    "remove": NOBODY,
    "create_queue": {"service"},
    "change_queue": {"service"},
    "set_slots": {"service"},
    "pause": {"service"},
    "resume": {"service"},
    "delete_queue": {"service"},
    "add_key": {"service"},
    "revoke_key": {"service"},
    "has_keys": {"service"},
    "keys_in_force": {"service"},
    "note_key_use": {"service"},
    "poll_queues": {"runner"},
    "occupied_slots": EVERYBODY,
    "slot_activity": EVERYBODY,
    "register": {"runner"},
    "announce_schemas": {"runner"},
    "deregister": {"runner"},
    "take_slot": {"runner"},
    "retake_slot": {"runner"},
    "release_slot": {"runner"},
    "pass_slot_on": {"runner"},
    "claim": {"runner"},
    "reconfirm": {"runner"},
    "finish": {"runner"},
    "finish_and_claim": {"runner"},
    "fail": {"runner"},
    "return_task": {"runner"},
    "wait_until_durable": {"runner"},
    "adopt": {"runner"},
    "report_progress": {"runner"},
    "write_output": {"runner"},
    "delete_expired": {"runner"},
    "roll_up": {"runner"},
    "is_draining": {"runner"},
    "standing_by": {"runner"},
    "drain_runner": {"service"},
    "resume_runner": {"service"},
    "set_draining": NOBODY,
    "waiting": {"service", "viewer"},
    "ended_since": {"service", "viewer"},
    "series": {"service", "viewer"},
    "promote": NOBODY,
    "remaining_depth": NOBODY,
    "check_size": NOBODY,
    "refuse_size": NOBODY,
    "lock_attempt": NOBODY,
    "lock_task": NOBODY,
    "newest_turn": NOBODY,
    "requeue": NOBODY,
    "end_task": NOBODY,
    "backoff": NOBODY,
    "first_turn": NOBODY,
    "recheck_slot": NOBODY,
    "lock_next": NOBODY,
    "set_outbox": {"service"},
    "outbox_lock": {"service"},
    "outbox_next": {"service"},
    "outbox_ack": {"service"},
    "outbox_purge": {"service"},
    "record_in_outbox": NOBODY,
    "merge_metadata": NOBODY,
    "digest": NOBODY,
    "waited": NOBODY,
    "ran": NOBODY,
    "is_uncounted": NOBODY,
    "keep_uncounted": NOBODY,
    "keep_uncounted_ends": NOBODY,
    "forget_statistics": NOBODY,
    "revoke_keys_of": NOBODY,
    "ends_after": NOBODY,
    "histogram": NOBODY,
    "add_histograms": NOBODY,
    "quantile": NOBODY,
}

# Who may read what. Nobody but the owner may write anything.
RELATIONS: dict[str, set[Role]] = {
    "release": {"viewer"},
    "queue": {"viewer"},
    "task": {"viewer"},
    "attempt": {"viewer"},
    "runner": {"viewer"},
    "output": {"viewer"},
    "stats_minute": {"viewer"},
    "stats_total": {"viewer"},
    "stats_uncounted": {"viewer"},
    "held_locks": EVERYBODY,
    "api_key": {"viewer"},
    "task_detail": {"service", "viewer"},
    "task_recent": {"service", "viewer"},
    "task_version": {"service", "viewer"},
    "attempt_detail": {"service", "viewer"},
    "output_detail": {"service", "viewer"},
    "queue_detail": {"service", "viewer"},
    "key_overview": {"service", "viewer"},
    "queue_overview": {"service", "viewer"},
    "slot_overview": {"service", "viewer"},
    "slot_detail": {"service", "viewer"},
    "queue_stats": {"service", "viewer"},
    "stats_total_detail": {"service", "viewer"},
    "runner_overview": {"service", "viewer"},
    "kind_overview": {"service", "viewer"},
    "failures": {"service", "viewer"},
    "outbox": {"viewer"},
    "outbox_overview": {"service", "viewer"},
}

# Called with the rights of the caller: they touch no table.
INVOKER = {
    *("lock_class", "holds_slot", "recheck_slot", "retake_slot", "release_slot", "slot_activity", "standing_by"),
    *("due", "notify_due", "check_size", "refuse_size", "backoff", "claim_order", "failure", "first_turn"),
    *("merge_metadata", "digest"),
    *("waited", "ran", "histogram", "add_histograms", "quantile"),
    # Inlined into, or called by, a function with the owner's rights.
    *("newest_turn", "lock_next"),
}


def names(db: Database, text: str) -> set[str]:
    return {row[0] for row in db.query(text)}


def permitted(db: Database, role: Role, statement: str) -> bool:
    """Whether this role gets past the permission check; what comes after that is none of our business."""
    conn = db.connect(role)
    try:
        conn.execute("begin")
        conn.execute(statement)
    except errors.InsufficientPrivilege:
        return False
    except psycopg.Error:
        return True
    finally:
        conn.close()
    return True


def table(permissions: Iterable[tuple[str, Role]]) -> str:
    return "\n".join(sorted(f"{role} may {what}" for what, role in permissions))


def test_every_role_may_call_its_functions_and_no_others(db: Database) -> None:
    calls = db.query(
        "select proname, format('select lockgate.%I(%s)', proname, (select string_agg('null::' || t::regtype, ', ')"
        " from unnest(proargtypes) t)) from pg_proc where pronamespace = 'lockgate'::regnamespace"
    )
    assert {name for name, _ in calls} == FUNCTIONS.keys()
    allowed = {(name, role) for name, call in calls for role in ROLES if permitted(db, role, call)}
    assert table(allowed) == table((name, role) for name, roles in FUNCTIONS.items() for role in roles)


def test_every_role_may_read_its_relations_and_no_others(db: Database) -> None:
    assert RELATIONS.keys() == names(
        db, "select relname from pg_class where relnamespace = 'lockgate'::regnamespace and relkind in ('r', 'v')"
    )
    allowed = {(n, r) for n in RELATIONS for r in ROLES if permitted(db, r, f"select from lockgate.{n} limit 0")}
    assert table(allowed) == table((name, role) for name, roles in RELATIONS.items() for role in roles)


@pytest.mark.parametrize("role", ROLES)
def test_no_role_may_write_a_table_or_a_sequence(db: Database, role: Role) -> None:
    info = db.connect(role).info
    rights = ["insert", "update", "delete", "truncate", "references", "trigger"]
    if info.server_version >= 170000:
        rights.append("maintain")
    written = db.query(
        "select relname, p from pg_class, unnest(case relkind when 'S' then array['usage', 'update'] else %s end) p"
        " where relnamespace = 'lockgate'::regnamespace and relkind in ('r', 'v', 'S') and"
        " case relkind when 'S' then has_sequence_privilege(%s, oid, p) else has_table_privilege(%s, oid, p) end",
        *(rights, info.user, info.user),
    )
    assert written == []


@pytest.mark.parametrize("role", ROLES)
def test_no_role_may_create_anything_in_the_schema(db: Database, role: Role) -> None:
    assert not permitted(db, role, "create table lockgate.mine (a int)")


def test_the_public_may_nothing(db: Database) -> None:
    assert db.value("select has_schema_privilege('public', 'lockgate', 'usage')") is False
    assert not db.query(
        "select proname from pg_proc where pronamespace = 'lockgate'::regnamespace"
        " and has_function_privilege('public', oid, 'execute')"
    )


def test_a_definers_function_pins_its_search_path(db: Database) -> None:
    """Or its caller could put a function of its own in the way, and have it called with the owner's rights."""
    assert (
        names(db, "select proname from pg_proc where pronamespace = 'lockgate'::regnamespace and not prosecdef")
        == INVOKER
    )
    assert not db.query(
        "select proname, proconfig from pg_proc where pronamespace = 'lockgate'::regnamespace and prosecdef"
        " and proconfig is distinct from array['search_path=lockgate, pg_temp']"
    )


def test_a_callers_temporary_table_does_not_take_the_place_of_ours(q: Contract) -> None:
    runner = q.runner()
    runner.conn.execute("create temp table task (id int)")
    runner.conn.execute("create temp table queue (id int)")
    q.submit()
    assert runner.work()


def test_every_public_object_has_a_comment(db: Database) -> None:
    assert not db.query(
        """
        with object (kind, name, class, id) as (
          select 'schema', nspname::text, 'pg_namespace', oid from pg_namespace where nspname = 'lockgate'
          union all
          select 'relation', relname, 'pg_class', oid from pg_class c
          where relnamespace = 'lockgate'::regnamespace and (relkind in ('r', 'v') or relkind = 'S' and not exists (
            select from pg_depend where classid = 'pg_class'::regclass and objid = c.oid and deptype = 'i'))
          union all
          select 'type', typname, 'pg_type', t.oid from pg_type t left join pg_class c on c.oid = typrelid
          where typnamespace = 'lockgate'::regnamespace and typcategory <> 'A' and (typrelid = 0 or relkind = 'c')
          union all
          select 'function', proname, 'pg_proc', oid from pg_proc where pronamespace = 'lockgate'::regnamespace
          union all
          select 'index', relname, 'pg_class', oid from pg_index join pg_class on oid = indexrelid
          where indrelid = 'lockgate.task'::regclass
        )
        select kind, name from object where coalesce(obj_description(id, class), '') = ''
        """
    )


# Speed that rests on an index ----------------------------------------------------------------------------------------

CROWD = """
insert into lockgate.task (queue, kind, status, priority, run_at, finish_time, max_attempts, payload)
select 'default', 'sleep', s, i % 7, now() + i * case when s = 'scheduled' then interval '1 hour' else '0' end,
  case when s = 'succeeded' then now() end, 3, '{}'
from generate_series(1, 20000) i, unnest(array['scheduled', 'queued', 'succeeded']::lockgate.status[]) s
"""


@pytest.mark.parametrize("analyzed", [False, True])
def test_no_step_of_a_runner_reads_the_table_from_end_to_end(q: Contract, analyzed: bool) -> None:
    """40,000 tasks wait and 20,000 have ended; and in the end nothing is queued any more, which no plan expects."""
    q.db.query(CROWD)
    if analyzed:
        q.db.query("analyze lockgate.task")
    runner = q.runner()
    runner.take(1)

    def scans(relation: str) -> int:
        """So far; what this asks for is the session's own count, which is exact inside a transaction."""
        number: int = runner.value("select pg_stat_get_xact_numscans(%s::regclass)", f"lockgate.{relation}")
        return number

    def work() -> None:
        for step in ("poll_queues('{default}')", "take_slot(1)", "occupied_slots()", "slot_activity()", "roll_up(50)"):
            runner.conn.execute(f"select from lockgate.{step}")
        if claimed := runner.claim():
            runner.finish(claimed)

    with runner.conn.transaction():
        claims = scans("task_claim")
        for _ in range(8):  # often enough for the plans that do not know their parameters
            work()
        assert scans("task") == 0
        # In each round one of look, and of claim one or, from where it was last and from the beginning, two or three.
        assert 16 <= scans("task_claim") - claims <= 32
    q.db.query("delete from lockgate.task where status = 'queued'")
    with runner.conn.transaction():
        work()
        assert scans("task") == 0
