"""Logs as JSON lines: what was asked and how it went, and nothing about whom.

No picture, embedding, score, subject id, query string or token comes into a line: the path is its route's
template, and of an exception there is the class and the place, but not the message.

What Prometheus reads: counts and times, of one process, with no label that names a subject or a key.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from types import TracebackType
from typing import Any, TextIO

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

from verifykit.server.errors import request_id_of

_log = logging.getLogger("verifykit.server")


class AccessLog:
    """An ASGI middleware that writes one line for each request, when it is over.

    Args:
        app: What is inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and say so."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = time.perf_counter()
        status: int | None = None  # None in the line: the client went before there was an answer
        received = sent = 0

        async def receiving() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def sending(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            sent += len(message.get("body", b""))
            await send(message)

        failed = True
        try:
            await self._app(scope, receiving, sending)
            failed = False
        finally:
            fields = {
                "request_id": request_id_of(scope),
                "method": scope["method"],
                "route": route_template(scope),
                "status": 500 if failed and status is None else status,
                "duration_ms": round((time.perf_counter() - begin) * 1000, 3),
                "key_id": scope.get("state", {}).get("key_id"),
                "request_bytes": received,
                "response_bytes": sent,
            }
            level = logging.ERROR if failed else logging.INFO
            _log.log(level, "request", extra={"fields": fields}, exc_info=failed)


def route_template(scope: Scope) -> str:
    """The path as the routes write it, such as ``/v1/subjects/{subject_id}``: never what was asked for.

    Args:
        scope: Of a request that was answered, as its route is found on the way.
    """
    template = getattr(scope.get("route"), "path", None)
    if isinstance(template, str):
        return template
    return "/static/{file}" if scope["path"].startswith("/static/") else "unknown"


class JsonFormatter(logging.Formatter):
    """One JSON object for each record: time, level, logger, message, and the record's ``fields``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, Mapping):
            line.update(fields)
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = list(_chain(record.exc_info[1]))
        return json.dumps(line, default=str)


def _chain(error: BaseException) -> Iterator[dict[str, Any]]:
    """An exception and what caused it; no messages, as they name subjects."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield {
            "class": type(following).__name__,
            "trace": list(_places(following.__traceback__)),
        }
        following = following.__cause__ or (
            None if following.__suppress_context__ else following.__context__
        )


def _places(traceback: TracebackType | None) -> Iterator[str]:
    while traceback is not None:
        code = traceback.tb_frame.f_code
        yield f"{code.co_filename}:{traceback.tb_lineno} {code.co_name}"
        traceback = traceback.tb_next


def configure_logging(level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send verifykit's and uvicorn's records to one stream as JSON lines; again replaces the first time.

    uvicorn must be run with ``log_config=None``. Its own access log is off, for it holds paths.

    Args:
        level: From which level on.
        stream: Where to; standard error if not given.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in ("verifykit", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
    logging.getLogger("uvicorn.access").disabled = True


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
