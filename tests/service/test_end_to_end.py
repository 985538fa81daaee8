"""The whole HTTP contracts of the two programs that this one replaces, with real runner processes."""

import re
from typing import Any

import httpx

from lockgate.witness import Witness
from tests.contract import Contract, until
from tests.service.conftest import RunnerStart

RFC_3339_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def shortened(q: Contract, seconds: int) -> None:
    """Lets what waits sleep so long instead of 0 to 10 seconds."""
    q.db.query(
        "update lockgate.task set payload = jsonb_build_object('min', %s::int, 'max', %s::int)", seconds, seconds
    )


def brief(http: httpx.Client, number: int) -> dict[str, Any]:
    response = http.get(f"/task/{number}")
    assert response.status_code == 200
    task: dict[str, Any] = response.json()
    assert set(task) == {"status", "create_time", "start_time", "time_to_execute"}
    assert RFC_3339_UTC.fullmatch(task["create_time"])
    return task


def test_a_simple_task_is_seen_in_the_queue_then_running_then_completed(
    http: httpx.Client, q: Contract, runners: RunnerStart
) -> None:
    number = http.post("/task").json()
    assert type(number) is int
    assert q.task(number).payload == {"min": 0, "max": 10}
    shortened(q, 5)
    waiting = brief(http, number)
    runners()
    running = until(lambda: (task := brief(http, number))["status"] != "In Queue" and task, "it to start")
    ended = until(lambda: (task := brief(http, number))["status"] != "Run" and task, "it to end")

    assert waiting == waiting | {"status": "In Queue", "start_time": None, "time_to_execute": None}
    assert (running["status"], running["time_to_execute"]) == ("Run", None)
    assert RFC_3339_UTC.fullmatch(running["start_time"])
    assert running["create_time"] == waiting["create_time"] <= running["start_time"]
    assert ended == running | {"status": "Completed", "time_to_execute": ended["time_to_execute"]}
    assert 5 <= ended["time_to_execute"] < 60


def test_a_task_for_later_is_in_the_queue(http: httpx.Client) -> None:
    number = http.post("/tasks", json={"kind": "sleep", "delay": 3600}).json()["id"]

    task = brief(http, number)

    assert (task["status"], task["start_time"], task["time_to_execute"]) == ("In Queue", None, None)


def test_of_ten_tasks_two_execute_at_once_and_the_number_is_a_setting(
    http: httpx.Client, q: Contract, runners: RunnerStart, witness: Witness
) -> None:
    numbers = [http.post("/task").json() for _ in range(7)]
    shortened(q, 2)
    for _ in range(4):
        runners()
    until(lambda: witness.most and witness.most != {"default": 1}, "two at once")
    until(lambda: len(witness.executions) >= 5, "some to have executed")
    assert witness.most == {"default": 2}

    assert http.patch("/queues/default", json={"slots": 3}).json()["slots"] == 3
    until(lambda: http.get("/stats").json()["all"]["held"] == 3, "the third slot to be taken")
    numbers += [work(http, failure_rate=0, seconds=10) for _ in range(3)]
    assert len(set(numbers)) == 10
    until(lambda: witness.most == {"default": 3}, "three to execute at once")
    until(lambda: all(brief(http, number)["status"] == "Completed" for number in numbers), "all to end")

    assert witness.most == {"default": 3}
    assert sorted(execution.task for execution in witness.executions) == numbers


def test_the_table_has_the_columns_that_were_asked_for(http: httpx.Client, q: Contract, runners: RunnerStart) -> None:
    number = http.post("/task").json()
    shortened(q, 0)
    runners()
    until(lambda: brief(http, number)["status"] == "Completed", "it to end")

    ((found, create_time, start_time, exec_time),) = q.db.query(
        "select id, create_time, start_time, exec_time from lockgate.task"
    )

    assert found == number
    assert create_time <= start_time
    assert brief(http, number)["time_to_execute"] == exec_time


def work(http: httpx.Client, failure_rate: float, seconds: int = 0) -> int:
    payload = {"min": seconds, "max": seconds, "failure_rate": failure_rate}
    response = http.post("/tasks", json={"kind": "sleep", "payload": payload, "max_attempts": 1})
    assert response.status_code == 202
    task = response.json()
    assert task == task | {"status": "queued", "kind": "sleep", "payload": payload, "max_attempts": 1}
    return int(task["id"])


def status(http: httpx.Client, number: int) -> str:
    return str(http.get(f"/tasks/{number}").json()["status"])


def listed(http: httpx.Client, wanted: str) -> list[int]:
    return [task["id"] for task in http.get("/tasks", params={"status": wanted}).json()["items"]]


def test_emulated_work_is_new_then_in_progress_then_successful_or_an_error_and_can_be_listed(
    http: httpx.Client, runners: RunnerStart
) -> None:
    good, bad = work(http, failure_rate=0, seconds=5), work(http, failure_rate=1)
    assert [status(http, number) for number in (good, bad)] == ["queued", "queued"]
    assert listed(http, "queued") == [bad, good]
    runner = runners()
    until(lambda: status(http, good) == "running", "the first to be in progress")
    assert listed(http, "running") == [good]
    until(lambda: status(http, bad) == "failed", "the second to fail")
    until(lambda: status(http, good) == "succeeded", "the first to succeed")

    assert listed(http, "succeeded") == [good]
    assert listed(http, "failed") == [bad]
    assert listed(http, "queued") == listed(http, "running") == []
    failed = http.get(f"/tasks/{bad}").json()
    assert failed["error"]["type"] == "RuntimeError"
    assert (failed["attempt"], failed["attempts"]) == (1, [])
    for number in (good, bad):
        assert runner.says("taken", task=number)
    assert runner.says("finished", task=good)
    assert runner.says("failed", task=bad)


def test_the_contract_is_documented(http: httpx.Client) -> None:
    paths = http.get("/docs/openapi.json").json()["paths"]

    assert {"get", "post"} <= set(paths["/tasks"])
    assert "get" in paths["/tasks/{task_id}"]
    assert "status" in [parameter["name"] for parameter in paths["/tasks"]["get"]["parameters"]]
    assert {"post"} == set(paths["/task"])
    assert {"get"} == set(paths["/task/{task_id}"])
