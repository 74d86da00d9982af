"""Observability without personal data: logs as JSON lines, and metrics for Prometheus.

No image, embedding, score, subject id, query string or token is logged or used as a label: a path is logged
as the template of its route, and an exception by its class and traceback, without its message.
"""

from __future__ import annotations

import json
import logging
import sys
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
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import Scope

from verifykit.drift import DriftReport


def request_id_of(scope: Mapping[str, Any]) -> str:
    """Return the id that ``RequestIdMiddleware`` stored in ``scope["state"]``; empty without it."""
    return str(scope.get("state", {}).get("request_id", ""))


def route_template(scope: Scope) -> str:
    """Return the path of an answered request as its route defines it: ``/v1/subjects/{subject_id}``."""
    template = getattr(scope.get("route"), "path", None)
    if isinstance(template, str):
        return template
    return "/static/{file}" if scope["path"].startswith("/static/") else "unknown"


class JsonFormatter(logging.Formatter):
    """Format a record as one JSON object: time, level, logger, message, and the record's ``fields``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
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
    """Yield an exception and its causes, without messages: they may name subjects."""
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
    """Log verifykit's and uvicorn's records as JSON lines to one stream, by default standard error.

    A second call replaces the first. uvicorn must be run with ``log_config=None``; its own access log is
    disabled, because it contains paths.
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
# A client may send any word as a method, and each would be a time series.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class Metrics:
    """The metrics of one process, in a registry of their own; ``content_type`` is that of :meth:`render`."""

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
        self._expiry_refusals = Counter(
            "verifykit_expiry_refused",
            "Runs of retention that erased nothing, as the clock or the number was not plausible.",
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
        """Count a request that ends; ``route`` is the template of its path."""
        method = method if method in _METHODS else "other"
        self._in_flight.dec()
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route, method).observe(seconds)

    def watch_queue(self, length: Callable[[], int]) -> None:
        """Read the length of the queue whenever the metrics are read."""
        self._queue.set_function(length)

    def watch_drift(self, reports: Callable[[], Mapping[str, DriftReport]]) -> None:
        """Read what the counted scores of each model say whenever the metrics are read."""
        self._registry.register(_DriftCollector(reports))

    def decided(self, verb: str, outcome: str) -> None:
        """Count a decision of a verb, by its outcome: ``match`` or ``no_match``."""
        self._decisions.labels(verb, outcome).inc()

    def refused(self, reason: str) -> None:
        """Count a refusal by its reason code, such as ``no_face`` or ``queue_full``."""
        self._refusals.labels(reason).inc()

    def expiry_refused(self, reason: str) -> None:
        """Count a run of retention that was refused, by the reason of :class:`ExpiryRefusedError`."""
        self._expiry_refusals.labels(reason).inc()

    def batch(self, size: int) -> None:
        """Count a run of the encoder on this number of images."""
        self._batches.observe(size)

    def render(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self._registry)


class _DriftCollector(Collector):
    """Counts of live non-mated scores, and the evidence against the calibration, of every process."""

    def __init__(self, reports: Callable[[], Mapping[str, DriftReport]]) -> None:
        self._reports = reports

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        found = self._reports()
        probes = CounterMetricFamily(
            "verifykit_watched_probes", "Probes compared with others.", labels=["model"]
        )
        scores = CounterMetricFamily(
            "verifykit_watched_scores", "Scores of probes against others.", labels=["model"]
        )
        reached = CounterMetricFamily(
            "verifykit_watched_scores_reached",
            "Those that reached the threshold of a false match rate.",
            labels=["model", "fmr"],
        )
        stated = GaugeMetricFamily(
            "verifykit_stated_fmr", "The false match rate of decisions.", labels=["model"]
        )
        estimated = GaugeMetricFamily(
            "verifykit_estimated_fmr", "Its estimate from recent scores.", labels=["model"]
        )
        evidence = GaugeMetricFamily(
            "verifykit_drift_evidence",
            "Evidence against the calibration; 365,000 is an alarm.",
            labels=["model"],
        )
        drift = GaugeMetricFamily(
            "verifykit_drift", "1 once a stated rate no longer held.", labels=["model"]
        )
        for name, report in found.items():
            probes.add_metric([name], report.probes)
            scores.add_metric([name], report.scores)
            for level in report.levels:
                reached.add_metric([name, f"{level.fmr:g}"], level.count)
            stated.add_metric([name], report.stated_fmr)
            if report.fmr_now is not None:
                estimated.add_metric([name], report.fmr_now)
            evidence.add_metric([name], report.evidence)
            drift.add_metric([name], report.has_drift)
        yield from (probes, scores, reached, stated, estimated, evidence, drift)
