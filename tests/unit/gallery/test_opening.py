"""What an application may write as ``gallery=``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.model_specs import face_spec
from verifykit.errors import InputError, TemplateMismatchError
from verifykit.gallery import MemoryGallery, SqliteGallery, open_gallery

SPEC = face_spec(fusion="mean")


def test_nothing_is_a_gallery_in_memory() -> None:
    gallery = open_gallery(None, SPEC)
    assert isinstance(gallery, MemoryGallery)
    assert (gallery.spec_digest, gallery.fusion) == (SPEC.digest, "mean")


def test_a_path_is_a_file_of_this_model(tmp_path: Path) -> None:
    for location in (tmp_path / "a.db", str(tmp_path / "a.db")):
        gallery = open_gallery(location, SPEC)
        assert isinstance(gallery, SqliteGallery)
        assert (gallery.spec_digest, gallery.fusion, gallery.model) == (
            SPEC.digest,
            "mean",
            SPEC.name,
        )
        gallery.close()
    with pytest.raises(TemplateMismatchError, match=SPEC.name):
        open_gallery(tmp_path / "a.db", replace(SPEC, name="other", weights_sha256="e" * 64))


def test_an_object_with_the_protocol_is_taken_if_it_is_the_models() -> None:
    gallery = MemoryGallery(spec_digest=SPEC.digest, embedding_size=4, fusion="mean")
    assert open_gallery(gallery, SPEC) is gallery
    with pytest.raises(TemplateMismatchError, match="enrol"):
        open_gallery(gallery, replace(SPEC, weights_sha256="e" * 64))
    with pytest.raises(InputError, match="fusion='max'"):
        open_gallery(gallery, replace(SPEC, fusion="max"))


@pytest.mark.parametrize("location", ["", "ftp://host/gallery", b"a.db", 7, object(), {}])
def test_anything_else_is_refused(
    location: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        open_gallery(location, SPEC)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
