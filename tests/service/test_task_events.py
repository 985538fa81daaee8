"""GET /tasks/{id}/events."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import httpx
import pytest
from lockgate_service.tasks import waiting
from lockgate_service.tasks.messages import TaskDetail, TaskSummary

from tests.contract import Contract, until
from tests.database import Database
from tests.service.conftest import ProcessStart, opened, serving, stops


class Event(NamedTuple):
    name: str
    id: str
    data: Any


@contextmanager
def events(client: httpx.Client, task: int, **headers: str) -> Iterator[Iterator[Event]]:
    with client.stream("GET", f"/tasks/{task}/events", headers=headers) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield parsed(response.iter_lines())


def parsed(lines: Iterator[str]) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "data" in fields:
            yield Event(fields["event"], fields["id"], json.loads(fields["data"]))
            fields = {}


def test_a_stream_shows_every_status_and_closes_with_the_end(http: httpx.Client, q: Contract) -> None:
    number = q.submit()
    runner = q.runner()
    with events(http, number) as stream:
        seen = [next(stream)]
        claimed = runner.work()
        seen.append(next(stream))
        runner.value(
            "select lockgate.report_progress(%s, %s, %s, '{\"percent\": 50}')", number, claimed.lease, runner.name
        )
        seen.append(next(stream))
        runner.finish(claimed, {"n": 1})
        seen += list(stream)

    assert [(one.name, one.data["status"]) for one in seen] == [
        ("task", "queued"), ("task", "running"), ("task", "running"), ("end", "succeeded"),
    ]  # fmt: skip
    assert [one.data["progress"] for one in seen[:3]] == [None, None, {"percent": 50}]
    assert seen[-1].data == http.get(f"/tasks/{number}").json()
    assert set(seen[0].data) == set(TaskSummary.__struct_fields__)
    assert set(seen[-1].data) == set(TaskDetail.__struct_fields__)
    assert len({one.id for one in seen}) == 4


def test_a_stream_of_an_ended_task_is_its_end(http: httpx.Client, q: Contract) -> None:
    with events(http, q.row("failed")) as stream:
        (end,) = stream

    assert (end.name, end.id, end.data["status"]) == ("end", "end", "failed")


def test_an_event_source_that_has_seen_the_end_is_told_not_to_come_again(http: httpx.Client, q: Contract) -> None:
    number = q.row("failed")

    assert http.get(f"/tasks/{number}/events", headers={"Last-Event-ID": "end"}).status_code == 204
    http.post(f"/tasks/{number}/retry")
    with events(http, number, **{"Last-Event-ID": "end"}) as stream:
        assert next(stream).data["status"] == "queued"


def test_a_stream_says_that_its_task_was_deleted(http: httpx.Client, q: Contract) -> None:
    number = q.submit()
    with events(http, number) as stream:
        next(stream)
        http.delete(f"/tasks/{number}")
        (last,) = stream

    assert (last.name, last.data) == ("deleted", {"id": number})


def test_there_is_no_stream_of_a_task_that_is_not_there(refusing: httpx.Client) -> None:
    response = refusing.get("/tasks/4711/events")

    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")


def test_a_quiet_stream_shows_that_it_lives(http: httpx.Client, q: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "HEARTBEAT_SECONDS", 0.2)
    with http.stream("GET", f"/tasks/{q.submit()}/events") as response:
        comments = (line for line in response.iter_lines() if line.startswith(":"))
        assert [next(comments) for _ in range(2)] == [": still here"] * 2


def test_streams_end_in_order_when_the_service_stops(process: ProcessStart, db: Database, q: Contract) -> None:
    one = serving(process, db.service, patient=True)
    number = q.submit()
    request = f"GET /tasks/{number}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with ExitStack() as stack:
        streams = [stack.enter_context(opened(one.url, request)) for _ in range(50)]
        for stream in streams:
            until(lambda stream=stream: b"event: task" in stream.recv(65536), "the first event")  # type: ignore[misc]
        stops(one)
        for stream in streams:
            said = b""
            while more := stream.recv(65536):
                said += more
            assert said.endswith(b"0\r\n\r\n")  # whole, not cut off


def test_a_stream_outlives_an_interruption_of_the_database(http: httpx.Client, q: Contract, db: Database) -> None:
    number = q.submit()
    with events(http, number) as stream:
        next(stream)
        db.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'lockgate-service'")
        time.sleep(0.1)  # a look or two
        q.cancel(number)
        assert [one.name for one in stream] == ["end"]
