"""GET /events: a snapshot, then what changes."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any

import httpx
import pytest
from lockgate_service.page import broadcast
from lockgate_service.page.snapshot import TaskRow, merge_patch, read_slots
from lockgate_service.pool import Pool
from lockgate_service.stats.routes import StatsCache

from tests.contract import Contract, until
from tests.database import Database
from tests.proxy import Proxy
from tests.service.api_keys import bearer, make_key
from tests.service.conftest import ProcessStart, ServiceStart, opened, serving, stops

LIMIT = 60.0


class Viewer:
    """What a page makes of a stream: the scene as it is now, and the tasks it was told of."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.iter_lines()
        self.scene: dict[str, Any] = {}
        self.tasks: dict[int, dict[str, Any]] = {}
        self.events: list[str] = []
        self.comments = 0

    def read(self) -> bool:
        """The next event or comment; false at the end of the stream."""
        name = ""
        for line in self._lines:
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                self._take(name, json.loads(value))
            elif line.startswith(":"):
                self.comments += 1
            elif not line:
                return True
        return False

    def until(self, condition: Any, what: str) -> Any:
        end = time.monotonic() + LIMIT
        while not (found := condition()):
            assert time.monotonic() < end, f"{what}: {self.events[-5:]} {self.scene}"
            assert self.read(), f"{what}: the stream has ended"
        return found

    def _take(self, name: str, data: Any) -> None:
        self.events.append(name)
        match name:
            case "snapshot":
                self.scene = data
            case "change":
                apply(self.scene, data)
            case "tasks":
                self.tasks |= {task["id"]: task for task in data["items"]}
                for number in data["gone"]:
                    del self.tasks[number]


def apply(target: dict[str, Any], patch: dict[str, Any]) -> None:
    """A JSON Merge Patch, by the letter of RFC 7396."""
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, dict):
            if not isinstance(target.get(name), dict):
                target[name] = {}
            apply(target[name], value)
        else:
            target[name] = value


@contextmanager
def watching(client: httpx.Client, query: str = "", **headers: str) -> Iterator[Viewer]:
    with client.stream("GET", f"/events{query}", headers=headers, timeout=LIMIT) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        viewer = Viewer(response)
        viewer.until(lambda: viewer.scene, "a snapshot")
        yield viewer


def test_a_viewer_sees_everything_and_then_a_task_go_its_way(http: httpx.Client, q: Contract) -> None:
    q.queue("gpu", slots=1)
    runner = q.runner("web-1")
    runner.take(1)
    with watching(http) as viewer:
        scene = viewer.scene
        assert scene.keys() == {"time", "all", "queues", "slots", "runners", "series"}
        assert scene["slots"]["default/1"] == {
            "queue": "default", "slot": 1, "status": "held", "runner": "web-1", "backend_pid": runner.pid,
        }  # fmt: skip
        assert scene["slots"]["gpu/1"] == {"queue": "gpu", "slot": 1, "status": "free"}
        assert scene["runners"][str(runner.number)]["runner"] == "web-1"
        assert len(scene["series"]) == 60
        assert (scene["all"]["slots"], scene["queues"]["gpu"]["slots"]) == (3, 1)

        number = q.submit("mail", tags=["a"])
        task = viewer.until(lambda: viewer.tasks.get(number), "the new task")
        assert task.keys() == set(TaskRow.__struct_fields__)
        assert (task["kind"], task["status"], task["tags"]) == ("mail", "queued", ["a"])
        viewer.until(lambda: scene["queues"]["default"]["queued"] == 1, "the count")
        claimed = runner.claim()
        assert claimed
        viewer.until(lambda: viewer.tasks[number]["status"] == "running", "it to run")
        viewer.until(lambda: scene["slots"]["default/1"]["status"] == "running", "its slot")
        assert scene["slots"]["default/1"]["task"] == number
        runner.value("select lockgate.report_progress(%s, %s, 'web-1', '{\"done\": 1}')", number, claimed.lease)
        viewer.until(lambda: viewer.tasks[number]["progress"] == {"done": 1}, "its progress")
        runner.finish(claimed)
        viewer.until(lambda: viewer.tasks[number]["status"] == "succeeded", "its end")
        viewer.until(lambda: scene["all"]["hour"]["ended"]["succeeded"] == 1, "the count of ends")
        viewer.until(lambda: "task" not in scene["slots"]["default/1"], "its slot to be free")
        q.set_slots(1)
        viewer.until(lambda: "default/2" not in scene["slots"], "the slot to go")
        runner.die()
        viewer.until(lambda: not scene["runners"], "the runner to go")
        assert "snapshot" not in viewer.events[1:]


def test_a_deleted_task_is_gone_and_a_followed_one_is_seen_however_old(http: httpx.Client, q: Contract) -> None:
    old = q.row("failed")
    q.db.query(
        "insert into lockgate.task (queue, kind, status, max_attempts, payload, finish_time)"
        " select 'default', 'sleep', 'cancelled', 1, '{}', now() - interval '1 day' from generate_series(1, 60)"
    )
    newest = q.row("failed")
    with watching(http) as stranger, watching(http, f"?tasks={old},{old + 1}") as viewer:
        viewer.until(lambda: {old, old + 1, newest} <= viewer.tasks.keys(), "all of them")
        q.service.execute("select lockgate.retry(%s)", (old,))
        viewer.until(lambda: viewer.tasks[old]["status"] == "queued", "it to be queued again")
        for number in (old + 1, newest):
            q.service.execute("select lockgate.delete_task(%s)", (number,))
        viewer.until(lambda: viewer.tasks.keys().isdisjoint({old + 1, newest}), "both to be gone")
        assert stranger.until(lambda: newest in stranger.tasks, "it")
        stranger.until(lambda: newest not in stranger.tasks, "it to be gone")


def test_the_database_is_asked_once_for_all_who_watch_and_not_at_all_when_nobody_does(
    http: httpx.Client, q: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    look = read_slots

    async def counted(pool: Pool) -> Any:
        looks.append(time.monotonic())
        return await look(pool)

    monkeypatch.setattr(broadcast, "read_slots", counted)
    with ExitStack() as stack:
        viewers = [stack.enter_context(watching(http)) for _ in range(20)]
        looks.clear()  # those who came may have had some of their own
        for _ in range(5):
            number = q.submit()
            for viewer in viewers:
                viewer.until(lambda viewer=viewer, number=number: number in viewer.tasks, "the task")
    # Nothing is between two looks but the pause.
    apart = [later - earlier for earlier, later in pairwise(looks)]
    assert sum(seconds < broadcast.PAUSE_SECONDS / 2 for seconds in apart) <= 1, apart
    until(lambda: time.monotonic() - looks[-1] > 5 * broadcast.PAUSE_SECONDS, "the last look")


def test_a_viewer_of_one_queue_is_told_of_nothing_else(start: ServiceStart, q: Contract) -> None:
    q.queue("gpu", slots=1)
    client = start(q.db.service, published="0.0.0.0:8000")
    header = bearer(make_key(q.db, "gpu", "read", "gpu"))
    q.runner(queues=["default"])
    mine = q.runner(queues=["gpu"])
    theirs = q.submit()
    assert client.get("/events?queue=default", headers=header).status_code == 403
    with watching(client, f"?tasks={theirs}", **header) as viewer:
        number = q.submit(queue="gpu")
        viewer.until(lambda: number in viewer.tasks, "its task")
        scene = viewer.scene
        assert (list(scene["queues"]), list(scene["slots"])) == (["gpu"], ["gpu/1"])
        assert list(scene["runners"]) == [str(mine.number)]
        assert scene["all"]["slots"] == 1
        assert theirs not in viewer.tasks


def test_a_stream_ends_soon_after_its_key_is_revoked(
    start: ServiceStart, q: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "HEARTBEAT_SECONDS", 0.1)
    client = start(q.db.service, published="0.0.0.0:8000")
    with watching(client, **bearer(make_key(q.db, "web", "read"))) as viewer:
        q.db.query("select lockgate.revoke_key('web')")
        while viewer.read():
            pass
    assert viewer.comments


def test_a_viewer_that_fell_behind_begins_anew(q: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast, "KEPT_MAX", 2)
    monkeypatch.setattr(broadcast, "PAUSE_SECONDS", 0.01)

    async def watch() -> tuple[bytes, bytes]:
        pool = Pool(q.db.service, 2)
        await pool.open()
        one = broadcast.Broadcast(pool, StatsCache(pool), asyncio.Event())
        run = asyncio.create_task(one.run())
        try:
            slow, quick = one.stream(None, []), one.stream(None, [])
            assert b"event: snapshot" in await anext(slow)
            for slots in (3, 4, 5, 6):
                await asyncio.to_thread(q.set_slots, slots)
                while b'"default/%d":{' % slots not in await anext(quick):
                    pass
            return await anext(slow), await anext(slow)
        finally:
            run.cancel()
            await pool.close()

    snapshot, after = asyncio.run(asyncio.wait_for(watch(), LIMIT))
    assert snapshot.startswith(b"event: snapshot")
    assert b'"default/6"' in snapshot
    assert b"snapshot" not in after


def test_while_the_database_is_away_viewers_are_told_and_go_on_when_it_is_back(
    start: ServiceStart, proxy: Proxy, q: Contract
) -> None:
    client = start(proxy.dsn)
    with watching(client) as viewer:
        proxy.cut()
        viewer.until(lambda: "unavailable" in viewer.events, "to be told")
        assert client.get("/events").status_code == 503
        proxy.connect()
        number = q.submit()
        viewer.until(lambda: number in viewer.tasks, "the task")


def test_open_streams_do_not_hold_up_the_end(process: ProcessStart, db: Database) -> None:
    """Of those that read, those that do not, and those that have just come."""
    one = serving(process, db.service, patient=True)
    request = b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n"
    with ExitStack() as stack:
        connections = [stack.enter_context(opened(one.url, request)) for _ in range(50)]
        for connection in connections[:25]:
            assert b"event: snapshot" in _received(connection, b"event: snapshot")
        stops(one)
        for connection in connections[:25]:
            assert _received(connection, b"0\r\n\r\n").endswith(b"0\r\n\r\n")  # ended in order


def _received(connection: socket.socket, what: bytes) -> bytes:
    data = b""
    while what not in data and (more := connection.recv(65536)):
        data += more
    return data


@pytest.mark.parametrize("query", ["tasks=", "tasks=a", "tasks=1,,2", "tasks=-1", "tasks=" + "1," * 100 + "1", "x=1"])
def test_a_query_that_is_none_is_refused(refusing: httpx.Client, query: str) -> None:
    response = refusing.get(f"/events?{query}")

    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == [query.partition("=")[0]]


def test_whatever_a_handler_reports_as_its_progress_disturbs_no_viewer(http: httpx.Client, q: Contract) -> None:
    q.queue(slots=4)
    odd = ['{"eta": null, "done": 1}', "null", f"[{'9' * 900}]", '{"n": 1e300, "deep": ' + "[" * 300 + "]" * 300 + "}"]
    runner = q.runner(concurrency=4)
    for slot, progress in enumerate(odd, 1):
        number = q.submit()
        claimed = runner.work(slot)
        text = "select lockgate.report_progress(%s, %s, %s, %s::text::jsonb)"
        assert runner.value(text, number, claimed.lease, runner.name, progress)
    with watching(http) as viewer:
        last = q.submit()
        viewer.until(lambda: last in viewer.tasks, "a task")
        slots = viewer.scene["slots"]
        assert slots["default/1"]["progress"] == {"done": 1}
        assert "progress" not in slots["default/2"]
        assert all(slots[f"default/{n}"]["status"] == "running" for n in range(1, 5))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {"a": 1}),
        ({"a": 1}, {}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 2}}),
        ({"a": {"b": {}}}, {"a": {"b": {"c": [1]}}}),
        ({"a": [1]}, {"a": [1, 2]}),
        ({"a": {"b": 1}}, {"a": 1}),
        ({"a": 1}, {"a": {"b": 1}}),
        ({"a": {"b": 1}}, {"a": {}}),
    ],
)
def test_a_patch_makes_the_new_of_the_old(old: dict[str, Any], new: dict[str, Any]) -> None:
    patch = merge_patch(old, new)
    apply(old, patch)
    assert old == new
    assert merge_patch(new, new) == {}
