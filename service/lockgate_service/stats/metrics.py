"""GET /metrics: Prometheus metrics of this process and of the queues."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from prometheus_client import REGISTRY, CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from lockgate_service.pool import Pool
from lockgate_service.single_flight import SingleFlight
from lockgate_service.stats import db
from lockgate_service.stats.db import Histogram, Total
from lockgate_service.stats.messages import QueueStats
from lockgate_service.stats.routes import StatsCache

SECONDS = 1.0  # maximum age
BUCKETS = 82
# Of the ten buckets per power of ten, those whose bound is 1, 2 or 5 (within 0.25%).
BOUNDS = {place: f"{10 ** (place / 10 - 3):.1g}" for place in range(BUCKETS - 1) if place % 10 in (0, 3, 7)}


class Gauges:
    """Reads and caches what only /metrics shows."""

    def __init__(self, pool: Pool, stats_cache: StatsCache, viewers: Callable[[], int]) -> None:
        self._stats_cache = stats_cache
        self._viewers = viewers
        self._totals = SingleFlight(partial(db.totals, pool), SECONDS)
        self._slots = SingleFlight(partial(db.slots, pool), SECONDS)

    async def text(self) -> bytes:
        """Raises: psycopg.Error, Refusal (503)."""
        queues = (await self._stats_cache.stats()).queues
        ours = CollectorRegistry(auto_describe=False)
        ours.register(Families(queues, await self._slots.get(), await self._totals.get(), self._viewers()))
        return generate_latest(REGISTRY) + generate_latest(ours)


@dataclass(eq=False)
class Families(Collector):
    """The metrics of queues at one moment."""

    queues: Sequence[QueueStats]
    slots: Counter[tuple[str, str]]
    totals: Sequence[Total]
    viewers: int

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("lockgate_event_streams", "Streams of /events that are open.", self.viewers)
        tasks = GaugeMetricFamily("lockgate_tasks", "Tasks not ended, counted to 10,001.", labels=["queue", "status"])
        for one in self.queues:
            for status, number in (("queued", one.queued), ("scheduled", one.scheduled), ("running", one.running)):
                tasks.add_metric([one.name, status], number)
        yield tasks
        yield self._gauge("oldest_wait_seconds", "Seconds since the longest waiting task was due.", "oldest_wait")
        yield self._gauge("slots", "How many tasks may execute at once.", "slots")
        yield self._gauge("slots_in_use", "Slots in which a task executes.", "running")
        yield self._gauge("slots_held", "Slots that a runner holds.", "held")
        for status, what in (
            ("abandoned", "Slots whose task has lost its runner, until the grace is over."),
            ("silent", "Slots whose runner has been silent for a grace."),
        ):
            family = GaugeMetricFamily(f"lockgate_slots_{status}", what, labels=["queue"])
            for one in self.queues:
                family.add_metric([one.name], self.slots[one.name, status])
            yield family
        yield self._gauge("queue_paused", "1 while the queue is paused.", "paused")
        yield self._gauge("runners", "Runners that serve the queue.", "runners")
        yield self._gauge("standbys", "Runners with free concurrency that hold none of its slots.", "standbys")
        ended = CounterMetricFamily("lockgate_tasks_ended", "Tasks that have ended.", labels=["queue", "outcome"])
        for total in self.totals:
            for outcome in ("succeeded", "failed", "cancelled"):
                ended.add_metric([total.queue, outcome], getattr(total, outcome))
        yield ended
        waits = HistogramMetricFamily(
            "lockgate_task_wait_seconds", "Seconds from due to the latest start, of ended tasks.", labels=["queue"]
        )
        runs = HistogramMetricFamily(
            "lockgate_task_run_seconds", "Duration of the latest attempt, of ended tasks.", labels=["queue"]
        )
        for total in self.totals:
            waits.add_metric([total.queue], cumulative(total.wait_histogram), total.wait_sum)
            runs.add_metric([total.queue], cumulative(total.run_histogram), total.run_sum)
        yield waits
        yield runs

    def _gauge(self, name: str, what: str, field: str) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"lockgate_{name}", what, labels=["queue"])
        for one in self.queues:
            family.add_metric([one.name], float(getattr(one, field) or 0))
        return family


def cumulative(histogram: Histogram | None) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound."""
    sums = list(accumulate(histogram or [0] * BUCKETS))
    return [*((bound, sums[place]) for place, bound in BOUNDS.items()), ("+Inf", sums[-1])]


@get(
    "/metrics",
    summary="Metrics",
    responses={
        200: ResponseSpec(str, media_type="text/plain", description="Prometheus text format.", generate_examples=False),
    },
)
async def get_metrics(gauges: NamedDependency[Gauges]) -> Response[bytes]:
    """Metrics of the requests and the process of this service, and of all queues. Every service reports the same
    queues: alerts should take one of them (`max without (instance)`). At most a second old; ended tasks, about 20
    seconds."""
    return Response(await gauges.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
