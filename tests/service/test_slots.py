"""GET /slots and GET /runners."""

import httpx
from lockgate_service.queues.messages import Runner, Slot
from psycopg.types.json import Jsonb

from tests.contract import Contract


def test_every_slot_is_listed_with_its_holder_and_its_task(http: httpx.Client, q: Contract) -> None:
    q.queue(slots=3)
    q.queue("a", slots=1)
    number = q.submit("mail")
    busy, idle = q.runner("busy"), q.runner("idle")
    busy.work(slot=1)
    idle.take(2)

    response = http.get("/slots")

    assert response.status_code == 200
    items = response.json()["items"]
    assert all(set(item) == set(Slot.__struct_fields__) for item in items)
    assert [
        tuple(item[name] for name in ("queue", "slot", "runner", "backend_pid", "task", "kind")) for item in items
    ] == [
        ("a", 1, None, None, None, None),
        ("default", 1, "busy", busy.pid, number, "mail"),
        ("default", 2, "idle", idle.pid, None, None),
        ("default", 3, None, None, None, None),
    ]
    assert items[1]["seconds"] >= 0
    assert (items[0]["seconds"], items[0]["seconds_silent"]) == (None, None)


def test_runners_are_listed_newest_first_whether_they_live_or_not(http: httpx.Client, q: Contract) -> None:
    q.submit()
    gone = q.runner("gone", queues=["default"])
    gone.die()
    busy = q.runner("busy", host="there", pid=7, version="1.2", concurrency=3, kinds=["a", "b"])
    busy.work()

    response = http.get("/runners")

    assert response.status_code == 200
    first, second = response.json()["items"]
    assert set(first) == set(Runner.__struct_fields__)
    assert first.pop("since").endswith("Z")
    assert first == {
        "session": busy.number,
        "runner": "busy",
        "host": "there",
        "pid": 7,
        "backend_pid": busy.pid,
        "version": "1.2",
        "concurrency": 3,
        "queues": None,
        "kinds": ["a", "b"],
        "alive": True,
        "running": 1,
        "draining": False,
    }
    assert (second["runner"], second["alive"], second["queues"], second["running"]) == ("gone", False, ["default"], 0)


def test_a_runner_is_drained_and_resumed_and_both_may_be_said_twice(http: httpx.Client, q: Contract) -> None:
    runner = q.runner("web 1 ä")
    path = "/runners/web%201%20%C3%A4"

    with q.heard() as said:
        answers = [http.post(f"{path}/{verb}") for verb in ("drain", "drain", "resume", "resume")]

    assert [answer.status_code for answer in answers] == [202, 202, 200, 200], answers[0].text
    assert [answer.json()["draining"] for answer in answers] == [True, True, False, False]
    assert answers[3].json() == http.get("/runners").json()["items"][0]
    assert said == ["drain web 1 ä"] * 4
    assert runner.value("select lockgate.is_draining(%s)", runner.number) is False


def test_a_runner_that_is_not_there_is_not_found(http: httpx.Client) -> None:
    for verb in ("drain", "resume"):
        response = http.post(f"/runners/nosuch/{verb}")
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["detail"] == 'there is no runner "nosuch"'


def test_kinds_are_listed_with_the_schemas_of_their_payloads(http: httpx.Client, q: Contract) -> None:
    assert http.get("/kinds").json() == {"items": []}
    runner = q.runner(kinds=["mail", "plain"], queues=["default"])
    schema = {"type": "object", "properties": {"to": {"type": "string"}}}
    runner.value("select lockgate.announce_schemas(%s, %s)", runner.number, Jsonb({"mail": schema}))

    response = http.get("/kinds")

    assert response.status_code == 200
    assert response.json()["items"] == [
        {"kind": "mail", "runners": 1, "queues": ["default"], "payload_schema": schema},
        {"kind": "plain", "runners": 1, "queues": ["default"], "payload_schema": None},
    ]
