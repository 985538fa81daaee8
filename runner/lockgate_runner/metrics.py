"""The metrics of a runner for Prometheus."""

from collections import Counter
from collections.abc import Iterator
from typing import Any


class Counters:
    """What a runner counts of its own work, and a few gauges. Only the runner's one thread writes here."""

    def __init__(self) -> None:
        self.served = False
        """Whether anybody may read the gauges of the slots."""
        self.claims = 0
        self.attempts: Counter[str] = Counter()
        """Recorded ones, by the status of the task afterwards."""
        self.adoptions = 0
        self.sessions_lost = 0
        self.executors_died: Counter[str] = Counter()
        """By reason: deadline, cancel, timeout, memory, stop, crash."""
        self.slots_held = 0
        self.slots_busy = 0
        self.connected = False
        self.draining = False

    def collect(self) -> Iterator[Any]:
        """Yields them as the metrics of a collector of prometheus_client."""
        from prometheus_client.core import CounterMetricFamily as Total  # only runners that serve metrics wait for it
        from prometheus_client.core import GaugeMetricFamily as Gauge

        yield Total("lockgate_runner_claims", "Tasks given to an executor.", self.claims)
        attempts = Total(
            "lockgate_runner_attempts", "Attempts recorded, by what became of the task.", labels=["status"]
        )
        for status, number in self.attempts.copy().items():
            attempts.add_metric([status], number)
        yield attempts
        yield Total("lockgate_runner_adoptions", "Tasks of dead runners put back.", self.adoptions)
        yield Total("lockgate_runner_sessions_lost", "Lost sessions.", self.sessions_lost)
        died = Total("lockgate_runner_executors_died", "Executors that died.", labels=["reason"])
        for reason, number in self.executors_died.copy().items():
            died.add_metric([reason], number)
        yield died
        yield Gauge("lockgate_runner_slots_held", "Slots it holds.", self.slots_held)
        yield Gauge("lockgate_runner_slots_busy", "Those in which a handler executes.", self.slots_busy)
        yield Gauge("lockgate_runner_connected", "1 while it has a session.", self.connected)
        yield Gauge("lockgate_runner_draining", "1 while it takes no more tasks.", self.draining)

    def describe(self) -> tuple[()]:
        return ()
