"""GET /metrics, read as Prometheus reads it."""

import re

import httpx
import pytest
from lockgate_service.stats.metrics import BOUNDS
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.contract import Contract, until
from tests.docs.markdown import table
from tests.service.api_keys import bearer, make_key
from tests.service.conftest import ServiceStart
from tests.service.test_events import watching
from tests.service.test_stats import end, scene


def families(http: httpx.Client) -> dict[str, Metric]:
    response = http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = list(text_string_to_metric_families(response.text))
    assert len({family.name for family in found}) == len(found)
    return {family.name: family for family in found}


def value(found: dict[str, Metric], name: str, **labels: str) -> float:
    family = found[re.sub("_(total|bucket|sum|count)$", "", name) if name not in found else name]
    (sample,) = [each for each in family.samples if each.name == name and labels.items() <= each.labels.items()]
    return sample.value


def test_queues_are_measured(http: httpx.Client, q: Contract) -> None:
    scene(q)
    q.queue("gpu", grace=3600)
    q.submit(queue="gpu", priority=100)
    gone = q.runner("gone", queues=["gpu"])
    gone.work(queue="gpu")
    gone.die()
    q.queue("gpu", paused=True)

    found = families(http)

    assert value(found, "lockgate_tasks", queue="default", status="queued") == 2
    assert value(found, "lockgate_tasks", queue="gpu", status="scheduled") == 1
    assert value(found, "lockgate_tasks", queue="gpu", status="running") == 1
    assert 100 <= value(found, "lockgate_oldest_wait_seconds", queue="gpu") < 160
    assert (value(found, "lockgate_slots", queue="default"), value(found, "lockgate_slots", queue="gpu")) == (2, 1)
    assert value(found, "lockgate_slots_in_use", queue="default") == 1
    assert value(found, "lockgate_slots_held", queue="default") == 2
    assert value(found, "lockgate_slots_held", queue="gpu") == 0
    assert value(found, "lockgate_slots_abandoned", queue="gpu") == 1
    assert value(found, "lockgate_slots_abandoned", queue="default") == 0
    assert value(found, "lockgate_slots_silent", queue="default") == 0
    assert value(found, "lockgate_queue_paused", queue="gpu") == 1
    assert value(found, "lockgate_runners", queue="default") == 3
    assert value(found, "lockgate_standbys", queue="default") == 1


def test_ends_are_counted_and_waits_and_runs_are_histograms(http: httpx.Client, q: Contract) -> None:
    found = families(http)
    assert value(found, "lockgate_task_wait_seconds_count", queue="default") == 0
    for _ in range(3):
        end(q, "succeeded", 60)
    end(q, "failed", 60)
    runner = q.runner()
    until(lambda: runner.value("select lockgate.roll_up()") == 0, "all to be counted")

    until(lambda: value(families(http), "lockgate_tasks_ended_total", queue="default", outcome="failed") == 1, "it")
    found = families(http)

    assert value(found, "lockgate_tasks_ended_total", queue="default", outcome="succeeded") == 3
    for name, below, least in (("wait", "0.5", "2"), ("run", "1", "5")):
        assert found[f"lockgate_task_{name}_seconds"].type == "histogram"
        assert value(found, f"lockgate_task_{name}_seconds_bucket", queue="default", le=below) == 0
        assert value(found, f"lockgate_task_{name}_seconds_bucket", queue="default", le=least) == 4
        assert value(found, f"lockgate_task_{name}_seconds_bucket", queue="default", le="+Inf") == 4
        assert value(found, f"lockgate_task_{name}_seconds_count", queue="default") == 4
    assert value(found, "lockgate_task_run_seconds_sum", queue="default") == 8


def test_the_bounds_are_a_few_of_those_of_the_schema() -> None:
    assert list(BOUNDS.values())[:5] == ["0.001", "0.002", "0.005", "0.01", "0.02"]
    assert list(BOUNDS.values())[-1] == "1e+05"
    for place, bound in BOUNDS.items():
        assert float(bound) == pytest.approx(10 ** (place / 10 - 3), rel=0.0026)


def test_requests_are_counted_by_the_path_of_the_documentation(http: httpx.Client, q: Contract) -> None:
    def count(path: str, status: int) -> float:
        family = families(http).get("lockgate_http_requests")
        return sum(
            sample.value
            for sample in (family.samples if family else ())
            if sample.name.endswith("_total")
            and (sample.labels["path"], sample.labels["status_code"]) == (path, str(status))
        )

    before = count("/tasks/{task_id}", 200), count("/tasks/{task_id}", 404)
    for number in (q.submit(), 4711, 4712):
        http.get(f"/tasks/{number}")
    http.get("/no/such/path")
    http.get("/health/live")
    assert (count("/tasks/{task_id}", 200), count("/tasks/{task_id}", 404)) == (before[0] + 1, before[1] + 2)
    text = http.get("/metrics").text
    assert "/4711" not in text
    assert "/no/such" not in text
    assert 'path="/health' not in text


def test_open_streams_and_the_process_are_measured(http: httpx.Client) -> None:
    with watching(http), watching(http):
        found = families(http)
        assert value(found, "lockgate_event_streams") == 2
        assert value(found, "process_open_fds") > 0
    until(lambda: value(families(http), "lockgate_event_streams") == 0, "both to be gone")


def test_a_key_of_one_queue_is_not_told(start: ServiceStart, q: Contract) -> None:
    client = start(q.db.service, published="0.0.0.0:8000")
    assert client.get("/metrics", headers=bearer(make_key(q.db, "gpu", "read", "default"))).status_code == 403
    assert client.get("/metrics", headers=bearer(make_key(q.db, "all", "read"))).status_code == 200


def test_the_table_of_metrics_has_them_all(http: httpx.Client, q: Contract) -> None:
    ours = {name for name in families(http) if name.startswith("lockgate_") and not name.startswith("lockgate_http")}
    written = {row[0].removesuffix("_total") for row in table("docs/metrics-and-logs.md", "## Metrics of the service")}
    assert written == ours
