"""Requests, counted and timed for Prometheus."""

import time
from typing import Any

from litestar.plugins.prometheus import PrometheusConfig, PrometheusMiddleware
from litestar.types import Message, Receive, Scope, Send
from prometheus_client import Counter, Gauge, Histogram

Key = tuple[str, str, int]
"""Method, path as in the documentation, status."""


class RequestMetrics(PrometheusMiddleware):
    """Litestar's, with each label looked up once: without that it costs a tenth of a millisecond a request."""

    _ended: dict[Key, tuple[Counter, Histogram, Counter | None]] = {}  # noqa: RUF012 - of the process, as the metrics are
    _open: dict[Key, Gauge] = {}  # noqa: RUF012

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 500
        method, path = str(scope.get("method", "")), str(scope["path_template"])
        begin = time.perf_counter()

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        under_way = self._open_of((method, path, 200))
        under_way.inc()
        try:
            await self.app(scope, receive, seen)
        finally:
            under_way.dec()
            count, seconds, errors = self._ended_of((method, path, status))
            count.inc()
            seconds.observe(time.perf_counter() - begin)
            if errors:
                errors.inc()

    def _open_of(self, key: Key) -> Gauge:
        if key not in self._open:
            labels = self._labels(key)
            self._open[key] = self.requests_in_progress(labels).labels(*labels.values())
        return self._open[key]

    def _ended_of(self, key: Key) -> tuple[Counter, Histogram, Counter | None]:
        if key not in self._ended:
            labels = self._labels(key)
            self._ended[key] = (
                self.request_count(labels).labels(*labels.values()),
                self.request_time(labels).labels(*labels.values()),
                self.requests_error_count(labels).labels(*labels.values()) if key[2] >= 500 else None,
            )
        return self._ended[key]

    def _labels(self, key: Key) -> dict[str, Any]:
        method, path, status = key
        return {"method": method, "path": path, "status_code": status, "app_name": self._config.app_name}


# But probes and streams.
REQUESTS = PrometheusConfig(
    app_name="lockgate",
    prefix="lockgate_http",
    group_path=True,
    exclude=["^/health", "^/metrics$", "/events$"],
    middleware_class=RequestMetrics,
)
