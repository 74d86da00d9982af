"""A gallery whose file is made when it is needed: until then it is an empty one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import verifykit as vk
from tests.helpers.fake_encoder import encoder
from tests.helpers.fake_encoder import solid_image as picture
from verifykit.gallery import PortableGallery, open_gallery
from verifykit.server.late_gallery import LateGallery


@pytest.fixture
def gallery(tmp_path: Path) -> LateGallery:
    return LateGallery(str(tmp_path / "late.db"), encoder().spec)


def test_without_a_file_it_is_empty_and_reading_makes_none(gallery: LateGallery) -> None:
    assert isinstance(gallery, PortableGallery)
    assert len(gallery) == 0
    assert list(gallery.subject_ids()) == []
    rows = encoder().encode([picture(1, 2, 3), picture(3, 2, 1)])
    assert gallery.search(rows, 5, -1.0) == [[], []]
    for ask in (gallery.get, gallery.remove):
        with pytest.raises(vk.SubjectNotFoundError, match="'anna'"):
            ask("anna")
        with pytest.raises(vk.InputError):
            ask("\x00")
    with pytest.raises(vk.InputError, match="limit"):
        gallery.search(rows, 0, -1.0)
    with pytest.raises(vk.TemplateFormatError):
        gallery.search(np.ones((1, 7), np.float32), 5, -1.0)
    gallery.close()
    assert not gallery.path.exists()


def test_the_first_enrolment_makes_the_file(gallery: LateGallery) -> None:
    verifier = vk.Verifier(encoder(), gallery)
    verifier.enroll("anna", picture(255, 0, 0), on_existing="error")
    with pytest.raises(vk.SubjectExistsError):
        verifier.enroll("anna", picture(255, 0, 0), on_existing="error")
    verifier.enroll("anna", picture(255, 0, 0))
    assert gallery.path.exists()
    assert (len(gallery), list(gallery.subject_ids())) == (1, ["anna"])
    assert [found.subject_id for found in verifier.identify(picture(255, 0, 0))] == ["anna"]
    assert verifier.remove("anna") == 2
    gallery.close()


def test_a_file_that_another_process_made_is_found(gallery: LateGallery) -> None:
    assert len(gallery) == 0
    other = open_gallery(str(gallery.path), encoder().spec)
    vk.Verifier(encoder(), other).enroll("bob", picture(0, 0, 255))
    assert len(gallery) == 1
    assert len(gallery.get("bob").templates) == 1
    gallery.close()


def test_with_a_key_the_file_is_encrypted(tmp_path: Path) -> None:
    path, spec = str(tmp_path / "sealed.db"), encoder().spec
    gallery = LateGallery(path, spec, key=b"k" * 32)
    vk.Verifier(encoder(), gallery).enroll("anna", picture(255, 0, 0))
    gallery.close()
    assert b"anna" not in Path(path).read_bytes()
    for key in (None, b"x" * 32):
        with pytest.raises(vk.GalleryKeyError):
            LateGallery(path, spec, key=key)
    again = LateGallery(path, spec, key=b"k" * 32)
    assert list(again.subject_ids()) == ["anna"]
    again.close()


def test_a_file_of_another_model_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    vk.SqliteGallery(path, spec_digest="f" * 64, embedding_size=4).close()
    with pytest.raises(vk.TemplateMismatchError):
        LateGallery(str(path), encoder().spec)
