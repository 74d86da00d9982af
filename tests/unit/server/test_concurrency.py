"""Requests at the same time: one enrolment wins, a full queue says so, and the end is orderly."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.unit.server.conftest import OwnService
from tests.unit.server.running import Running, b64, files, problem, running
from verifykit.audit import examine_log, read_log
from verifykit.gallery import SqliteGallery
from verifykit.server.settings import ServerSettings


def test_of_two_services_on_one_gallery_one_enrols_and_the_other_verifies_at_once(
    face_model: Path, tmp_path: Path, pictures: dict[str, bytes]
) -> None:
    settings = ServerSettings(str(tmp_path / "staff.db"), with_signatures=False)
    body = {"images": [b64(pictures["person_a_1"])]}
    with running(settings) as one, running(settings) as other, ThreadPoolExecutor(8) as pool:
        for name in ("first", "second", "third"):
            clients = [one.client, other.client] * 3

            def enrol(client: httpx.Client, name: str = name) -> httpx.Response:
                return client.put(f"/v1/subjects/{name}", json=body)

            answers = list(pool.map(enrol, clients))
            assert Counter(a.status_code for a in answers) == {201: 1, 409: 5}
            refused = next(a for a in answers if a.status_code == 409)
            problem(refused, 409, "subject_exists")
            winner = next(i for i, a in enumerate(answers) if a.status_code == 201)
            verified = clients[winner - 1].post(
                f"/v1/subjects/{name}/verify", files=files(image=pictures["person_a_2"])
            )
            assert verified.json()["match"] is True
            assert len(one.service.model(None).verifier.gallery.get(name).templates) == 1
    assert examine_log(settings.audit_path).problems == []
    enrolled = [e for e in read_log(settings.audit_path) if e.decision == "enrolled"]
    assert [e.subject_id for e in enrolled] == ["first", "second", "third"]


def test_the_same_idempotency_key_at_once_enrols_once(
    service: Running, client: httpx.Client, pictures: dict[str, bytes]
) -> None:
    body = {"images": [b64(pictures["person_b_1"])]}

    def enrol(_: int) -> httpx.Response:
        path = "/v1/subjects/at-once?on_existing=append"
        return client.put(path, json=body, headers={"Idempotency-Key": "at once"})

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(enrol, range(6)))
    counts = Counter(answer.status_code for answer in answers)
    assert counts[201] >= 1
    assert counts[201] + counts[409] == 6
    for answer in answers:
        if answer.status_code == 409:
            problem(answer, 409, "idempotency_in_progress")
    assert len(service.service.model(None).verifier.gallery.get("at-once").templates) == 1


def test_concurrent_decisions_are_those_of_one_at_a_time(
    service: Running, client: httpx.Client, pictures: dict[str, bytes]
) -> None:
    names = ["person_a_1", "person_a_2", "person_b_1", "impostor_1"]
    pairs = [(p, r) for p in names for r in names]

    def compare(pair: tuple[str, str]) -> float:
        sent = files(probe=pictures[pair[0]], reference=pictures[pair[1]])
        return float(client.post("/v1/compare", files=sent).json()["score"])

    with ThreadPoolExecutor(8) as pool:
        scores = list(pool.map(compare, pairs))
    verifier = service.service.model(None).verifier
    for (probe, reference), score in zip(pairs, scores, strict=True):
        alone = verifier.compare(pictures[probe], pictures[reference]).score
        assert score == pytest.approx(alone, abs=1e-5)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Until it is set, no subject is read from a gallery."""
    opened, get = threading.Event(), SqliteGallery.get

    def waiting(self: SqliteGallery, subject_id: str) -> object:
        assert opened.wait(30)
        return get(self, subject_id)

    monkeypatch.setattr(SqliteGallery, "get", waiting)
    return opened


def _until(condition: object, *, timeout_s: float = 20.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_full_queue_is_503_and_nothing_else_stops(
    own_service: OwnService, gate: threading.Event
) -> None:
    with own_service(workers=1, queue=1, with_signatures=False) as found:
        with ThreadPoolExecutor(2) as pool:
            held = [pool.submit(found.client.get, "/v1/subjects/nobody") for _ in range(2)]
            _until(lambda: found.service.workers._accepted == 2)
            answer = found.client.get("/v1/subjects/nobody")
            problem(answer, 503, "queue_full")
            assert int(answer.headers["retry-after"]) >= 1
            for path in ("/healthz", "/readyz", "/metrics", "/v1/models", "/"):
                assert found.client.get(path).status_code == 200
            assert "verifykit_queue_length 1.0" in found.client.get("/metrics").text
            gate.set()
            for future in held:
                problem(future.result(30), 404, "subject_not_found")
        problem(found.client.get("/v1/subjects/nobody"), 404, "subject_not_found")


def test_the_end_answers_what_was_accepted(own_service: OwnService, gate: threading.Event) -> None:
    with (
        own_service(workers=1, queue=4, with_signatures=False) as found,
        ThreadPoolExecutor(4) as pool,
    ):
        held = [pool.submit(found.client.get, "/v1/subjects/nobody") for _ in range(3)]
        _until(lambda: found.service.workers._accepted == 3)
        found.server.should_exit = True
        time.sleep(0.3)
        assert found.thread.is_alive()
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{found.client.base_url}/healthz", trust_env=False)
        gate.set()
        for future in held:
            problem(future.result(30), 404, "subject_not_found")
        found.stop()
