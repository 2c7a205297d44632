"""What a server counts, in Prometheus's format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from tfdetect.serving.answers import Answer

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters, gauges and histograms of one server.

    Attributes:
        queue: requests that are accepted and not answered.
        bodies: bytes of requests in memory.
        connections: open ones.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "tfdetect_requests",
            "Requests, by path and status; 499: the client has gone, 0: no answer was begun.",
            ["path", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "tfdetect_request_seconds",
            "From the head of a request until its answer.",
            ["path"],
            registry=self._registry,
            buckets=_SECONDS,
        )
        self._batches = Histogram(
            "tfdetect_batch_images",
            "Images that went through the network together.",
            registry=self._registry,
            buckets=_IMAGES,
        )
        self._memory = Gauge(
            "tfdetect_replica_memory_bytes",
            "Resident memory of a replica when it last answered.",
            ["replica"],
            registry=self._registry,
        )
        self.queue = Gauge(
            "tfdetect_queue", "Requests that wait for the model.", registry=self._registry
        )
        self.bodies = Gauge(
            "tfdetect_body_bytes", "Bytes of requests in memory.", registry=self._registry
        )
        self.connections = Gauge(
            "tfdetect_connections", "Open connections.", registry=self._registry
        )

    def request(self, path: str, status: int, seconds: float) -> None:
        """A request is over."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def answer(self, answer: Answer) -> None:
        """The model has answered."""
        if answer.batch:
            self._batches.observe(answer.batch)
        if answer.replica:
            self._memory.labels(answer.replica).set(answer.memory)

    def text(self) -> bytes:
        """What Prometheus reads."""
        return generate_latest(self._registry)
