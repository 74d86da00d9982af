"""What Prometheus reads: counts and times, of one process, with no label that names a subject or a key."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from verifykit.server.logs import route_template

__all__ = ["Metrics", "RequestMetrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)
# A client may send any word for a method, and each would be a time series.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class Metrics:
    """The counters of one process, in a registry of their own.

    Of several services on one gallery each answers for itself.

    Attributes:
        content_type: Of what :meth:`render` returns.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "verifykit_http_requests",
            "Requests that were answered.",
            ["route", "method", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "verifykit_http_request_seconds",
            "From a request to the end of its answer.",
            ["route", "method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "verifykit_http_requests_in_flight",
            "Requests that are being answered.",
            registry=registry,
        )
        self._queue = Gauge(
            "verifykit_queue_length", "Requests that wait for a worker.", registry=registry
        )
        self._decisions = Counter(
            "verifykit_decisions",
            "Decisions by verb and outcome.",
            ["verb", "outcome"],
            registry=registry,
        )
        self._refusals = Counter(
            "verifykit_refusals",
            "Requests and images that were refused, by reason code.",
            ["reason"],
            registry=registry,
        )
        self._batches = Histogram(
            "verifykit_batch_images",
            "Images that one run of the encoder shared.",
            buckets=_SIZES,
            registry=registry,
        )

    def started(self) -> None:
        """Count a request that begins."""
        self._in_flight.inc()

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request that ends.

        Args:
            route: The template of its path.
            method: HTTP method; one that no route knows is counted as ``other``.
            status: HTTP status.
            seconds: How long it took.
        """
        method = method if method in _METHODS else "other"
        self._in_flight.dec()
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route, method).observe(seconds)

    def watch_queue(self, length: Callable[[], int]) -> None:
        """Ask for the queue's length whenever the metrics are read."""
        self._queue.set_function(length)

    def decided(self, verb: str, outcome: str) -> None:
        """Count a decision.

        Args:
            verb: ``verify``, ``compare`` or ``identify``.
            outcome: ``match``, ``no_match``, or what else a verb decides.
        """
        self._decisions.labels(verb, outcome).inc()

    def refused(self, reason: str) -> None:
        """Count a refusal by its reason code, such as ``no_face`` or ``queue_full``."""
        self._refusals.labels(reason).inc()

    def batch(self, size: int) -> None:
        """Count a run of the encoder with so many images."""
        self._batches.observe(size)

    def render(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self._registry)


class RequestMetrics:
    """An ASGI middleware that counts and times each request.

    Args:
        app: What is inside.
        metrics: Where to count.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = time.perf_counter()
        status = 500  # what the client sees when the application raises

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.started()
        try:
            await self._app(scope, receive, sending)
        finally:
            seconds = time.perf_counter() - begin
            self._metrics.answered(route_template(scope), scope["method"], status, seconds)
