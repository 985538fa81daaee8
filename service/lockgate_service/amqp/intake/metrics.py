"""The intake's metrics for Prometheus: a thread that reads its numbers, answers one request at a time, and can wait."""

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, Metric, PlatformCollector, ProcessCollector, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from lockgate_service.amqp.intake.counters import Counters
from lockgate_service.log import logger

RETRY_SECONDS = 5.0
"""Between two tries to listen where somebody else does."""

REQUEST_SECONDS = 2.0
"""A client may take for each piece of a request, and for taking its answer."""


def serve(address: str, counters: Counters, is_consuming: Callable[[], bool]) -> None:
    """Serves /metrics at [HOST:]PORT for as long as the process lives. Returns at once, and never fails."""
    threading.Thread(
        target=_serve, args=(address, Families(counters, is_consuming)), name="metrics", daemon=True
    ).start()


def _serve(address: str, families: "Families") -> None:
    host, _, port = address.rpartition(":")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(families)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    said = False
    while True:
        try:
            server = Server((host.strip("[]") or "127.0.0.1", int(port)), Answer)
        except OSError as error:
            if not said:
                logger.warning("metrics not served", error=str(error), retry_in=RETRY_SECONDS)
            said = True
            time.sleep(RETRY_SECONDS)
        else:
            server.set_app(make_wsgi_app(registry))
            logger.info("metrics served", port=server.server_port)
            server.serve_forever()


class Server(WSGIServer):
    """For either kind of address."""

    def __init__(self, address: tuple[str, int], answering: type[WSGIRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, answering)


class Answer(WSGIRequestHandler):
    """To one request."""

    timeout = REQUEST_SECONDS

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name there)
        """The intake's log is about messages."""


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
