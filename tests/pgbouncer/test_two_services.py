"""Two services behind one PgBouncer in transaction mode, both at work, are one service to everybody."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import httpx
import psycopg
import pytest

from tests.contract import Contract, Session, until
from tests.database import Database
from tests.pgbouncer.conftest import PooledTemplate
from tests.runner.process import RunnerProcess
from tests.service.conftest import Process, until_ready
from tests.service.test_events import Viewer, watching
from tests.service.test_task_events import events
from tests.service.test_waiting import LONG, watched

LIMIT = 60.0
CLIENTS = 8
KEYS = 50

Together = Callable[..., list[httpx.Response]]


@pytest.fixture(scope="module")
def pair(pg_template: PooledTemplate) -> Iterator[tuple[Database, list[httpx.Client]]]:
    """Their database, and a client of each."""
    with pg_template.clone() as db, ExitStack() as stack:
        processes = [Process("--port", "0", DATABASE_URL=db.service) for _ in range(2)]
        for one in processes:
            stack.callback(one.close)
        limits = httpx.Limits(max_connections=100, keepalive_expiry=None)
        clients = [
            stack.enter_context(httpx.Client(base_url=one.url, timeout=LIMIT, limits=limits)) for one in processes
        ]
        for client in clients:
            until_ready(client)
        yield db, clients


@pytest.fixture
def services(pair: tuple[Database, list[httpx.Client]]) -> list[httpx.Client]:
    return pair[1]


@pytest.fixture
def q(pair: tuple[Database, list[httpx.Client]]) -> Iterator[Contract]:
    db, _ = pair
    contract = Contract(db)
    contract.queue("noise")
    yield contract
    contract.service.close()
    db.query("truncate lockgate.task, lockgate.attempt, lockgate.output")


@pytest.fixture
def runner(q: Contract) -> Iterator[Session]:
    """In slot 1 of `default`."""
    session = q.runner()
    session.take(1)
    yield session
    session.die()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2 * CLIENTS) as made:
        yield made


@pytest.fixture
def together(services: list[httpx.Client], pool: ThreadPoolExecutor) -> Together:
    """Sends the same to both at the same moment."""

    def send(method: str, path: str, **request: Any) -> list[httpx.Response]:
        gate = threading.Barrier(len(services))

        def one(client: httpx.Client) -> httpx.Response:
            gate.wait(LIMIT)
            return client.request(method, path, **request)

        return list(pool.map(one, services))

    return send


@pytest.fixture(autouse=True)
def load(services: list[httpx.Client], q: Contract) -> Iterator[None]:
    """What others do meanwhile at both, none of which is refused."""
    over = threading.Event()
    refused: list[httpx.Response] = []

    def others(client: httpx.Client) -> None:
        while not over.is_set():
            made = client.post("/tasks", json={"kind": "noise", "queue": "noise"})
            seen = [made, client.get("/tasks?queue=noise&limit=5"), client.get(f"/tasks/{made.json().get('id', 0)}")]
            refused.extend(one for one in seen if not one.is_success)

    threads = [threading.Thread(target=others, args=(client,)) for client in services for _ in range(2)]
    for thread in threads:
        thread.start()
    yield
    over.set()
    for thread in threads:
        thread.join(LIMIT)
    assert [(one.status_code, one.text) for one in refused] == []


def test_the_same_request_to_both_at_once_makes_one_task(together: Together, q: Contract) -> None:
    for number in range(KEYS):
        headers = {"Idempotency-Key": f"order-{number}"}
        answers = together("POST", "/tasks", json={"kind": "mail", "payload": number}, headers=headers)
        assert len({one.json()["id"] for one in answers}) == 1
        assert sorted(one.status_code for one in answers) == [200, 202]
        assert sorted(one.headers.get("Idempotency-Replayed", "") for one in answers) == ["", "true"]
    assert sorted(task.payload for task in q.tasks("kind = 'mail'")) == list(range(KEYS))


def test_another_request_with_the_same_key_is_refused_by_whichever_comes_second(
    services: list[httpx.Client], pool: ThreadPoolExecutor, q: Contract
) -> None:
    def submit(number: int) -> int:
        headers = {"Idempotency-Key": f"k-{number // 2}"}
        body = {"kind": "mail", "payload": number}
        return services[number % 2].post("/tasks", json=body, headers=headers).status_code

    assert Counter(pool.map(submit, range(2 * KEYS))) == {202: KEYS, 422: KEYS}
    assert len(q.tasks("kind = 'mail'")) == KEYS


def test_the_same_batch_to_both_at_once_is_stored_once(together: Together, q: Contract) -> None:
    for number in range(10):
        items = [{"kind": "mail", "idempotency_key": f"{number}:{n}"} for n in range(100)]
        answers = [one.json()["items"] for one in together("POST", "/tasks/batch", json={"items": items})]
        assert [item["id"] for item in answers[0]] == [item["id"] for item in answers[1]]
        assert Counter(item["outcome"] for answer in answers for item in answer) == {"created": 100, "replayed": 100}
    assert len(q.tasks("kind = 'mail'")) == 1000


def test_who_waits_at_one_hears_of_what_the_other_does(
    services: list[httpx.Client], pool: ThreadPoolExecutor, q: Contract, runner: Session
) -> None:
    first, second = services

    def waiting(answer: "Future[httpx.Response]", task: int) -> httpx.Response:
        until(lambda: answer.done() or watched(q.db, task), "somebody to wait", LIMIT)
        return answer.result(LIMIT)

    for _ in range(5):
        # Submitted at one, waited for at the other, ended by a runner.
        task = second.post("/tasks", json={"kind": "mail"}).json()["id"]
        answer = pool.submit(first.get, f"/tasks/{task}", headers=LONG)
        until(partial(watched, q.db, task), "somebody to wait", LIMIT)
        finish(runner, task)
        assert waiting(answer, task).json()["status"] == "succeeded"
        # Submitted and waited for at one, cancelled at the other.
        sent = pool.submit(first.post, "/tasks", json={"kind": "mail"}, headers=LONG)
        (task,) = until(lambda: [task.id for task in q.tasks("kind = 'mail' and status = 'queued'")], "it", LIMIT)
        assert second.post(f"/tasks/{task}/cancel").json()["status"] == "cancelled"
        assert (sent.result(LIMIT).status_code, sent.result().json()["status"]) == (200, "cancelled")


def finish(runner: Session, task: int) -> None:
    claimed = runner.claim()
    assert claimed
    assert claimed.task == task
    runner.finish(claimed)


def test_the_events_of_a_task_are_the_same_at_both(services: list[httpx.Client], runner: Session) -> None:
    first, second = services
    task = first.post("/tasks", json={"kind": "mail"}).json()["id"]
    with events(first, task) as one, events(second, task) as other:
        seen = [[next(one)], [next(other)]]
        claimed = runner.claim()
        assert claimed
        for stream, of_it in zip((one, other), seen, strict=True):
            of_it.append(next(stream))
        runner.finish(claimed)
        for stream, of_it in zip((one, other), seen, strict=True):
            of_it += list(stream)
    assert [one.data["status"] for one in seen[0]] == ["queued", "running", "succeeded"]
    assert seen[0] == seen[1]


def test_who_watches_everything_sees_the_same_at_both(services: list[httpx.Client], q: Contract) -> None:
    first, second = services
    q.queue("mail", slots=3)
    tasks = [client.post("/tasks", json={"kind": "mail", "queue": "mail"}).json()["id"] for client in services]
    asked = f"?queue=mail&tasks={tasks[0]},{tasks[1]}"
    with watching(first, asked) as one, watching(second, asked) as other:
        for viewer in (one, other):
            viewer.until(lambda viewer=viewer: {*viewer.tasks} == {*tasks}, "both tasks")
        second.post(f"/tasks/{tasks[0]}/cancel")
        first.patch("/queues/mail", json={"slots": 4})
        first.patch(f"/tasks/{tasks[1]}", json={"priority": 5})
        second.delete(f"/tasks/{tasks[0]}")

        def is_told(viewer: Viewer) -> bool:
            (queue,) = viewer.scene["queues"].values()
            told = {number: task["priority"] for number, task in viewer.tasks.items()}
            return (queue["slots"], queue["queued"]) == (4, 1) and told == {tasks[1]: 5}

        for viewer in (one, other):
            viewer.until(lambda viewer=viewer: is_told(viewer), "all of it")
        assert one.tasks == other.tasks


def test_no_session_of_theirs_is_prepared_or_listens_and_the_runner_hears_them_both(
    services: list[httpx.Client], q: Contract
) -> None:
    runner = RunnerProcess(q.db.runner, poll=60, queues="default")
    try:
        runner.says("slot taken", LIMIT)
        for client in [*services, *services]:
            body = {"kind": "sleep", "payload": {"max": 0}}
            # Sooner than the runner looks by itself.
            answer = client.post("/tasks", json=body, headers={"Prefer": "wait=30"})
            assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    finally:
        runner.close()
    ask = """
        select pg_backend_pid(), (select count(*) from pg_prepared_statements),
          (select count(*) from pg_listening_channels())
        """
    with psycopg.connect(q.db.service, autocommit=True, prepare_threshold=None) as conn:
        seen = {conn.execute(ask).fetchone() for _ in range(20)}
    assert {found[1:] for found in seen if found} == {(0, 0)}
