"""Behind PgBouncer in transaction mode: what the service does there, and that a runner does nothing there."""

import httpx
import psycopg
from psycopg.conninfo import make_conninfo

from tests.contract import Contract, until
from tests.database import Database
from tests.pgbouncer.pooler import Pooler
from tests.runner.process import RunnerProcess
from tests.service.conftest import RunnerStart

# Every test of these runs here once more: requests of one client go to whichever session is free.
from tests.service.test_actions import *  # noqa: F403
from tests.service.test_batch import *  # noqa: F403
from tests.service.test_bulk import *  # noqa: F403
from tests.service.test_cancel import *  # noqa: F403
from tests.service.test_create import *  # noqa: F403
from tests.service.test_notify import *  # noqa: F403
from tests.service.test_queues import *  # noqa: F403
from tests.service.test_read import *  # noqa: F403
from tests.service.test_simple import *  # noqa: F403
from tests.service.test_slots import *  # noqa: F403
from tests.service.test_task_events import *  # noqa: F403
from tests.service.test_waiting import *  # noqa: F403


def test_the_pooler_hands_statements_to_sessions_as_it_likes(db: Database) -> None:
    """Or these tests would show nothing."""
    first, second = (psycopg.connect(db.service, autocommit=True, prepare_threshold=None) for _ in range(2))
    with first, second:
        ask = "select pg_backend_pid()"
        pids = {conn.execute(ask).fetchone() for _ in range(4) for conn in (first, second)}
        assert len(pids) > 1 or first.info.backend_pid != second.info.backend_pid
        assert (first.info.backend_pid,) not in pids


def test_a_runner_refuses_a_pooler_and_names_the_setting(db: Database, pgbouncer: Pooler) -> None:
    runner = RunnerProcess(pgbouncer.before(db.runner))
    try:
        assert runner.process.wait(30) == 1
        runner.close()
        (said,) = runner.noise
        assert said.startswith("lockgate: connected to backend ")
        assert "DATABASE_URL leads to a connection pooler" in said
        assert "Give runners a DATABASE_URL that goes straight to Postgres" in said
        assert runner.events("slot taken") == []
    finally:
        runner.close()


def test_a_runner_that_refuses_a_pooler_leaves_its_sessions_as_they_were(db: Database, pgbouncer: Pooler) -> None:
    """What it sets would hold for whoever comes to that session next."""
    dsn = make_conninfo(pgbouncer.before(db.runner))

    def settings() -> set[tuple[str, ...]]:
        ask = """
            select current_setting('lock_timeout'), current_setting('tcp_keepalives_idle'),
              (select count(*) from pg_listening_channels())
            """
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as conn:
            return {tuple(map(str, conn.execute(ask).fetchone() or ())) for _ in range(20)}

    before = settings()
    runner = RunnerProcess(dsn)
    try:
        assert runner.process.wait(30) == 1
    finally:
        runner.close()
    assert settings() == before


def test_tasks_go_through_a_pooled_service_to_a_runner_that_goes_straight(
    q: Contract, http: httpx.Client, runners: RunnerStart
) -> None:
    tasks = [http.post("/tasks", json={"kind": "sleep", "payload": {"max": 0}}).json()["id"] for _ in range(20)]
    runners(concurrency=2)
    until(lambda: all(q.task(task).status == "succeeded" for task in tasks), "all to succeed")
    assert http.get(f"/tasks/{tasks[-1]}").json()["status"] == "succeeded"
