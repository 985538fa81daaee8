"""Four runners and two slots while containers are killed, paused, removed and restarted, and a witness counts."""

import threading
import time
from contextlib import suppress

import httpx

from tests.containers.compose import Compose, docker
from tests.contract import until


def test_the_slots_decide_how_many_execute_and_can_be_changed_without_a_restart(compose: Compose) -> None:
    until(lambda: len(compose.alive()) == 4, "four runners")
    before = [(each["Id"], each["State"]["StartedAt"]) for each in compose.containers("runner")]
    compose.submit("default", 8, seconds=60)
    until(lambda: compose.executing("default") == 2, "two to execute")
    busy = "select count(*), count(distinct runner) from slot_overview where task is not null"
    assert compose.psql(busy) == "2|2"
    with compose.http as http:
        asked = time.monotonic()
        assert http.patch("/queues/default", json={"slots": 4}).status_code == 200
        until(lambda: compose.executing("default") == 4, "four to execute")
        print(f"four busy {time.monotonic() - asked:.2f} s after they were allowed")  # noqa: T201 - of interest with -s
        assert compose.psql(busy) == "4|4"
        http.patch("/queues/default", json={"slots": 2})
    assert compose.witness.most["default"] == 4
    assert [(each["Id"], each["State"]["StartedAt"]) for each in compose.containers("runner")] == before
    compose.cancel("default")


def test_the_task_of_a_killed_container_executes_again(compose: Compose) -> None:
    queue = compose.queue("killed", slots=2)
    compose.submit(queue, 2, seconds=60)
    until(lambda: compose.executing(queue) == 2, "two to execute")
    (first, second) = compose.witness.current(queue)
    container = compose.container_of(first.task)
    docker("kill", container)
    killed = time.monotonic()
    until(lambda: first.end is not None, "the executor to be gone")
    again = until(
        lambda: next((e for e in compose.witness.current(queue) if e.task == first.task), None), "it to execute", 60
    )
    print(f"again after {again.begin - killed:.2f} s")  # noqa: T201
    # Whoever adopts waits for the grace: that is what makes it safe.
    assert again.begin - (first.end or killed) > 4.5
    assert again.lease > second.lease
    assert compose.witness.most[queue] == 2
    compose.cancel(queue)


def test_scaled_down_under_load_no_task_is_lost_or_executed_twice(compose: Compose) -> None:
    queue = compose.queue("shrunk", slots=2)
    tasks = compose.submit(queue, 30, seconds=0.3)
    until(lambda: len(compose.leases(queue)) > 4, "some to execute")
    compose.scale(1)
    assert {task["status"] for task in compose.until_ended(queue)} == {"succeeded"}
    assert {task: len(leases) for task, leases in compose.leases(queue).items()} == dict.fromkeys(tasks, 1)
    assert compose.witness.most[queue] <= 2
    assert len(compose.alive()) == 1


def test_tasks_outlive_a_restart_of_the_database(compose: Compose) -> None:
    queue = compose.queue("restarted", slots=2)
    stop = threading.Event()
    accepted: list[int] = []

    def load() -> None:
        with compose.http as http:
            while not stop.is_set():
                with suppress(httpx.HTTPError):
                    body = {"queue": queue, "kind": "tick", "payload": {"seconds": 0.2}}
                    answer = http.post("/tasks", json=body)
                    if answer.status_code == 202:
                        accepted.append(answer.json()["id"])
                time.sleep(0.05)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        until(lambda: len(compose.leases(queue)) > 2, "some to execute")
        compose("restart", "db")
        before = len(accepted)
        until(lambda: len(accepted) > before + 5, "the service to take tasks again")
    finally:
        stop.set()
        thread.join(30)
    ended = {task["id"]: task["status"] for task in compose.until_ended(queue, 120)}
    assert {number: ended.get(number) for number in accepted} == dict.fromkeys(accepted, "succeeded")
    assert compose.witness.most[queue] <= 2


def test_a_paused_container_executes_nothing_more(compose: Compose) -> None:
    """Not every kernel can kill what is frozen: there the executor dies when it is thawed, before it acts."""
    queue = compose.queue("paused", slots=1, grace=2)
    (task,) = compose.submit(queue, seconds=60)
    (first,) = until(lambda: compose.witness.current(queue), "it to execute")
    marks = compose.scratch / queue
    container = compose.container_of(task)
    # The runtime gives up where a process is at something that cannot be frozen for a moment.
    until(lambda: docker("pause", container, check=False), f"{container} to be frozen", every=1)
    try:
        until(lambda: len(compose.leases(queue)[task]) == 2, "another runner to have it")
        until(lambda: f"{compose.leases(queue)[task][1]} " in marks.read_text(), "the other executor to act")
        frozen = first.end is None
        kept = docker("inspect", "--format", "{{.State.Paused}}", container).strip() == "true"
        assert kept or not frozen
        print(f"the frozen executor {'is not dead until it is thawed' if frozen else 'is dead'}")  # noqa: T201
    finally:
        docker("unpause", container)
    until(lambda: first.end is not None, "the frozen executor to be dead")
    # Its runner is alive again, and has learnt what has happened.
    until(lambda: len(compose.alive()) == 4, "four runners")
    leases = [int(line.split()[0]) for line in marks.read_text().splitlines()]
    assert leases == sorted(leases), "the first executor acted after the second had begun"
    assert compose.witness.most[queue] <= 1 + frozen
    compose.cancel(queue)


def test_stopped_containers_give_back_what_they_cannot_finish_in_time(compose: Compose) -> None:
    queue = compose.queue("stopped", slots=2)
    compose.submit(queue, 3, seconds=60)
    until(lambda: compose.executing(queue) == 2, "two to execute")
    started = time.monotonic()
    compose("stop", "runner", "service")
    print(f"stopped within {time.monotonic() - started:.1f} s")  # noqa: T201
    assert compose.executing(queue) == 0
    # Not killed: 137 would say so.
    codes = {each["Name"]: each["State"]["ExitCode"] for each in compose.containers("runner", stopped=True)}
    assert list(codes.values()) == [0] * 4, codes
    assert [each["State"]["ExitCode"] for each in compose.containers("service", stopped=True)] == [0]
    waiting = "select status, attempt, count(*) from task where queue = 'stopped' group by 1, 2"
    assert compose.psql(waiting) == "queued|0|3"
    compose.scale(4)
    compose.cancel(queue)


def test_every_line_of_the_logs_is_structured(compose: Compose) -> None:
    runners = compose.events("runner")
    assert {"connected", "executor started", "slot taken", "taken"} <= {line["event"] for line in runners}
    for line in [*runners, *compose.events("service")]:
        assert {"time", "level", "event"} <= line.keys()
    assert {line["event"] for line in compose.events("service")} >= {"listening", "ready", "request"}


def test_no_task_that_was_accepted_is_without_an_end(compose: Compose) -> None:
    unfinished = "select count(*) from task where status not in ('succeeded', 'failed', 'cancelled')"
    assert compose.psql(unfinished) == "0"
    assert int(compose.psql("select count(*) from task")) >= len(compose.accepted) > 0
