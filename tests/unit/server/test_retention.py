"""Retention in the service: at its start and daily, in every gallery, with a line in the audit log."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.server.conftest import OwnService
from verifykit.audit import read_log
from verifykit.errors import GalleryLockedError, InputError
from verifykit.gallery import Gallery, SqliteGallery, checked_entry
from verifykit.models import load
from verifykit.privacy import ExpiryReport, expire
from verifykit.server import retention
from verifykit.server.observability import JsonFormatter
from verifykit.server.settings import ServerSettings
from verifykit.spec import ModelSpec
from verifykit.types import Template

YEAR = timedelta(days=365)


def enrol(gallery: Any, spec: ModelSpec, subject_id: str, days_ago: float) -> None:
    vector = np.eye(1, spec.embedding_size, dtype=np.float32)[0]
    entry = checked_entry(
        subject_id,
        [Template(vector, spec.digest)],
        None,
        spec_digest=spec.digest,
        embedding_size=spec.embedding_size,
    )
    then = int(time.time() - days_ago * 86_400)
    gallery.add_entries([replace(entry, enrolled_at=then)], "error")


def fill(path: Path, model: str) -> None:
    spec = load(model).spec
    with SqliteGallery(
        path, spec_digest=spec.digest, embedding_size=spec.embedding_size
    ) as gallery:
        enrol(gallery, spec, f"{model}, long ago", 400)
        enrol(gallery, spec, f"{model}, lately", 1)


def run_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a day of the service short."""
    monkeypatch.setattr(retention, "_DAY_S", 0.05)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_at_its_start_in_both_galleries(own_service: OwnService, tmp_path: Path) -> None:
    fill(tmp_path / "own.db", "face")
    fill(tmp_path / "own.signatures.db", "signature")
    with own_service(expire=YEAR) as served:

        def listed(model: str) -> list[str]:
            rows = served.client.get("/v1/subjects", params={"model": model}).json()["subjects"]
            return [row["subject_id"] for row in rows]

        for model in ("face", "signature"):
            wait_for(lambda model=model: listed(model) == [f"{model}, lately"])  # type: ignore[misc]
        path = served.service.settings.audit_path
        wait_for(lambda: len(list(read_log(path))) == 2)
    assert [(e.verb, e.subject_id, e.decision, e.key_id) for e in read_log(path)] == [
        ("expire", "face, long ago", "removed", None),
        ("expire", "signature, long ago", "removed", None),
    ]


def test_daily(own_service: OwnService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_often(monkeypatch)
    with own_service(expire=YEAR) as served:
        verifier = served.service.model("face").verifier
        for subject_id in ("one", "two"):
            enrol(verifier.gallery, verifier.spec, subject_id, 400)
            wait_for(lambda: len(verifier.gallery) == 0)
        enrol(verifier.gallery, verifier.spec, "three", 364)
        time.sleep(0.2)
        assert list(verifier.gallery.subject_ids()) == ["three"]


def test_a_gallery_that_cannot_be_written_is_tried_again_soon(
    own_service: OwnService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fill(tmp_path / "own.db", "face")
    calls = []

    def locked_at_first(gallery: Gallery, age: timedelta, **options: Any) -> ExpiryReport:
        calls.append(age)
        if len(calls) == 1:
            raise GalleryLockedError("somebody writes; the subject is 'face, long ago'")
        return expire(gallery, age, **options)

    monkeypatch.setattr(retention, "_RETRY_S", 0.05)
    monkeypatch.setattr(retention, "expire", locked_at_first)
    with (
        caplog.at_level(logging.INFO, logger="verifykit.server"),
        own_service(expire=YEAR, with_signatures=False) as served,
    ):
        gallery = served.service.model(None).verifier.gallery
        wait_for(lambda: list(gallery.subject_ids()) == ["face, lately"])
        wait_for(lambda: "retention" in caplog.messages[1:])
    assert calls == [YEAR, YEAR]
    records = [record for record in caplog.records if record.message == "retention"]
    lines = [json.loads(JsonFormatter().format(record)) for record in records]
    assert [line["level"] for line in lines] == ["error", "info"]
    assert lines[0]["exception"][0]["class"] == "GalleryLockedError"
    assert (lines[1]["model"], lines[1]["removed_count"], lines[1]["erased"]) == ("face", 1, True)
    assert "long ago" not in json.dumps(lines)


def test_what_is_under_way_is_finished_when_the_service_ends(
    own_service: OwnService, tmp_path: Path
) -> None:
    spec = load("face").spec
    with SqliteGallery(
        tmp_path / "own.db", spec_digest=spec.digest, embedding_size=spec.embedding_size
    ) as gallery:
        for number in range(100):
            enrol(gallery, spec, str(number), 400)
    with own_service(expire=YEAR, expire_max_share=1, with_signatures=False) as served:
        served.stop()
        path = served.service.settings.audit_path
    written = [entry.subject_id for entry in read_log(path)]
    with SqliteGallery.open_existing(tmp_path / "own.db") as gallery:
        left = sorted(gallery.subject_ids(), key=int)
    assert len(written) % 20 == 0
    assert [*written, *left] == [str(number) for number in range(100)]


def test_a_wrong_clock_erases_no_one_and_the_next_day_is_another_try(
    own_service: OwnService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = load("face").spec
    with SqliteGallery(
        tmp_path / "own.db", spec_digest=spec.digest, embedding_size=spec.embedding_size
    ) as gallery:
        for number in range(224):
            enrol(gallery, spec, str(number), number)
    run_often(monkeypatch)
    real, ahead = time.time, [400 * 86_400.0]
    monkeypatch.setattr(time, "time", lambda: real() + ahead[0])
    with own_service(expire=YEAR, with_signatures=False) as served:
        counted = 'verifykit_expiry_refused_total{reason="clock_ahead"}'
        wait_for(lambda: counted in served.client.get("/metrics").text)
        ready = served.client.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["warnings"] == ["retention of face was refused: clock_ahead"]
        gallery_now = served.service.model(None).verifier.gallery
        assert len(gallery_now) == 224
        assert list(read_log(served.service.settings.audit_path)) == []
        ahead[0] = 0.0  # the clock is set; a subject is due
        enrol(gallery_now, spec, "long ago", 400)
        wait_for(lambda: len(gallery_now) == 224)
        wait_for(lambda: served.client.get("/readyz").json()["warnings"] == [])
        assert "long ago" not in gallery_now.subject_ids()


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_what_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(InputError, match=r"expire_max_share must be in \[0, 1\]"):
        ServerSettings("staff.db", expire=YEAR, expire_max_share=share)


@pytest.mark.parametrize(
    "options",
    [
        {"gallery": "postgresql://host/staff", "state": "s", "audit": "a"},
        {"gallery": "staff.db", "signatures": "postgresql://host/signatures"},
    ],
)
def test_it_is_not_offered_for_postgresql(options: dict[str, Any]) -> None:
    ServerSettings(**options)
    with pytest.raises(InputError, match="retention is available only for galleries in files"):
        ServerSettings(**options, expire=YEAR)


def test_a_time_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="must be > 0"):
        ServerSettings("staff.db", expire=timedelta(0))
