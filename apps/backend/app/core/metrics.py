"""Metrics for Prometheus, on a separate port that no Ingress routes.

Callers cannot choose label values: routes are templates, methods and states are from fixed lists.

"""

import threading
from collections.abc import Iterable
from contextlib import suppress
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from app.core.db import Database, State

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"
NONE = "none"
# Around the 100 ms of the specification, up to the longest waiting time of a request.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2, 4, 8, 30)


class Metrics:
    def __init__(self, version: str, environment: str) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "todo_http_requests",
            "Requests by route template, method and status",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "todo_http_request_duration_seconds",
            "From the first byte of a request to the last of its answer",
            ("route", "method"),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.running = Gauge(
            "todo_http_requests_in_progress",
            "Requests without a whole answer",
            registry=self.registry,
        )
        info = Gauge(
            "todo_build_info", "Always 1", ("version", "environment"), registry=self.registry
        )
        info.labels(version, environment).set(1)
        ProcessCollector(registry=self.registry)

    def watch(self, database: Database) -> None:
        self.registry.register(_DatabaseCollector(database))

    def count(self, route: str | None, method: str, status: int, seconds: float) -> None:
        """Counts a finished request. `route` None: no such path; `status` 0: no answer."""
        method = method if method in METHODS else OTHER
        self.running.dec()
        self.requests.labels(route or NONE, method, str(status or NONE)).inc()
        self.seconds.labels(route or NONE, method).observe(seconds)


class _DatabaseCollector(Collector):
    """Reads the pool's state at each scrape."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterable[Metric]:
        figures = self._database.figures()
        connections = GaugeMetricFamily(
            "todo_database_pool_connections", "Connections of this process", labels=["state"]
        )
        connections.add_metric(["idle"], figures["pool_available"])
        connections.add_metric(["busy"], figures["pool_size"] - figures["pool_available"])
        yield connections
        yield GaugeMetricFamily(
            "todo_database_pool_connections_max", "At most so many", value=figures["pool_max"]
        )
        yield GaugeMetricFamily(
            "todo_database_pool_waiting",
            "Requests that wait for one",
            value=figures["requests_waiting"],
        )
        states = GaugeMetricFamily(
            "todo_database_state", "1 for what the last use found", labels=["state"]
        )
        for state in State:
            states.add_metric([state.value], self._database.state is state)
        yield states


class MetricsServer:
    """Answers Prometheus in its own thread. Raises OSError if the port is in use."""

    def __init__(self, metrics: Metrics, host: str, port: int) -> None:
        self._server: WSGIServer
        self._thread: threading.Thread
        self._server, self._thread = start_http_server(port, host, metrics.registry)

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown()
            self._server.server_close()
        self._thread.join(timeout=1)
