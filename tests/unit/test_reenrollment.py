"""From one model's gallery to the next, from kept crops; the old gallery stays as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import verifykit as vk
from tests.helpers import fake_encoder
from tests.helpers.fake_encoder import solid_image as picture
from tests.helpers.model_specs import plain_spec
from verifykit.encoder import Encoder
from verifykit.extraction import SampleExtractor, SampleOptions
from verifykit.gallery import SqliteGallery
from verifykit.reenrollment import needs_reenroll, plan_reenroll, reenroll
from verifykit.types import ImageLike, Sample

KEY = bytes(range(32))
NEW = replace(plain_spec(), name="new", weights_sha256="e" * 64)
LONG_AGO = 1_600_000_000


class Squeamish(SampleExtractor):
    """Takes no picture that is as good as black."""

    def samples(
        self, image: ImageLike, options: SampleOptions | None = None, **role: Any
    ) -> list[Sample]:
        if self.load(image).pixels.max() < 10 and (options or SampleOptions()).quality == "strict":
            raise vk.AcquisitionError("it is too dark", reason="too_dark")
        return super().samples(image, options, **role)


def new_encoder() -> Encoder:
    return Encoder(NEW, fake_encoder.encode, Squeamish(NEW.crop))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Ada with two crops, Bob with one of two, Cy with none, Dee and Eve with dark ones."""
    path = tmp_path / "old.db"
    keeping = vk.Verifier(fake_encoder.encoder(), path, key=KEY, keep_crops=True)
    forgetting = vk.Verifier(fake_encoder.encoder(), path, key=KEY)
    keeping.enroll("ada", [picture(255, 0, 0), picture(250, 9, 0)], {"team": "red"})
    keeping.enroll("bob", picture(0, 255, 0))
    forgetting.enroll("bob", picture(0, 250, 9))
    forgetting.enroll("cy", picture(0, 0, 255))
    keeping.enroll("dee", [picture(0, 0, 1), picture(90, 0, 90)])
    keeping.enroll("eve", picture(0, 1, 0))
    return path


def opened(path: Path) -> SqliteGallery:
    return SqliteGallery.open_existing(path, key=KEY)


def target(path: Path) -> SqliteGallery:
    return SqliteGallery(
        path, spec_digest=NEW.digest, embedding_size=4, fusion=NEW.fusion, model="new", key=KEY
    )


def test_a_gallery_needs_it_when_it_is_another_models(old: Path) -> None:
    assert needs_reenroll(old, NEW, key=KEY)
    assert not needs_reenroll(str(old), plain_spec(), key=KEY)
    with pytest.raises(vk.GalleryError):
        needs_reenroll(old.with_name("missing.db"), NEW)


def test_the_plan_says_who_must_come_again(old: Path) -> None:
    with opened(old) as gallery:
        plan = plan_reenroll(gallery, NEW)
        assert (plan.needed, plan.model, plan.new_model) == (True, "test-plain", "new")
        assert [each.subject_id for each in plan.must_come] == ["cy"]
        counts = [(e.subject_id, e.crop_count, e.template_count) for e in plan.from_crops]
        assert counts == [("ada", 2, 2), ("bob", 1, 2), ("dee", 2, 2), ("eve", 1, 1)]
        assert not plan_reenroll(gallery, plain_spec()).needed


def test_the_new_gallery_is_made_of_crops(old: Path, tmp_path: Path) -> None:
    before = old.read_bytes()
    told: list[tuple[int, int]] = []
    with opened(old) as gallery, target(tmp_path / "new.db") as new:
        report = reenroll(gallery, new_encoder(), new, on_subject=lambda *done: told.append(done))
        assert (report.subject_count, report.template_count, report.skipped_count) == (3, 4, 0)
        assert [(r.subject_id, r.crop, r.reason) for r in report.refused] == [
            ("dee", 1, "too_dark"),
            ("eve", 1, "too_dark"),
        ]
        assert report.must_come == ("cy", "eve")
        assert told == [(number, 5) for number in range(1, 6)]
        ada = new.get("ada")
        assert ada.metadata == {"team": "red"}
        assert {t.spec_digest for t in ada.templates} == {NEW.digest}
        again = vk.Verifier(new_encoder(), new)
        assert again.verify("ada", picture(255, 0, 0), threshold=0.999)
        assert not again.verify("bob", picture(255, 0, 0), threshold=0.9)
        assert new.crops("ada") == gallery.crops("ada")
        assert new.crops("dee") == gallery.crops("dee")[1:]
        assert new.check() == []
    assert old.read_bytes() == before


def test_the_time_of_the_last_enrolment_goes_along(old: Path, tmp_path: Path) -> None:
    with SqliteGallery.open_existing(old, key=KEY, read_only=False) as gallery:
        from verifykit.gallery import checked_entry

        entry = checked_entry(
            "zoe",
            [vk.Template(np.eye(4, dtype=np.float32)[0], gallery.spec_digest)],
            None,
            spec_digest=gallery.spec_digest,
            embedding_size=4,
            crops=gallery.crops("bob"),
        )
        gallery.add_entries([replace(entry, enrolled_at=LONG_AGO)], "error")
        with target(tmp_path / "new.db") as new:
            reenroll(gallery, new_encoder(), new)
            assert new.get("zoe").enrolled_at == LONG_AGO
            assert new.get("ada").enrolled_at == gallery.get("ada").enrolled_at


def test_what_was_interrupted_is_continued(old: Path, tmp_path: Path) -> None:
    class UnpluggedError(Exception):
        pass

    def unplug(done: int, count: int) -> None:
        if done == 2:
            raise UnpluggedError

    with opened(old) as gallery:
        with target(tmp_path / "new.db") as new, pytest.raises(UnpluggedError):
            reenroll(gallery, new_encoder(), new, on_subject=unplug)
        with target(tmp_path / "new.db") as new:
            assert list(new.subject_ids()) == ["ada", "bob"]
            report = reenroll(gallery, new_encoder(), new)
            assert (report.subject_count, report.skipped_count) == (1, 2)
            assert report.must_come == ("cy", "eve")
            report = reenroll(gallery, new_encoder(), new, quality="warn")
            assert (report.subject_count, report.skipped_count, report.refused) == (1, 3, ())
            assert report.must_come == ("cy",)
            assert len(new.crops("dee")) == 1


def test_it_refuses_what_makes_no_sense(old: Path, tmp_path: Path) -> None:
    with opened(old) as gallery, target(tmp_path / "new.db") as new:
        with pytest.raises(vk.InputError, match="nothing need be enrolled again"):
            reenroll(new, new_encoder(), new)
        with pytest.raises(vk.TemplateMismatchError, match="choose another file"):
            reenroll(gallery, new_encoder(), gallery)
    clear = tmp_path / "clear.db"
    vk.Verifier(fake_encoder.encoder(), clear).enroll("ada", picture(255, 0, 0))
    with SqliteGallery.open_existing(clear) as gallery, target(tmp_path / "new.db") as new:
        with pytest.raises(vk.InputError, match="all subjects must be re-enrolled"):
            reenroll(gallery, new_encoder(), new)
        assert [each.subject_id for each in plan_reenroll(gallery, NEW).must_come] == ["ada"]
