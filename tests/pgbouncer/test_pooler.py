"""Behind PgBouncer in transaction mode: what the service does there, and that a runner does nothing there."""

from typing import Any

import httpx
import psycopg
from psycopg.conninfo import make_conninfo

from tests.contract import Contract, until
from tests.database import Database
from tests.pgbouncer.pooler import Pooler
from tests.runner.process import RunnerProcess
from tests.service.conftest import RunnerStart

# Whoever is told of new tasks is told through the pooler too.
from tests.service.test_notify import *  # noqa: F403

TASK = {"kind": "mail", "payload": {"to": "a"}}


def test_the_pooler_hands_statements_to_sessions_as_it_likes(db: Database) -> None:
    """Or these tests would show nothing."""
    first, second = (psycopg.connect(db.service, autocommit=True, prepare_threshold=None) for _ in range(2))
    with first, second:
        ask = "select pg_backend_pid()"
        pids = {conn.execute(ask).fetchone() for _ in range(4) for conn in (first, second)}
        assert len(pids) > 1 or first.info.backend_pid != second.info.backend_pid
        assert (first.info.backend_pid,) not in pids


def test_every_operation_does_its_work_on_whichever_session_is_free(http: httpx.Client, q: Contract) -> None:
    """Each of the statements that the service knows, on another session than the one before."""
    runner = q.runner("r")
    failed, ended, waiting, late, gone = (q.row("failed"), q.row("succeeded"), *(q.submit() for _ in range(3)))
    first = http.post("/tasks", json=TASK, headers={"Idempotency-Key": "k"})
    again = http.post("/tasks", json=TASK, headers={"Idempotency-Key": "k"})
    assert (first.status_code, again.status_code, again.json()["id"]) == (202, 200, first.json()["id"])
    done = {("post", "/tasks")}

    def does(expected: int, method: str, path: str, *values: object, **request: Any) -> Any:
        """One operation, at its path with these values in it."""
        done.add((method, path))
        given = iter(values)
        where = "/".join(str(next(given)) if part.startswith("{") else part for part in path.split("?")[0].split("/"))
        response = http.request(method, where, **request)
        assert response.status_code == expected, (method, path, response.text)
        return response.json() if "json" in response.headers.get("content-type", "") else response.text

    quick = does(202, "post", "/task")
    assert does(200, "get", "/task/{task_id}", quick)["status"] == "In Queue"
    batch = does(202, "post", "/tasks/batch", json={"items": [TASK, TASK]})["items"]
    assert [item["outcome"] for item in batch] == ["created", "created"]
    does(200, "post", "/tasks/stream", content=b'{"kind": "mail"}\n' * 3)
    assert len(q.tasks("kind = 'mail'")) == 6
    assert does(200, "patch", "/tasks/{task_id}", waiting, json={"priority": 7})["priority"] == 7
    assert does(200, "get", "/tasks/{task_id}", waiting)["priority"] == 7
    assert does(200, "post", "/tasks/{task_id}/cancel", waiting)["status"] == "cancelled"
    assert does(202, "post", "/tasks/{task_id}/retry", failed)["status"] == "queued"
    assert does(200, "get", "/tasks/{task_id}/output", late) is not None
    assert '"status":"cancelled"' in does(200, "get", "/tasks/{task_id}/events", waiting).replace(" ", "")
    does(204, "delete", "/tasks/{task_id}", gone)
    assert not q.tasks("id = %s", gone)
    assert does(200, "post", "/tasks/bulk", json={"action": "cancel", "ids": [late]})["affected"] == 1
    tasks = does(200, "get", "/tasks", params={"limit": 500, "queue": "default"})["items"]
    assert {task["id"] for task in tasks} == {task.id for task in q.tasks()}

    assert does(201, "post", "/queues", json={"name": "gpu"})["slots"] == 2
    assert does(200, "patch", "/queues/{name}", "gpu", json={"slots": 3})["slots"] == 3
    assert does(200, "post", "/queues/{name}/pause", "gpu")["paused"] is True
    assert does(200, "post", "/queues/{name}/resume", "gpu")["paused"] is False
    assert does(200, "get", "/queues/{name}", "gpu")["slots"] == 3
    does(204, "delete", "/queues/{name}", "gpu")
    assert [queue["name"] for queue in does(200, "get", "/queues")["items"]] == ["default"]
    assert does(200, "post", "/queues/{name}/purge", "default")["removed"] == len([ended, waiting, late])

    does(202, "post", "/runners/{runner}/drain", runner.name)
    does(200, "post", "/runners/{runner}/resume", runner.name)
    assert [one["runner"] for one in does(200, "get", "/runners")["items"]] == [runner.name]
    for path in ("/failures", "/kinds", "/slots", "/stats", "/stats/series", "/health/ready", "/metrics"):
        assert does(200, "get", path)
    with http.stream("GET", "/events") as watched:
        assert watched.status_code == 200
        assert any(line.startswith("event:") for line in watched.iter_lines())

    # What is left asks no database.
    left = {("get", "/events"), ("get", "/health/live"), ("get", "/problems"), ("get", "/problems/{name}")}
    paths = http.get("/docs/openapi.json").json()["paths"]
    assert {(method, path) for path, item in paths.items() for method in item} == done | left


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
