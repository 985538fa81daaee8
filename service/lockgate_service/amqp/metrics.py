"""The counters of the intake, and its metrics for Prometheus."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


@dataclass
class Counters:
    """Since the start of the process; `waiting` is of the moment."""

    received: int = 0  # deliveries, again those that came again
    created: int = 0
    duplicate: int = 0  # found by message_id or dedupe_key
    invalid: int = 0  # in the invalid queue
    waiting: int = 0  # ready in the queue, as the broker said last


class Families(Collector):
    """The metrics of an intake."""

    def __init__(self, counters: Counters, is_consuming: Callable[[], bool]) -> None:
        self._counters = counters
        self._is_consuming = is_consuming

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        counters = self._counters
        yield CounterMetricFamily(
            "lockgate_intake_received", "Deliveries, again those that came again.", counters.received
        )
        messages = CounterMetricFamily("lockgate_intake_messages", "Messages by their outcome.", labels=["outcome"])
        for outcome in ("created", "duplicate", "invalid"):
            messages.add_metric([outcome], getattr(counters, outcome))
        yield messages
        yield GaugeMetricFamily(
            "lockgate_intake_waiting", "Messages ready in the queue, as the broker said last.", counters.waiting
        )
        yield GaugeMetricFamily(
            "lockgate_intake_consuming", "1 while it consumes and can store.", int(self._is_consuming())
        )
