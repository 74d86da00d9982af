"""The methods of Verifier on a fake encoder."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import verifykit as vk
from tests.helpers.fake_encoder import encode, encoder, solid_image
from tests.helpers.model_specs import plain_spec
from verifykit.errors import shortened


@pytest.fixture
def verifier() -> vk.Verifier:
    verifier = vk.Verifier(encoder())
    verifier.enroll("a", solid_image(255, 0, 0), {"team": "red"})
    verifier.enroll("b", [solid_image(0, 255, 0), solid_image(20, 235, 0)])
    return verifier


def test_verify_is_the_cosine_against_the_threshold(verifier: vk.Verifier) -> None:
    probe = solid_image(255, 100, 0)
    decision = verifier.verify("a", probe)
    expected = encode([probe])[0] @ encode([solid_image(255, 0, 0)])[0]
    assert decision.score == pytest.approx(float(expected), abs=1e-6)
    assert decision.threshold == 0.4
    assert decision.fmr == 1e-4
    assert decision.attack == "random_forgery"
    assert decision.subject_id == "a"
    assert decision.match is True


def test_a_decision_is_as_true_as_its_match(verifier: vk.Verifier) -> None:
    assert verifier.verify("a", solid_image(255, 0, 0))
    assert not verifier.verify("a", solid_image(0, 255, 0))


def test_verify_of_a_subject_that_is_not_enrolled(verifier: vk.Verifier) -> None:
    with pytest.raises(vk.SubjectNotFoundError, match="zoe"):
        verifier.verify("zoe", solid_image(1, 2, 3))


def test_compare_does_not_depend_on_the_order_and_stores_nothing(verifier: vk.Verifier) -> None:
    left, right = solid_image(200, 50, 3), solid_image(90, 120, 7)
    there, back = verifier.compare(left, right), verifier.compare(right, left)
    assert there.score == back.score
    assert there.subject_id is None
    assert len(verifier.gallery) == 2


def test_identify_is_best_first_and_only_over_the_threshold(verifier: vk.Verifier) -> None:
    candidates = verifier.identify(solid_image(200, 120, 0), threshold=0.3)
    assert [candidate.subject_id for candidate in candidates] == ["a", "b"]
    assert candidates[0].score > candidates[1].score
    assert candidates[0].metadata == {"team": "red"}
    assert candidates[0].threshold == 0.3
    assert candidates[0].fmr is None
    assert verifier.identify(solid_image(0, 0, 255)) == []
    assert len(verifier.identify(solid_image(200, 120, 0), threshold=-1.0, limit=1)) == 1


def test_identify_and_verify_give_the_same_score(verifier: vk.Verifier) -> None:
    probe = solid_image(30, 220, 90)
    (found,) = [c for c in verifier.identify(probe, threshold=-1.0) if c.subject_id == "b"]
    assert found.score == verifier.verify("b", probe).score


def test_remove_erases(verifier: vk.Verifier) -> None:
    assert verifier.remove("b") == 2
    with pytest.raises(vk.SubjectNotFoundError):
        verifier.verify("b", solid_image(0, 255, 0))
    assert verifier.identify(solid_image(0, 255, 0)) == []


def test_extract_gives_a_read_only_unit_embedding(verifier: vk.Verifier) -> None:
    template = verifier.extract(solid_image(9, 8, 7))
    assert template.embedding.shape == (4,)
    assert template.embedding.dtype == np.float32
    assert np.linalg.norm(template.embedding) == pytest.approx(1.0, abs=1e-6)
    assert template.spec_digest == verifier.spec.digest
    with pytest.raises(ValueError, match="read-only"):
        template.embedding[0] = 1.0


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"fmr": 1e-4, "threshold": 0.4}, vk.InputError),
        ({"fmr": 0.0}, vk.InputError),
        ({"fmr": 1.0}, vk.InputError),
        ({"threshold": 1.5}, vk.InputError),
        ({"threshold": float("nan")}, vk.InputError),
        ({"threshold": "0.4"}, vk.InputError),
        ({"threshold": True}, vk.InputError),
        ({"fmr": "1e-4"}, vk.InputError),
        ({"fmr": 1e-9}, vk.CalibrationError),
    ],
)
def test_invalid_thresholds_are_refused(
    verifier: vk.Verifier, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        vk.Verifier(encoder(), **options)
    for verb in (
        lambda: verifier.verify("a", solid_image(1, 2, 3), **options),
        lambda: verifier.compare(solid_image(1, 2, 3), solid_image(1, 2, 3), **options),
        lambda: verifier.identify(solid_image(1, 2, 3), **options),
        lambda: verifier.enroll("d", solid_image(1, 2, 3), **options),
    ):
        with pytest.raises(error):
            verb()
    assert len(verifier.gallery) == 2


def test_a_threshold_of_zero_is_applied() -> None:
    verifier = vk.Verifier(encoder(), threshold=0.0)
    decision = verifier.compare(solid_image(255, 0, 0), solid_image(0, 255, 0))
    assert decision.threshold == 0.0
    assert decision.match
    assert decision.fmr is None


def test_a_call_overrides_the_verifier() -> None:
    verifier = vk.Verifier(encoder(), threshold=0.9)
    assert verifier.compare(solid_image(9, 9, 9), solid_image(9, 9, 9), fmr=1e-2).fmr == 1e-2
    verifier = vk.Verifier(encoder(), fmr=1e-2)
    assert (
        verifier.compare(solid_image(9, 9, 9), solid_image(9, 9, 9), threshold=0.1).threshold == 0.1
    )


def test_an_uncalibrated_model_enrolls_but_decides_only_by_a_bare_threshold() -> None:
    verifier = vk.Verifier(encoder(plain_spec(operating_points=(), default_fmr=None)))
    assert verifier.enroll("a", [solid_image(255, 0, 0), solid_image(0, 255, 0)]).warnings == ()
    with pytest.raises(vk.CalibrationError, match="threshold="):
        verifier.verify("a", solid_image(255, 0, 0))
    assert verifier.verify("a", solid_image(255, 0, 0), threshold=0.5)


def test_enrollment_reports_image_by_image(verifier: vk.Verifier, tmp_path: Path) -> None:
    text = tmp_path / "notes.jpg"
    text.write_text("not a picture")
    report = verifier.enroll("d", [solid_image(0, 0, 255), text, tmp_path / "absent.png"])
    assert report.accepted == ("image 1",)
    assert [(image.image, image.reason) for image in report.refused] == [
        (shortened(str(text)), "unreadable"),
        (shortened(str(tmp_path / "absent.png")), "unreadable"),
    ]
    assert report.template_count == 1
    assert report.to_dict()["refused"][0]["reason"] == "unreadable"


def test_enrollment_without_a_usable_image_stores_nothing(
    verifier: vk.Verifier, tmp_path: Path
) -> None:
    with pytest.raises(vk.ImageError):
        verifier.enroll("d", tmp_path / "absent.png")
    with pytest.raises(vk.ImageError, match="none of the 2 images of 'd'"):
        verifier.enroll("d", [tmp_path / "absent.png", b""])
    with pytest.raises(vk.InputError, match="at least one"):
        verifier.enroll("d", [])
    assert list(verifier.gallery.subject_ids()) == ["a", "b"]


@pytest.mark.parametrize("subject_id", ["", "x" * 256, "a\nb", "\x00", "é" * 128])
def test_subject_ids_that_are_refused(verifier: vk.Verifier, subject_id: str) -> None:
    with pytest.raises(vk.InputError):
        verifier.enroll(subject_id, solid_image(0, 0, 255))
    assert len(verifier.gallery) == 2


@pytest.mark.parametrize("subject_id", ["a/b", "../c", "😀", "x" * 255, "José Núñez"])
def test_subject_ids_that_work(verifier: vk.Verifier, subject_id: str) -> None:
    verifier.enroll(subject_id, solid_image(0, 0, 255))
    assert verifier.verify(subject_id, solid_image(0, 0, 255))


def test_enrollment_warns_of_images_that_disagree(verifier: vk.Verifier) -> None:
    report = verifier.enroll(
        "d", [solid_image(0, 0, 255), solid_image(0, 10, 245), solid_image(200, 0, 0)]
    )
    odd = [warning for warning in report.warnings if "does not look like" in warning]
    assert len(odd) == 1
    assert odd[0].startswith("image 3")
    later = verifier.enroll("d", solid_image(0, 200, 0))
    assert any("does not look like" in warning for warning in later.warnings)


def test_enrollment_warns_of_a_look_alike(verifier: vk.Verifier) -> None:
    report = verifier.enroll("d", solid_image(250, 10, 10))
    assert [warning for warning in report.warnings if "looks like 'a'" in warning]
    assert verifier.enroll("e", solid_image(0, 0, 255)).warnings == ()


def test_all_faces_are_never_enrolled_as_one(verifier: vk.Verifier) -> None:
    with pytest.raises(vk.InputError, match="several people as one"):
        verifier.enroll("d", solid_image(0, 0, 255), multi_face="all")


def test_another_model_is_refused(tmp_path: Path) -> None:
    vk.Verifier(encoder(), gallery=tmp_path / "g.db").enroll("a", solid_image(1, 2, 3))
    other = encoder(plain_spec(weights_sha256="f" * 64))
    with pytest.raises(vk.TemplateMismatchError):
        vk.Verifier(other, gallery=tmp_path / "g.db")


def test_paths_bytes_files_and_arrays_are_all_images(tmp_path: Path) -> None:
    from PIL import Image as Pillow

    path = tmp_path / "p.png"
    Pillow.fromarray(solid_image(10, 200, 30)).save(path)
    verifier = vk.Verifier(encoder())
    with path.open("rb") as file:
        images = [path, str(path), path.read_bytes(), file, solid_image(10, 200, 30)]
        report = verifier.enroll("a", images)
    assert len(report.accepted) == 5
    for single in (bytearray(path.read_bytes()), memoryview(path.read_bytes())):
        assert verifier.enroll("b", single).accepted == ("image 1",)
    for image in (path, str(path), path.read_bytes(), solid_image(10, 200, 30)):
        assert verifier.verify("a", image).score == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["fmr", "multi_face", "quality"])
def test_options_are_checked(verifier: vk.Verifier, name: str) -> None:
    values = {"fmr": 2.0, "multi_face": "some", "quality": "lax"}
    with pytest.raises(vk.InputError, match=name):
        verifier.verify("a", solid_image(1, 2, 3), **{name: values[name]})
    with pytest.raises(vk.InputError, match=name):
        vk.Verifier(encoder(), **{name: values[name]})
    for limit in (0, 1.5, "5"):
        with pytest.raises(vk.InputError, match="limit"):
            verifier.identify(solid_image(1, 2, 3), limit=limit)


def test_an_open_encoder_keeps_its_provider() -> None:
    opened = encoder()
    assert vk.Verifier(opened, providers="cpu").encoder is opened
    with pytest.raises(vk.InputError, match="open on 'cpu'"):
        vk.Verifier(opened, providers="cuda")
    with pytest.raises(vk.InputError, match=r"Encoder\.open"):
        vk.Verifier(opened, threads=1)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_one_verifier_for_many_threads(kind: str, tmp_path: Path) -> None:
    verifier = vk.Verifier(encoder(), gallery=None if kind == "memory" else tmp_path / "g.db")
    verifier.enroll("a", solid_image(255, 0, 0))

    def work(number: int) -> None:
        for turn in range(15):
            own = f"{number}-{turn}"
            verifier.enroll(own, solid_image(0, 255 - number, 0))
            assert verifier.verify("a", solid_image(255, 0, 0)).score == pytest.approx(1.0)
            assert verifier.identify(solid_image(255, 0, 0), limit=1)[0].subject_id == "a"
            assert verifier.verify(own, solid_image(0, 255 - number, 0))
            if turn % 3 == 0:
                verifier.remove(own)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(6)))
    assert len(verifier.gallery) == 1 + 6 * 10
