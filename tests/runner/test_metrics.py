"""A runner's own metrics, beside its work and never in its way."""

import socket

import httpx
from lockgate_runner.metrics import Counters
from prometheus_client.parser import text_string_to_metric_families

from tests.contract import Contract, until
from tests.docs.markdown import table
from tests.runner.conftest import Start
from tests.runner.process import RunnerProcess
from tests.runner.test_outcomes import ended

Values = dict[tuple[str, str], float]


def address(runner: RunnerProcess, limit: float = 60) -> str:
    return f"http://127.0.0.1:{runner.says('metrics served', limit)['port']}/metrics"


def values(url: str) -> Values:
    """By name and label; by name alone where there is none."""
    response = httpx.get(url, timeout=30)
    assert response.status_code == 200
    families = text_string_to_metric_families(response.text)
    return {(each.name, *each.labels.values(), "")[:2]: each.value for family in families for each in family.samples}  # type: ignore[misc]


def gauges(url: str, *names: str) -> tuple[float, ...]:
    found = values(url)
    return tuple(found[f"lockgate_runner_{name}", ""] for name in names)


def test_a_runner_counts_its_work(q: Contract, start: Start) -> None:
    runner = start(metrics="127.0.0.1:0", kill_after=0)
    url = address(runner)
    runner.says("slot taken")
    for kind, payload, timeout in [
        ("nap", {}, 60), ("never", {"reason": "no"}, 60), ("segfault", {}, 60), ("nap", {"seconds": 60}, 1),
    ]:  # fmt: skip
        ended(q, q.submit(kind=kind, payload=payload, max_attempts=1, timeout=timeout))

    failed = ("lockgate_runner_attempts_total", "failed")
    found = until(lambda: (now := values(url)).get(failed) == 3 and now, "the last end to be counted")

    assert found["lockgate_runner_claims_total", ""] == 4
    assert found["lockgate_runner_attempts_total", "succeeded"] == 1
    assert found["lockgate_runner_attempts_total", "failed"] == 3
    assert found["lockgate_runner_executors_died_total", "crash"] == 1
    assert found["lockgate_runner_executors_died_total", "timeout"] == 1
    assert found["lockgate_runner_sessions_lost_total", ""] == 0
    assert found["lockgate_runner_connected", ""] == 1
    assert found["process_resident_memory_bytes", ""] > 0
    q.db.query("select pg_terminate_backend(backend_pid) from runner_overview where alive")
    runner.says("connected", count=2)
    assert values(url)["lockgate_runner_sessions_lost_total", ""] == 1
    assert httpx.get(url.replace("/metrics", "/"), timeout=30).status_code == 404


def test_it_tells_slots_and_adoptions(q: Contract, start: Start) -> None:
    q.queue(grace=3)
    number = q.submit(kind="nap", payload={"seconds": 8})
    dead = q.runner()
    dead.work(2)
    dead.die()
    runner = start(metrics="127.0.0.1:0")
    runner.says("taken", task=number)
    url = address(runner)
    until(lambda: gauges(url, "slots_held", "slots_busy") == (1, 1), "its slot to be counted")
    assert values(url)["lockgate_runner_adoptions_total", ""] == 1
    q.service.execute("select lockgate.drain_runner(%s)", (runner.name,))
    runner.says("slot released")
    until(lambda: gauges(url, "slots_held", "draining") == (0, 1), "the slot to be counted as let go")


def test_who_asks_and_says_no_more_is_given_up_and_holds_up_nobody(q: Contract, start: Start) -> None:
    runner = start(metrics="127.0.0.1:0")
    url = address(runner)
    silent = [socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)) for _ in range(3)]
    assert ended(q, q.submit(kind="nap")).status == "succeeded"
    assert values(url)["lockgate_runner_claims_total", ""] == 1
    for connection in silent:
        connection.close()
    assert runner.stop() == 0


def test_where_the_port_is_taken_it_works_and_tries_again(q: Contract, start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        runner = start(metrics=f"127.0.0.1:{other.getsockname()[1]}")
        runner.says("metrics not served")
        assert ended(q, q.submit(kind="nap")).status == "succeeded"
    assert values(address(runner, 60))["lockgate_runner_claims_total", ""] == 1


def test_a_supervised_runner_is_told_where(start: Start) -> None:
    runner = start(module="lockgate run --no-spare --metrics [::1]:0")
    port = runner.says("metrics served", 30)["port"]
    assert values(f"http://[::1]:{port}/metrics")["lockgate_runner_claims_total", ""] == 0
    assert runner.stop() == 0


def test_an_address_that_is_none_is_refused(start: Start) -> None:
    runner = start(metrics="here")
    assert runner.process.wait(30) == 2


def test_the_table_of_metrics_has_them_all() -> None:
    written = {row[0].removesuffix("_total") for row in table("docs/metrics-and-logs.md", "## Metrics of a runner")}
    assert written == {family.name for family in Counters().collect()}
