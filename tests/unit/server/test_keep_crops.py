"""Crops in the service: kept where the operator says so, in encrypted galleries only, shown to nobody."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest

from tests.unit.server.conftest import OwnService
from tests.unit.server.running import files
from verifykit.errors import GalleryError
from verifykit.gallery import SqliteGallery

KEY = secrets.token_bytes(32)


def test_both_galleries_keep_them(
    own_service: OwnService,
    tmp_path: Path,
    pictures: dict[str, bytes],
    signatures: dict[str, bytes],
) -> None:
    with own_service(key=KEY, keep_crops=True) as served:
        sent = {"face": pictures["person_a_1"], "signature": signatures["ada_1"]}
        for model, picture in sent.items():
            answer = served.client.put(
                "/v1/subjects/ada", params={"model": model}, files=files(image=picture)
            )
            assert answer.status_code == 201, answer.text
            shown = served.client.get("/v1/subjects/ada", params={"model": model}).json()
            assert "crop" not in json.dumps(shown)
    for name in ("own.db", "own.signatures.db"):
        with SqliteGallery.open_existing(tmp_path / name, key=KEY) as gallery:
            (crop,) = gallery.crops("ada")
            assert crop.startswith(b"\x89PNG")


def test_it_does_not_start_with_a_gallery_in_clear(own_service: OwnService) -> None:
    with (
        pytest.raises(GalleryError, match="kept in an encrypted gallery only"),
        own_service(keep_crops=True),
    ):
        pass
