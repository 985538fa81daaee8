"""GET /stats and GET /stats/series."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from lockgate_service.stats.messages import AllStats, Point, QueueStats

from tests.contract import Contract, until
from tests.database import Database
from tests.service.api_keys import bearer, make_key
from tests.service.conftest import ServiceStart

NO_HOUR = {
    "ended": {"succeeded": 0, "failed": 0, "cancelled": 0},
    "wait": {"median": None, "p95": None},
    "run": {"median": None, "p95": None},
}


def end(q: Contract, status: str, seconds: float, queue: str = "default") -> int:
    """A task that ended so many seconds ago, having waited one second and executed two."""
    finish = q.now() - timedelta(seconds=seconds)
    due, start = finish - timedelta(seconds=3), finish - timedelta(seconds=2)
    return q.row(
        status, queue=queue, create_time=due, run_at=due, start_time=start, finish_time=finish, exec_time=2.0
    )  # fmt: skip


def scene(q: Contract) -> None:
    q.queue("gpu", slots=1)
    for status, queue, times in [("queued", "default", 2), ("scheduled", "gpu", 1)]:
        for _ in range(times):
            q.row(status, queue=queue)
    q.row("queued", queue="gpu", run_at=q.now() - timedelta(seconds=100))
    q.submit(priority=100)
    busy = q.runner("busy")
    busy.work()
    q.runner("standby", concurrency=2, queues=["default"]).take(2)
    q.runner("idle")
    for queue, statuses in {"default": ["succeeded", "succeeded", "failed"], "gpu": ["cancelled"]}.items():
        for status in statuses:
            end(q, status, 600, queue)
    end(q, "succeeded", 2 * 3600)


def test_the_numbers_of_each_queue_and_of_all(http: httpx.Client, q: Contract) -> None:
    scene(q)

    stats = http.get("/stats").json()

    assert set(stats["all"]) == set(AllStats.__struct_fields__)
    default, gpu = stats["queues"]
    assert set(gpu) == set(QueueStats.__struct_fields__)

    def of(one: dict[str, Any], *names: str) -> list[Any]:
        return [one[name] for name in names]

    now = ("slots", "running", "held", "queued", "scheduled")
    assert of(stats["all"], *now) == [3, 1, 2, 3, 1]
    assert of(default, "name", *now, "runners", "standbys") == ["default", 2, 1, 2, 2, 0, 3, 1]
    assert of(gpu, "name", *now, "runners", "standbys") == ["gpu", 1, 0, 0, 1, 1, 2, 1]
    assert 100 <= gpu["oldest_wait"] < 160
    assert of(stats["all"], "oldest_wait", "due_since") == of(gpu, "oldest_wait", "due_since")
    assert default["hour"]["ended"] == {"succeeded": 2, "failed": 1, "cancelled": 0}
    assert stats["all"]["hour"]["ended"] == {"succeeded": 2, "failed": 1, "cancelled": 1}
    assert default["hour"]["wait"]["median"] == pytest.approx(1, rel=0.13)
    assert default["hour"]["run"]["p95"] == pytest.approx(2, rel=0.13)


def test_a_key_of_one_queue_is_told_of_that_one(start: ServiceStart, q: Contract) -> None:
    scene(q)
    end(q, "succeeded", 60, "gpu")
    client = start(q.db.service, published="0.0.0.0:8000")
    header = bearer(make_key(q.db, "gpu", "read", "gpu"))

    stats = client.get("/stats", headers=header).json()
    points = client.get("/stats/series", headers=header).json()["items"]

    assert [queue["name"] for queue in stats["queues"]] == ["gpu"]
    assert {name: stats["queues"][0][name] for name in stats["all"]} == stats["all"]
    assert {point["running"] for point in points} == {0}
    assert client.get("/stats/series?queue=default", headers=header).status_code == 403


def test_an_empty_system_has_numbers_too(http: httpx.Client) -> None:
    stats = http.get("/stats").json()

    assert stats["all"] == {
        "slots": 2, "running": 0, "held": 0, "queued": 0, "scheduled": 0, "due_since": None, "oldest_wait": None,
        "hour": NO_HOUR,
    }  # fmt: skip
    assert len(stats["queues"]) == 1


def test_without_a_queue_there_are_numbers_of_all(http: httpx.Client, db: Database) -> None:
    db.query("delete from lockgate.queue")

    stats = http.get("/stats").json()

    assert (stats["queues"], stats["all"]["slots"], stats["all"]["hour"]) == ([], 0, NO_HOUR)


def test_a_series_has_a_point_for_each_step(http: httpx.Client, q: Contract) -> None:
    q.queue("gpu")
    until(lambda: q.now().second < 40, "both to be of one minute")
    end(q, "failed", 300)
    end(q, "succeeded", 300, "gpu")
    runner = q.runner()
    until(lambda: runner.value("select lockgate.roll_up()") == 0, "both to be counted")

    points = http.get("/stats/series").json()

    assert (points["step"], len(points["items"])) == (60, 60)
    assert set(points["items"][0]) == set(Point.__struct_fields__)
    times = [point["time"] for point in points["items"]]
    assert times == sorted(times)
    (hit,) = [point for point in points["items"] if point["failed"]]
    assert (hit["failed"], hit["succeeded"], hit["wait_mean"], hit["run_mean"]) == (1, 1, 1, 2)
    coarse = http.get("/stats/series?window=2h&step=30m&queue=gpu").json()
    assert (coarse["step"], len(coarse["items"])) == (1800, 4)
    assert sum(point["succeeded"] for point in coarse["items"]) == 1
    assert sum(point["failed"] for point in coarse["items"]) == 0
    assert len(http.get("/stats/series?window=7d&step=15m").json()["items"]) == 672
    assert sum(point["failed"] for point in http.get("/stats/series?queue=none").json()["items"]) == 0


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("window=8d&step=1h", ["window"]),
        ("window=7d&step=1m", ["step", "window"]),
        ("window=1h&step=7m", ["window", "step"]),
        ("step=90s", ["step"]),
        ("step=30s", ["step"]),
        ("step=0m", ["step"]),
        ("step=-1m", ["step"]),
        ("window=1", ["window"]),
        ("window=", ["window"]),
        ("window=99999999999d", ["window"]),
        ("window=%D9%A1h", ["window"]),
    ],
)
def test_a_window_that_is_none_is_refused(refusing: httpx.Client, query: str, fields: list[str]) -> None:
    response = refusing.get(f"/stats/series?{query}")

    assert response.status_code == 400, response.text
    assert [error["field"] for error in response.json()["errors"]] == fields
