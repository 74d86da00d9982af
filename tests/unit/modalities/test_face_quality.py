"""Quality measures against independent references, on real portraits degraded on purpose."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifykit.encoder import Encoder
from verifykit.extraction import SampleExtractor, SampleOptions
from verifykit.image import load_image
from verifykit.modalities.face.covered import measure_covered
from verifykit.modalities.face.crop import ARCFACE_112_PX
from verifykit.modalities.face.quality import (
    QualityLimits,
    face_reasons,
    measure_face,
    scale_and_rotation,
)
from verifykit.types import Detection, Image

LIMITS = QualityLimits()
# Eyes, nose and mouth corners in eye distances: right, down, away; measured, see quality.py.
FACE = np.array(
    [(-0.5, 0, 0), (0.5, 0, 0), (0, 0.498, -0.481), (-0.428, 0.978, 0), (0.428, 0.978, 0)]
)


@pytest.fixture(scope="module")
def extractor(face_model: Path) -> SampleExtractor:
    return Encoder.open(face_model, threads=2).extractor


@pytest.fixture(scope="module")
def portrait(portraits: Mapping[str, Path]) -> Image:
    """A large, sharp portrait; eyes 140 px apart."""
    return load_image(portraits["person_b_2"])


def measured(
    extractor: SampleExtractor, image: Image
) -> tuple[Mapping[str, float], tuple[str, ...]]:
    (sample,) = extractor.samples(np.ascontiguousarray(image), SampleOptions(quality="warn"))
    return sample.quality, sample.reasons


def seen_from(yaw: float, pitch: float, roll: float, eye_distance_px: float = 40.0) -> Detection:
    """The face tilted, then raised, then turned in space, and drawn without perspective."""
    y, p, r = np.radians([yaw, pitch, roll])
    turned = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    raised = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    tilted = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    points = (FACE @ (turned @ raised @ tilted).T)[:, :2] * eye_distance_px + 100
    return Detection((60, 60, 80, 100), tuple(map(tuple, points.tolist())), 0.9)


@pytest.mark.parametrize("flat", [False, True])
def test_scale_and_rotation_are_those_of_the_singular_values(flat: bool) -> None:
    """Also where one singular value is zero: landmarks on one line, as of a false face."""
    rng = np.random.default_rng(3)
    for _ in range(50):
        camera = rng.normal(size=(2, 3)) * 40.0
        if flat:
            camera[1] = camera[0] * rng.normal()
        left, scales, right = np.linalg.svd(camera, full_matrices=False)
        scale, rotation = scale_and_rotation(camera)
        assert scale == pytest.approx(scales.mean())
        assert np.allclose(rotation, left @ right, atol=1e-9)


def measures_of(detection: Detection) -> Mapping[str, float]:
    blank = np.full((250, 250, 3), 128, np.uint8)
    return measure_face(blank, detection, blank[:112, :112])


@given(st.floats(-60, 60), st.floats(-40, 40), st.floats(-45, 45), st.floats(10, 200))
def test_pose_is_found_again(yaw: float, pitch: float, roll: float, eye_distance_px: float) -> None:
    detection = seen_from(yaw, pitch, roll, eye_distance_px)
    found = measures_of(detection)
    right_eye, left_eye = np.array(detection.landmarks_px[:2])
    tilt = np.degrees(np.arctan2(*(left_eye - right_eye)[::-1]))
    assert found["yaw_deg"] == pytest.approx(yaw, abs=1e-4)
    assert found["pitch_deg"] == pytest.approx(pitch, abs=1e-4)
    assert found["roll_deg"] == pytest.approx(tilt, abs=1e-4)
    assert found["eye_distance_px"] == pytest.approx(eye_distance_px, rel=1e-6)


def test_signs_of_the_angles(extractor: SampleExtractor, portraits: Mapping[str, Path]) -> None:
    """Two portraits whose heads are turned, by eye: obama2 to the image's left, obama3 to its right."""
    left, _ = measured(extractor, load_image(portraits["obama2"]))
    right, _ = measured(extractor, load_image(portraits["obama3"]))
    assert left["yaw_deg"] < -10
    assert right["yaw_deg"] > 10


def test_a_portrait_tilted_and_mirrored(extractor: SampleExtractor, portrait: Image) -> None:
    plain, reasons = measured(extractor, portrait)
    assert reasons == ()
    mirrored, _ = measured(extractor, portrait[:, ::-1])
    assert mirrored["yaw_deg"] == pytest.approx(-plain["yaw_deg"], abs=3)
    assert mirrored["roll_deg"] == pytest.approx(-plain["roll_deg"], abs=2)
    height, width = portrait.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -15, 1)  # clockwise
    tilted, _ = measured(extractor, cv2.warpAffine(portrait, matrix, (width, height)))
    assert tilted["roll_deg"] == pytest.approx(plain["roll_deg"] + 15, abs=3)
    half, _ = measured(extractor, cv2.resize(portrait, None, fx=0.5, fy=0.5))
    assert half["eye_distance_px"] == pytest.approx(plain["eye_distance_px"] / 2, rel=0.05)


@pytest.mark.parametrize("kind", ["focus", "motion across", "motion along"])
def test_blur_lowers_sharpness_until_it_is_refused(
    extractor: SampleExtractor, portrait: Image, kind: str
) -> None:
    eyes_px = measured(extractor, portrait)[0]["eye_distance_px"]
    seen = []
    for share in (0.02, 0.04, 0.08):
        length = round(5 * share * eyes_px)
        blurred = {
            "focus": lambda share=share: cv2.GaussianBlur(portrait, (0, 0), share * eyes_px),
            "motion across": lambda length=length: cv2.blur(portrait, (length, 1)),
            "motion along": lambda length=length: cv2.blur(portrait, (1, length)),
        }[kind]()
        quality, reasons = measured(extractor, blurred)
        seen.append(quality["sharpness"])
    assert sorted(seen, reverse=True) == seen
    assert reasons == ("too_blurred",)


def test_sharpness_does_not_change_with_light(extractor: SampleExtractor, portrait: Image) -> None:
    plain, _ = measured(extractor, portrait)
    dim, _ = measured(extractor, (portrait * 0.5).astype(np.uint8))
    assert dim["sharpness"] == pytest.approx(plain["sharpness"], abs=0.02)
    assert dim["brightness"] == pytest.approx(plain["brightness"] / 2, rel=0.05)


def test_too_dark_and_too_bright(extractor: SampleExtractor, portrait: Image) -> None:
    _, reasons = measured(extractor, (portrait * 0.1).astype(np.uint8))
    assert "too_dark" in reasons
    quality, reasons = measured(extractor, np.minimum(portrait * 2.4, 255).astype(np.uint8))
    assert "too_bright" in reasons
    assert quality["bright_share"] > LIMITS.max_bright_share


def test_too_small(extractor: SampleExtractor, portrait: Image) -> None:
    eyes_px = measured(extractor, portrait)[0]["eye_distance_px"]
    scale = (LIMITS.min_eye_distance_px - 2) / eyes_px
    small = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, reasons = measured(extractor, small)
    assert "face_too_small" in reasons


def test_a_face_cut_by_the_edge(extractor: SampleExtractor, portrait: Image) -> None:
    (sample,) = extractor.samples(portrait)
    assert sample.quality["visible_share"] == 1.0
    left, top, width, height = (round(value) for value in sample.detection.box_px)
    for cut in (
        portrait[:, : left + round(0.6 * width)],
        portrait[:, left + round(0.4 * width) :],
        portrait[top + round(0.4 * height) :],
    ):
        quality, reasons = measured(extractor, cut)
        assert "clipped" in reasons
        assert 0.3 < quality["visible_share"] < LIMITS.min_visible_share


def test_visible_share_of_a_known_place() -> None:
    """Eyes on the image's edge, frontal: the crop's rows above 51.6 of 10 to 110 are outside."""
    at_edge = np.array(ARCFACE_112_PX) + np.array([100, -51.6])
    found = measures_of(Detection((0, 0, 1, 1), tuple(map(tuple, at_edge.tolist())), 0.9))
    rows = np.arange(10, 112, 4)
    assert found["visible_share"] == pytest.approx((rows >= 51.6).mean())


def test_a_crop_of_another_size_measures_the_same(
    extractor: SampleExtractor, portrait: Image
) -> None:
    (sample,) = extractor.samples(portrait)
    double = cv2.resize(sample.crop, (224, 224), interpolation=cv2.INTER_CUBIC)
    found = measure_face(portrait, sample.detection, double) | measure_covered(double)
    for name, value in sample.quality.items():
        assert found[name] == pytest.approx(value, rel=0.05, abs=0.02), name


def test_each_reason_has_its_limit() -> None:
    good = {
        "eye_distance_px": 60.0,
        "visible_share": 1.0,
        "yaw_deg": 0.0,
        "pitch_deg": 0.0,
        "turned_deg": 0.0,
        "brightness": 120.0,
        "bright_share": 0.0,
        "sharpness": 0.5,
        "profile": 0.0,
    }
    assert face_reasons(good, LIMITS) == ()
    for name, limit, reason in (
        ("eye_distance_px", LIMITS.min_eye_distance_px, "face_too_small"),
        ("visible_share", LIMITS.min_visible_share, "clipped"),
        ("brightness", LIMITS.min_brightness, "too_dark"),
        ("sharpness", LIMITS.min_sharpness, "too_blurred"),
    ):
        assert face_reasons(good | {name: limit}, LIMITS) == ()
        assert face_reasons(good | {name: limit - 0.01}, LIMITS) == (reason,)
    for name, limit, reason in (
        ("yaw_deg", LIMITS.max_yaw_deg, "extreme_pose"),
        ("pitch_deg", LIMITS.max_pitch_deg, "extreme_pose"),
        ("bright_share", LIMITS.max_bright_share, "too_bright"),
        ("profile", LIMITS.max_profile, "extreme_pose"),
    ):
        assert face_reasons(good | {name: limit}, LIMITS) == ()
        assert face_reasons(good | {name: limit + 0.01}, LIMITS) == (reason,)
    for name in ("yaw_deg", "pitch_deg"):
        assert face_reasons(good | {name: -89.0}, LIMITS) == ("extreme_pose",)
    assert face_reasons(good | {"turned_deg": 180.0}, LIMITS) == ()  # its crop is upright
    stricter = dataclasses.replace(LIMITS, min_eye_distance_px=61.0, min_sharpness=0.6)
    assert face_reasons(good, stricter) == ("face_too_small", "too_blurred")
    assert set(good) <= set(measures_of(seen_from(0, 0, 0)))
