"""A listener for Prometheus: a thread that serves the metrics of a program, one request at a time."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from lockgate.log import logger

RETRY_SECONDS = 5.0  # between two tries to listen on a port that is taken
REQUEST_SECONDS = 2.0  # a client may take for each piece of a request, and for taking its answer


def serve(address: str, collector: Collector) -> None:
    """Serve /metrics at [HOST:]PORT for as long as the process lives. Returns at once, and never fails.

    Not `prometheus_client.start_http_server`: that one answers on every path, keeps a thread for each silent client
    without a limit, and fails where the port is taken.
    """
    threading.Thread(target=_serve, args=(address, collector), name="metrics", daemon=True).start()


def _serve(address: str, collector: Collector) -> None:
    host, _, port = address.rpartition(":")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    told = False
    while True:
        try:
            server = _Server((host.strip("[]") or "127.0.0.1", int(port)), registry)
        except OSError as error:
            if not told:
                logger.warning("metrics not served", error=str(error), retry_in=RETRY_SECONDS)
            told = True
            time.sleep(RETRY_SECONDS)
        else:
            logger.info("metrics served", port=server.server_port)
            server.serve_forever()


class _Server(HTTPServer):
    def __init__(self, address: tuple[str, int], registry: CollectorRegistry) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.registry = registry
        super().__init__(address, _Answer)


class _Answer(BaseHTTPRequestHandler):
    timeout = REQUEST_SECONDS
    server: _Server

    def do_GET(self) -> None:
        body = generate_latest(self.server.registry) if self.path.partition("?")[0] == "/metrics" else b""
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name there
        """Log nothing: a program's log is about its work."""
