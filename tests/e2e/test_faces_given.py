"""Faces that the caller gives, small faces next to large ones, and limits by role, on real portraits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

import verifykit as vk
from tests.helpers.drawn_signatures import write_signers
from verifykit.encoder import Encoder
from verifykit.extraction import SampleOptions
from verifykit.image import load_image
from verifykit.modalities.face import FaceDetector
from verifykit.types import Detection, Image


@pytest.fixture
def alice(encoder: Encoder, portraits: Mapping[str, Path]) -> vk.Verifier:
    """A verifier in whose gallery in memory one person is enrolled."""
    verifier = vk.Verifier(encoder)
    verifier.enroll("a", portraits["person_a_1"])
    return verifier


def detected(verifier: vk.Verifier, image: Image | Path) -> Detection:
    found = verifier.extract(image, quality="warn", multi_face="largest").detection
    assert found is not None
    return found


def scaled(image: Image, factor: float) -> Image:
    resized = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)


def beside(large: Image, small: Image, size: tuple[int, int] = (960, 1280)) -> Image:
    """A grey image with a large portrait on its left and a small one on its right."""
    canvas = np.full((*size, 3), 127, np.uint8)
    canvas[: large.shape[0], : large.shape[1]] = large
    canvas[100 : 100 + small.shape[0], -small.shape[1] - 60 : -60] = small
    return canvas


# faces=


def test_landmarks_align_straight_and_no_detector_has_seen_the_face(
    alice: vk.Verifier, portraits: Mapping[str, Path]
) -> None:
    image = portraits["person_a_2"]
    found = alice.verify("a", image)
    for face in (found.detections[0], found.detections[0].landmarks_px):
        given = alice.verify("a", image, faces=face)
        assert given.score == pytest.approx(found.score, abs=1e-6)
        assert given.warnings == ("not_detected",)
        assert given.detections[0].score is None
        assert given.detections[0].landmarks_px == found.detections[0].landmarks_px
        assert given.to_dict()["detections"][0]["score"] is None


def test_a_box_is_searched_and_has_the_detectors_score(
    alice: vk.Verifier, portraits: Mapping[str, Path]
) -> None:
    image = portraits["person_a_2"]
    left, top, width, height = detected(alice, image).box_px
    given = alice.verify("a", image, faces=(left + 0.1 * width, top, width, 1.1 * height))
    assert given
    assert given.warnings == ()
    score = given.detections[0].score
    assert score is not None
    assert score > 0.9
    assert abs(given.detections[0].box_px[0] - left) < 0.1 * width


def test_a_face_that_is_too_small_to_be_found_is_found_at_its_box(
    alice: vk.Verifier, portraits: Mapping[str, Path]
) -> None:
    image = load_image(portraits["person_a_2"])
    whole = alice.extract(image)
    assert whole.detection is not None
    small = scaled(
        image, 4.5 / (whole.detection.landmarks_px[1][0] - whole.detection.landmarks_px[0][0])
    )
    factor = small.shape[1] / image.shape[1]
    with pytest.raises(vk.AcquisitionError) as missed:
        alice.extract(small, quality="warn")
    assert missed.value.reason == "no_face"
    box_px = tuple(factor * value for value in whole.detection.box_px)
    given = alice.extract(small, faces=box_px, quality="warn")
    assert "face_too_small" in given.reasons
    expected = np.array(whole.detection.landmarks_px) * factor
    assert given.detection is not None
    assert np.abs(np.array(given.detection.landmarks_px) - expected).max() < 1.5
    with pytest.raises(vk.AcquisitionError) as refused:
        alice.extract(small, faces=box_px)
    assert refused.value.reason == "face_too_small"


def test_a_box_without_a_face_is_refused_as_no_face(
    alice: vk.Verifier, portraits: Mapping[str, Path]
) -> None:
    image = beside(load_image(portraits["person_a_2"]), np.full((9, 9, 3), 127, np.uint8))
    with pytest.raises(vk.AcquisitionError, match=r"given box \(1000, 700, 100, 100\)") as caught:
        alice.verify("a", image, faces=(1000, 700, 100, 100))
    assert caught.value.reason == "no_face"


@pytest.mark.parametrize("box_px", [(5000, 0, 50, 50), (-200, 0, 50, 50), (0, 1e9, 50, 50)])
def test_a_box_outside_the_image_is_an_input_error(
    alice: vk.Verifier, portraits: Mapping[str, Path], box_px: tuple[float, ...]
) -> None:
    found = detected(alice, portraits["person_a_1"])
    points = np.array(found.landmarks_px) + 10 * np.array(box_px[:2])
    for face in (box_px, points):
        with pytest.raises(vk.InputError, match="outside the image") as caught:
            alice.extract(portraits["person_a_1"], faces=face)
        assert not isinstance(caught.value, vk.AcquisitionError)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_face_is_aligned_by_its_landmarks_and_found_at_its_box(
    alice: vk.Verifier, portraits: Mapping[str, Path], quarters: int
) -> None:
    image = np.ascontiguousarray(np.rot90(load_image(portraits["person_a_2"]), quarters))
    found = detected(alice, image)
    options = SampleOptions(quality="warn")
    (upright,) = alice.encoder.extractor.samples(image, options)
    for faces in (found.landmarks_px, found.box_px):
        assert alice.verify("a", image, faces=faces)
        with pytest.raises(vk.AcquisitionError) as caught:
            alice.verify("a", image, faces=faces, turned="error")
        assert caught.value.reason == "turned"
    assert upright.quality["turned_deg"] == -90 * quarters % 360


def test_several_given_faces_are_all_used_in_their_order(
    alice: vk.Verifier, portraits: Mapping[str, Path]
) -> None:
    alice.enroll("b", portraits["person_b_1"])
    parts = [load_image(portraits[name]) for name in ("person_a_2", "person_b_2")]
    image = beside(parts[0], parts[1], (1100, 1600))
    faces = [
        sample.detection for sample in alice.encoder.extractor.samples(image, SampleOptions("all"))
    ]
    assert len(faces) == 2
    found = alice.identify(image, faces=[face.box_px for face in reversed(faces) if face])
    assert {each.subject_id for each in found} == {"a", "b"}
    for subject in ("a", "b"):
        assert alice.verify(subject, image, faces=faces)
    with pytest.raises(vk.InputError, match="2 faces were given"):
        alice.extract(image, faces=faces)


def test_compare_takes_a_face_for_each_image(
    alice: vk.Verifier, portraits: Mapping[str, Path]
) -> None:
    pair = portraits["person_a_1"], portraits["person_a_2"]
    found = alice.compare(*pair)
    given = alice.compare(*pair, faces=(None, found.detections[1]))
    assert given.score == pytest.approx(found.score, abs=1e-6)
    assert [each.score is None for each in given.detections] == [False, True]
    for wrong in (found.detections[:1], found.detections[0].box_px):
        with pytest.raises(vk.InputError, match="each of the 2 images"):
            alice.compare(*pair, faces=wrong)


def test_enroll_takes_a_face_for_each_image(
    alice: vk.Verifier, portraits: Mapping[str, Path]
) -> None:
    images = [portraits["person_a_1"], portraits["person_a_2"]]
    faces = [detected(alice, image) for image in images]
    report = alice.enroll("c", images, faces=[None, faces[1]])
    assert len(report.accepted) == 2
    assert [each for each in report.warnings if "not_detected" in each]
    alone = alice.enroll("d", images[0], faces=faces[0].box_px)
    assert not any("not_detected" in each for each in alone.warnings)
    report = alice.enroll("e", images, faces=[(0, 0, 8, 8), None])
    assert [each.reason for each in report.refused] == ["no_face"]
    for wrong in ([faces[0]], [[faces[0], faces[0]], None], 5, [None] * 3):
        with pytest.raises(vk.InputError):
            alice.enroll("f", images, faces=wrong)
    with pytest.raises(vk.SubjectNotFoundError):
        alice.gallery.get("f")


def test_the_crop_that_is_kept_is_around_the_given_face(
    encoder: Encoder, portraits: Mapping[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("cryptography")
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)).hex().encode())
    key.chmod(0o600)
    verifier = vk.Verifier(encoder, tmp_path / "g.db", key=str(key), keep_crops=True)
    image = load_image(portraits["person_a_1"])
    report = verifier.enroll("a", image, faces=detected(verifier, image).landmarks_px)
    assert report.accepted == ("image 1",)
    verifier.gallery.close()


def test_models_without_faces_take_none(tmp_path: Path) -> None:
    verifier = vk.Verifier("signature")
    image = next(iter(write_signers(tmp_path).rglob("*.png")))
    with pytest.raises(vk.InputError, match="models of faces"):
        verifier.extract(image, faces=(0, 0, 10, 10))


# A small face next to a large one


def test_a_face_of_less_than_a_quarter_of_the_area_does_not_count(
    alice: vk.Verifier, portraits: Mapping[str, Path]
) -> None:
    large = cv2.resize(load_image(portraits["person_a_2"]), (700, 840))
    other = load_image(portraits["person_b_1"])
    near, far = (cv2.resize(other, size) for size in ((500, 600), (210, 252)))
    with pytest.raises(vk.AcquisitionError) as caught:
        alice.verify("a", beside(large, near))
    assert caught.value.reason == "several_faces"
    decision = alice.verify("a", beside(large, far))
    assert decision
    assert decision.warnings == ("smaller_faces",)
    report = alice.enroll("b", beside(large, far))
    assert any("smaller_faces" in warning for warning in report.warnings)
    with pytest.raises(vk.AcquisitionError) as every:
        alice.verify("a", beside(large, far), second_face_share=0.0)
    assert every.value.reason == "several_faces"
    assert alice.verify("a", beside(large, far), multi_face="largest").warnings == ()


def test_the_share_is_an_option_of_the_verifier_and_is_checked(
    encoder: Encoder, portraits: Mapping[str, Path]
) -> None:
    large = cv2.resize(load_image(portraits["person_a_2"]), (700, 840))
    image = beside(large, cv2.resize(load_image(portraits["person_b_1"]), (210, 252)))
    with pytest.raises(vk.AcquisitionError):
        vk.Verifier(encoder, second_face_share=0.0).extract(image)
    for wrong in (-0.1, 1.1, float("nan"), "0.5", True):
        with pytest.raises(vk.InputError, match="second_face_share"):
            vk.Verifier(encoder, second_face_share=wrong)  # type: ignore[arg-type]
    exact = vk.Verifier(encoder, second_face_share=Fraction(1, 4))  # type: ignore[arg-type]
    assert json.dumps(exact.sample_options.second_face_share) == "0.25"


def test_a_small_face_next_to_a_large_one_is_found_with_all(
    alice: vk.Verifier, portraits: Mapping[str, Path]
) -> None:
    alice.enroll("b", portraits["person_b_1"])
    large = cv2.resize(load_image(portraits["person_b_2"]), (760, 900))
    image = beside(large, cv2.resize(load_image(portraits["person_a_2"]), (36, 43)))
    detector = alice.encoder.extractor.detector
    assert isinstance(detector, FaceDetector)
    assert len(detector.detect(image)) == 1  # at 640 px
    found = alice.identify(image, multi_face="all", quality="warn", threshold=-1.0, limit=1)
    assert len(found) == 2
    assert min(each.detection.box_px[2] for each in found if each.detection) < 60
    assert len(alice.identify(image, threshold=-1.0, limit=1)) == 1


def test_parts_of_a_large_face_are_no_further_faces(
    encoder: Encoder, portraits: Mapping[str, Path]
) -> None:
    for name in ("person_a_2", "person_b_2", "biden", "obama"):
        image = load_image(portraits[name])
        factor = 1280 / max(image.shape[:2])
        large = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        one = encoder.extractor.samples(large, SampleOptions("largest", "warn"))
        every = encoder.extractor.samples(large, SampleOptions("all", "warn"))
        assert len(every) == len(one), name


# Limits by role


def clipped(verifier: vk.Verifier, image: Image) -> Image:
    left, _, width, _ = detected(verifier, image).box_px
    return np.ascontiguousarray(image[:, : round(left + 0.55 * width)])


def overexposed(verifier: vk.Verifier, image: Image) -> Image:
    return np.asarray(np.minimum(image.astype(float) * 3.5, 255), np.uint8)


@pytest.mark.parametrize(("change", "reason"), [(clipped, "clipped"), (overexposed, "too_bright")])
def test_what_refuses_a_reference_only_warns_of_a_probe(
    alice: vk.Verifier, portraits: Mapping[str, Path], change: object, reason: str
) -> None:
    assert callable(change)
    image = change(alice, load_image(portraits["person_a_2"]))
    for work in (
        lambda: alice.enroll("b", image),
        lambda: alice.extract(image),
    ):
        with pytest.raises(vk.AcquisitionError) as caught:
            work()
        assert caught.value.reason == reason
    assert reason in alice.verify("a", image).warnings
    assert reason in alice.compare(image, portraits["person_a_1"]).warnings
    assert reason in alice.compare(portraits["person_a_1"], image).warnings
    assert all(reason in each.warnings for each in alice.identify(image, threshold=-1.0))
    assert reason in alice.extract(image, role="probe").reasons
    assert any(reason in warning for warning in alice.enroll("b", image, quality="warn").warnings)


def test_what_hides_the_face_refuses_a_probe_too(
    alice: vk.Verifier, portraits: Mapping[str, Path]
) -> None:
    image = load_image(portraits["person_a_2"])
    dark = np.asarray(image * 0.05, np.uint8)
    blurred = np.asarray(cv2.GaussianBlur(image, (0, 0), image.shape[1] / 20), np.uint8)
    for weak, reason in ((dark, "too_dark"), (blurred, "too_blurred")):
        face = detected(alice, image)
        for work in (
            lambda weak=weak, face=face: alice.verify("a", weak, faces=face),
            lambda weak=weak, face=face: alice.enroll("b", weak, faces=face),
        ):
            with pytest.raises(vk.AcquisitionError) as caught:
                work()
            assert caught.value.reason == reason


def test_an_unknown_role_is_an_input_error(
    alice: vk.Verifier, portraits: Mapping[str, Path]
) -> None:
    with pytest.raises(vk.InputError, match="role"):
        alice.extract(portraits["person_a_1"], role="reference")  # type: ignore[arg-type]
