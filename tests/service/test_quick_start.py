"""POST /task and GET /task/{id}: a task without settings, and its status in plain words."""

import re

import httpx
import pytest

from tests.contract import Contract

pytestmark = pytest.mark.every_python

RFC_3339_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.mark.parametrize("body", [b"", b"{}", b" \n", b"null"])
def test_post_task_answers_with_the_number_of_a_task_that_sleeps_0_to_10_seconds(
    http: httpx.Client, q: Contract, body: bytes
) -> None:
    response = http.post("/task", content=body)

    assert response.status_code == 202
    number = response.json()
    assert type(number) is int
    assert response.headers["location"] == f"/task/{number}"
    task = q.task(number)
    assert (task.kind, task.payload, task.queue, task.status) == ("sleep", {"min": 0, "max": 10}, "default", "queued")


def test_post_task_refuses_a_description_of_a_task_and_stores_nothing(refusing: httpx.Client) -> None:
    response = refusing.post("/task", json={"kind": "sleep"})

    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "body"


def test_a_new_task_is_in_the_queue_and_has_nothing_but_a_create_time(http: httpx.Client) -> None:
    number = http.post("/task").json()

    task = http.get(f"/task/{number}").json()

    assert set(task) == {"status", "create_time", "start_time", "time_to_execute"}
    assert (task["status"], task["start_time"], task["time_to_execute"]) == ("In Queue", None, None)
    assert RFC_3339_UTC.fullmatch(task["create_time"])


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("scheduled", "In Queue"),
        ("queued", "In Queue"),
        ("running", "Run"),
        ("succeeded", "Completed"),
        ("failed", "Error"),
        ("cancelled", "Cancelled"),
    ],
)
def test_every_status_has_its_words(http: httpx.Client, q: Contract, status: str, words: str) -> None:
    assert http.get(f"/task/{q.row(status)}").json()["status"] == words


def test_a_running_task_has_a_start_time_and_an_ended_one_its_seconds_besides(http: httpx.Client, q: Contract) -> None:
    number = http.post("/task").json()
    runner = q.runner()
    claimed = runner.work()
    running = http.get(f"/task/{number}").json()
    runner.finish(claimed, exec_time=2.5)
    ended = http.get(f"/task/{number}").json()

    assert RFC_3339_UTC.fullmatch(running["start_time"])
    assert running["time_to_execute"] is None
    assert ended == running | {"status": "Completed", "time_to_execute": 2.5}


def test_a_task_that_waits_for_another_attempt_has_no_seconds_yet(http: httpx.Client, q: Contract) -> None:
    number = http.post("/task").json()
    runner = q.runner()
    assert runner.fail(runner.work(), exec_time=1.5) == "scheduled"

    task = http.get(f"/task/{number}").json()

    assert (task["status"], task["time_to_execute"]) == ("In Queue", None)
    assert task["start_time"] is not None


@pytest.mark.parametrize("number", ["1", "0", "-1", "9223372036854775807", "9223372036854775808", "9" * 100, "one"])
@pytest.mark.parametrize("path", ["/task/{}", "/tasks/{}"])
def test_a_number_that_no_task_has_is_not_found(refusing: httpx.Client, path: str, number: str) -> None:
    response = refusing.get(path.format(number))

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["title"] == "There is nothing here"
