"""The service on a gallery store of another package."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import dummy_store
from tests.unit.server.running import running
from verifykit.server.settings import ServerSettings


def test_a_registered_store_is_served(
    face_model: Path,
    pictures: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert face_model.is_file()
    dummy_store.install(tmp_path, monkeypatch)
    settings = ServerSettings(
        f"dummy://staff/{tmp_path.name}",
        state=str(tmp_path / "state"),
        audit=str(tmp_path / "audit.jsonl"),
    )
    image = {"image": ("a.jpg", pictures["person_a_1"])}
    with running(settings) as served:
        enrolled = served.client.put("/v1/subjects/ada", files=image)
        assert enrolled.status_code == 201, enrolled.text
        listed = served.client.get("/v1/subjects").json()
        assert [each["subject_id"] for each in listed["subjects"]] == ["ada"]
        probe = {"image": ("a.jpg", pictures["person_a_2"])}
        answer = served.client.post("/v1/subjects/ada/verify", files=probe)
        assert answer.json()["match"] is True, answer.text
        assert served.client.delete("/v1/subjects/ada").json()["removed_templates"] == 1
