"""A runner's metrics for Prometheus: a thread that reads a tally, answers one request at a time, and can wait."""

import socket
import threading
import time
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import structlog
from prometheus_client import CollectorRegistry, Metric, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from lockgate_runner.counters import Tally

RETRY_SECONDS = 5.0
"""Between two tries to listen where somebody else does."""

REQUEST_SECONDS = 2.0
"""A client may take for each piece of a request, and for taking its answer."""

log = structlog.get_logger()


def serve(address: str, tally: Tally) -> None:
    """Serves /metrics at [HOST:]PORT for as long as the process lives. Returns at once, and never fails."""
    threading.Thread(target=_serve, args=(address, tally), name="metrics", daemon=True).start()


def _serve(address: str, tally: Tally) -> None:
    host, _, port = address.rpartition(":")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Families(tally))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    said = False
    while True:
        try:
            server = Server((host.strip("[]") or "127.0.0.1", int(port)), _answering(registry))
        except OSError as error:
            if not said:
                log.warning("metrics not served", error=str(error), retry_in=RETRY_SECONDS)
            said = True
            time.sleep(RETRY_SECONDS)
        else:
            log.info("metrics served", port=server.server_port)
            server.serve_forever()


class Server(HTTPServer):
    """For either kind of address."""

    def __init__(self, address: tuple[str, int], answering: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, answering)


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


def _answering(registry: CollectorRegistry) -> type[BaseHTTPRequestHandler]:
    class Answer(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS

        def do_GET(self) -> None:
            body = generate_latest(registry) if self.path.partition("?")[0] == "/metrics" else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """The runner's log is about tasks."""

    return Answer
