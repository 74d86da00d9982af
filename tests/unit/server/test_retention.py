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
    monkeypatch.setattr(retention, "_DAY_S", 0.05)
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
    with own_service(expire=YEAR, with_signatures=False) as served:
        served.stop()
        path = served.service.settings.audit_path
    written = [entry.subject_id for entry in read_log(path)]
    with SqliteGallery.open_existing(tmp_path / "own.db") as gallery:
        left = sorted(gallery.subject_ids(), key=int)
    assert len(written) % 20 == 0
    assert [*written, *left] == [str(number) for number in range(100)]


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
