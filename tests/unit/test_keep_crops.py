"""keep_crops: off by default, in encrypted galleries only, one crop for each template."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import verifykit as vk
from tests.helpers.fake_encoder import encoder, solid_image
from verifykit.gallery import SqliteGallery
from verifykit.image import load_image

KEY = bytes(range(32))


def opened(path: Path) -> SqliteGallery:
    return SqliteGallery.open_existing(path, key=KEY)


def test_no_crops_are_kept_by_default(tmp_path: Path) -> None:
    path = tmp_path / "g.db"
    vk.Verifier(encoder(), path, key=KEY).enroll("a", solid_image(1, 2, 3))
    with opened(path) as gallery:
        assert gallery.crops("a") == []
        assert [(e.template_count, e.crop_count) for e in gallery.enrolments()] == [(1, 0)]


@pytest.mark.parametrize("on_existing", ["append", "error"])
def test_a_crop_is_kept_for_each_accepted_image(tmp_path: Path, on_existing: str) -> None:
    path = tmp_path / "g.db"
    verifier = vk.Verifier(encoder(), path, key=KEY, keep_crops=True)
    images = [solid_image(1, 2, 3), b"no image", solid_image(4, 5, 6)]
    report = verifier.enroll("a", images, on_existing=on_existing)  # type: ignore[arg-type]
    assert len(report.refused) == 1
    verifier.enroll("a", solid_image(7, 8, 9))
    vk.Verifier(encoder(), path, key=KEY).enroll("a", solid_image(10, 11, 12))
    with opened(path) as gallery:
        kept = [load_image(crop) for crop in gallery.crops("a")]
        assert np.array_equal(
            kept, [solid_image(1, 2, 3), solid_image(4, 5, 6), solid_image(7, 8, 9)]
        )
        assert [(e.template_count, e.crop_count) for e in gallery.enrolments()] == [(4, 3)]
        assert gallery.check() == []


def test_a_file_object_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_png())
    verifier = vk.Verifier(encoder(), tmp_path / "g.db", key=KEY, keep_crops=True)
    with (tmp_path / "a.png").open("rb") as file:
        report = verifier.enroll("a", file)
    assert report.accepted == (str(tmp_path / "a.png"),)
    with opened(tmp_path / "g.db") as gallery:
        assert len(gallery.crops("a")) == 1


def test_remove_erases_crops(tmp_path: Path) -> None:
    path = tmp_path / "g.db"
    verifier = vk.Verifier(encoder(), path, key=KEY, keep_crops=True)
    verifier.enroll("a", solid_image(1, 2, 3))
    verifier.remove("a")
    with opened(path) as gallery:
        assert gallery.info()["crop_count"] == 0
        with pytest.raises(vk.SubjectNotFoundError):
            gallery.crops("a")


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_an_unencrypted_gallery_is_refused(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "g.db" if kind == "file" else None
    with pytest.raises(vk.GalleryError, match="kept in an encrypted gallery only"):
        vk.Verifier(encoder(), place, keep_crops=True)


def _png() -> bytes:
    from verifykit.enrollment import enrollment_crop

    return enrollment_crop(solid_image(1, 2, 3), None)
