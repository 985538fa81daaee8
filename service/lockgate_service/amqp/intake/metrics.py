"""The intake's metrics for Prometheus."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from lockgate_service.amqp.intake.counters import Counters


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
        messages = CounterMetricFamily(
            "lockgate_intake_messages", "Messages done with, by what became of them.", labels=["outcome"]
        )
        for outcome in ("created", "duplicate", "invalid"):
            messages.add_metric([outcome], getattr(counters, outcome))
        yield messages
        yield GaugeMetricFamily(
            "lockgate_intake_waiting", "Messages ready in the queue, as the broker said last.", counters.waiting
        )
        yield GaugeMetricFamily(
            "lockgate_intake_consuming", "1 while it consumes and can store.", int(self._is_consuming())
        )
