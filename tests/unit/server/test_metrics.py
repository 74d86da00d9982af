"""Metrics, as Prometheus's own parser reads them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.server.asgi_calls import a_scope, broken, call
from verifykit.server.middleware import MetricsMiddleware
from verifykit.server.observability import Metrics


def _samples(metrics: Metrics) -> dict[str, list[tuple[Mapping[str, str], float]]]:
    found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def _value(metrics: Metrics, name: str, **labels: str) -> float:
    values = [value for have, value in _samples(metrics).get(name, []) if have == labels]
    return values[0] if values else 0.0


def test_requests_are_counted_by_template_method_and_status() -> None:
    metrics, app = Metrics(), FastAPI()

    @app.get("/v1/subjects/{subject_id}")
    def show(subject_id: str) -> str:
        assert _value(metrics, "verifykit_http_requests_in_flight") == 1.0
        return subject_id

    counted = MetricsMiddleware(app, metrics)
    for subject in ("alice.secret", "bob.secret"):
        call(counted, a_scope(path=f"/v1/subjects/{subject}"))
    call(counted, a_scope(path="/alice.secret"))
    call(counted, a_scope("ALICE", "/v1/subjects/alice.secret"))
    name, route = "verifykit_http_requests_total", "/v1/subjects/{subject_id}"
    assert _value(metrics, name, route=route, method="GET", status="200") == 2.0
    assert _value(metrics, name, route="unknown", method="GET", status="404") == 1.0
    assert _value(metrics, name, route=route, method="other", status="405") == 1.0
    assert len(_samples(metrics)[name]) == 3
    assert _value(metrics, "verifykit_http_requests_in_flight") == 0.0
    assert b"secret" not in metrics.render()
    assert b"ALICE" not in metrics.render()


def test_an_application_that_raises_is_a_500_and_is_over() -> None:
    metrics = Metrics()
    with pytest.raises(LookupError):
        call(MetricsMiddleware(broken, metrics))
    labels = {"route": "unknown", "method": "GET", "status": "500"}
    assert _value(metrics, "verifykit_http_requests_total", **labels) == 1.0
    assert _value(metrics, "verifykit_http_requests_in_flight") == 0.0


def test_times_fall_into_buckets_of_seconds() -> None:
    metrics = Metrics()
    for seconds in (0.004, 0.2, 0.3, 40.0):
        metrics.started()
        metrics.answered("/v1/compare", "POST", 200, seconds)
    name, labels = "verifykit_http_request_seconds", {"route": "/v1/compare", "method": "POST"}
    expected = {"0.005": 1.0, "0.1": 1.0, "0.25": 2.0, "0.5": 3.0, "30.0": 3.0, "+Inf": 4.0}
    for bucket, count in expected.items():
        assert _value(metrics, f"{name}_bucket", le=bucket, **labels) == count, bucket
    assert _value(metrics, f"{name}_sum", **labels) == pytest.approx(40.504)


def test_the_queue_is_asked_when_the_metrics_are_read() -> None:
    metrics, queue = Metrics(), [1, 2, 3]
    assert _value(metrics, "verifykit_queue_length") == 0.0
    metrics.watch_queue(queue.__len__)
    assert _value(metrics, "verifykit_queue_length") == 3.0
    queue.clear()
    assert _value(metrics, "verifykit_queue_length") == 0.0


def test_decisions_refusals_and_batches() -> None:
    metrics = Metrics()
    for outcome in ("match", "match", "no_match"):
        metrics.decided("verify", outcome)
    metrics.decided("identify", "match")
    metrics.refused("no_face")
    for size in (1, 3, 8):
        metrics.batch(size)
    name = "verifykit_decisions_total"
    assert _value(metrics, name, verb="verify", outcome="match") == 2.0
    assert _value(metrics, name, verb="verify", outcome="no_match") == 1.0
    assert _value(metrics, name, verb="identify", outcome="match") == 1.0
    assert _value(metrics, "verifykit_refusals_total", reason="no_face") == 1.0
    assert _value(metrics, "verifykit_batch_images_count") == 3.0
    assert _value(metrics, "verifykit_batch_images_sum") == 12.0
    assert _value(metrics, "verifykit_batch_images_bucket", le="4.0") == 2.0


def test_each_has_its_own_registry_and_says_what_its_process_needs() -> None:
    one, other = Metrics(), Metrics()
    one.refused("no_face")
    assert _value(other, "verifykit_refusals_total", reason="no_face") == 0.0
    assert _value(one, "process_resident_memory_bytes") > 1e6
    assert one.content_type.startswith("text/plain")
