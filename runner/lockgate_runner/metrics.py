"""A runner's metrics for Prometheus."""

from collections.abc import Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from lockgate_runner.counters import Tally


class Families(Collector):
    """The metrics of a runner."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        tally = self._tally
        yield CounterMetricFamily("lockgate_runner_claims", "Tasks given to an executor.", tally.claims)
        attempts = CounterMetricFamily(
            "lockgate_runner_attempts", "Attempts recorded, by what became of the task.", labels=["status"]
        )
        for status, number in tally.attempts.copy().items():
            attempts.add_metric([status], number)
        yield attempts
        yield CounterMetricFamily("lockgate_runner_adoptions", "Tasks of dead runners put back.", tally.adoptions)
        yield CounterMetricFamily("lockgate_runner_sessions_lost", "Lost sessions.", tally.sessions_lost)
        died = CounterMetricFamily("lockgate_runner_executors_died", "Executors that died.", labels=["reason"])
        for reason, number in tally.executors_died.copy().items():
            died.add_metric([reason], number)
        yield died
        yield GaugeMetricFamily("lockgate_runner_slots_held", "Slots it holds.", tally.slots_held)
        yield GaugeMetricFamily("lockgate_runner_slots_busy", "Those in which a handler executes.", tally.slots_busy)
        yield GaugeMetricFamily("lockgate_runner_connected", "1 while it has a session.", tally.connected)
        yield GaugeMetricFamily("lockgate_runner_draining", "1 while it takes no more tasks.", tally.draining)
