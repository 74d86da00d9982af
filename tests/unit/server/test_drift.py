"""The service counts live scores, and says in its metrics and its log whether a stated rate holds."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.helpers.drift_scores import drawn, fill_file
from tests.unit.server.conftest import OwnService
from tests.unit.server.running import Running, files
from verifykit.drift import ScoreWatch
from verifykit.models import load
from verifykit.server.settings import ServerSettings


def _metrics(service: Running) -> dict[tuple[str, ...], float]:
    text = service.client.get("/metrics").raise_for_status().text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_probes_are_counted_and_stored_without_a_subject(
    own_service: OwnService, tmp_path: Path, pictures: dict[str, bytes]
) -> None:
    fill_file(tmp_path / "own.db", load("face").spec, 60)
    stored = tmp_path / "own.db.scores.json"
    with own_service() as service:
        anna = files(image=pictures["person_a_1"])
        service.client.put("/v1/subjects/anna", files=anna).raise_for_status()
        assert _metrics(service)["verifykit_watched_probes_total", "face"] == 0
        again = files(image=pictures["person_a_2"])
        answer = service.client.post("/v1/subjects/anna/verify", files=again)
        assert answer.json()["match"]
        other = files(image=pictures["person_b_1"])
        service.client.post("/v1/identify", files=other).raise_for_status()
        service.client.post("/v1/identify", files=other).raise_for_status()
        found = _metrics(service)
        assert found["verifykit_watched_probes_total", "face"] == 2
        assert found["verifykit_watched_scores_total", "face"] == 60 + 61
        assert found["verifykit_watched_scores_reached_total", "1e-05", "face"] == 0
        assert found["verifykit_stated_fmr", "face"] == 1e-4
        assert found["verifykit_drift", "face"] == 0
        assert 0 < found["verifykit_drift_evidence", "face"] < 365_000
        assert found["verifykit_watched_probes_total", "signature"] == 0
        assert not stored.exists()
    body = json.loads(stored.read_text("utf-8"))
    assert (body["probes"], body["scores"]) == (2, 121)
    assert "anna" not in stored.read_text("utf-8")
    with own_service() as service:
        assert _metrics(service)["verifykit_watched_probes_total", "face"] == 2


def test_an_alarm_is_a_metric_and_a_line_in_the_log(
    own_service: OwnService,
    tmp_path: Path,
    pictures: dict[str, bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    spec = load("face").spec
    fill_file(tmp_path / "own.db", spec, 60)
    earlier = ScoreWatch(spec, tmp_path / "own.db.scores.json")
    limits = earlier.levels.thresholds(spec, 1)
    for _ in range(200):  # half of the scores reach the threshold of one in ten
        earlier.record_scores([limits[1], limits[0] - 0.1])
    earlier.flush()
    caplog.clear()
    with own_service() as service:
        found = _metrics(service)
        assert found["verifykit_drift", "face"] == 1
        assert found["verifykit_drift_evidence", "face"] > 365_000
        assert found["verifykit_estimated_fmr", "face"] > 1e-3
        other = files(image=pictures["person_b_1"])
        service.client.post("/v1/identify", files=other).raise_for_status()
        assert service.client.get("/readyz").json()["status"] == "ready"
    (said,) = [each for each in caplog.records if each.name == "verifykit.drift"]
    assert said.levelno == logging.WARNING
    assert said.getMessage().startswith(
        "the stated false match rate no longer holds: stated 0.0001"
    )


def test_a_file_of_another_calibration_is_begun_again(
    own_service: OwnService, tmp_path: Path
) -> None:
    other = ScoreWatch(load("signature").spec, tmp_path / "own.db.scores.json")
    for row in drawn(other.levels, 1.0, 3, 2):
        other.record_scores(row.tolist())
    other.flush()
    with own_service() as service:
        assert _metrics(service)["verifykit_watched_probes_total", "face"] == 0


def test_nothing_is_counted_on_request(own_service: OwnService, tmp_path: Path) -> None:
    with own_service(watch_scores=False) as service:
        assert ("verifykit_stated_fmr", "face") not in _metrics(service)
        assert service.service.model(None).verifier.watch is None
    assert not list(tmp_path.glob("*.scores.json"))


def test_a_damaged_file_does_not_break_the_metrics(own_service: OwnService, tmp_path: Path) -> None:
    with own_service() as service:
        (tmp_path / "own.db.scores.json").write_text("{")
        found = _metrics(service)
    assert ("verifykit_stated_fmr", "face") not in found
    assert found["verifykit_stated_fmr", "signature"] > 0


def test_where_the_counts_are() -> None:
    settings = ServerSettings("staff.db", state="x.state")
    assert settings.scores_path("doors.db", "a" * 64) == Path("doors.db.scores.json")
    remote = settings.scores_path("postgresql://host/db", "a" * 64)
    assert remote == Path(f"x.state.{'a' * 12}.scores.json")


def test_an_enrolment_counts_look_alikes(
    own_service: OwnService, pictures: dict[str, bytes]
) -> None:
    with own_service() as service:
        first, second, other = (
            service.client.put(
                f"/v1/subjects/{name}", files=files(image=pictures[image]), params=params
            ).json()
            for name, image, params in (
                ("anna", "person_a_1", {}),
                ("bea", "person_a_2", {}),
                ("cleo", "person_b_1", {"look_alikes": False}),
            )
        )
    assert (first["look_alikes"], second["look_alikes"], other["look_alikes"]) == (0, 1, None)
