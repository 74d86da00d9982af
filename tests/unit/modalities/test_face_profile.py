"""The sign of a head in profile, on faces whose points are known."""

from __future__ import annotations

import numpy as np
import pytest

from verifykit.modalities.face.profile import measure_profile, profile_terms
from verifykit.modalities.face.quality import QualityLimits, face_reasons, measure_face
from verifykit.types import Detection

BLANK = np.zeros((200, 200, 3), np.uint8)
MIRRORED = [1, 0, 2, 4, 3]


def face(points: list[tuple[float, float]], box_px: tuple[float, float, float, float]) -> Detection:
    return Detection(box_px, tuple(points), 0.9)


# Points of an aligned crop, the middle at x = 56, of a head turned to the image's right.
PROFILE = face([(40, 52), (68, 51), (65, 72), (42, 93), (65, 93)], (0, 24, 76, 97))
TURNED = face([(38, 52), (70, 52), (65, 73), (40, 92), (67, 91)], (0, 14, 81, 103))
FRONTAL = face([(38, 52), (73, 52), (56, 72), (42, 92), (71, 92)], (16, 13, 81, 106))


def moved(detection: Detection, scale: float, shift: float) -> Detection:
    box_px = tuple(scale * value + shift for value in detection.box_px[:2])
    points = [(scale * x + shift, scale * y + shift) for x, y in detection.landmarks_px]
    return face(points, (*box_px, *(scale * value for value in detection.box_px[2:])))


def mirrored(detection: Detection) -> Detection:
    left, top, width, height = detection.box_px
    points = [(112 - x, y) for x, y in detection.landmarks_px]
    return face([points[i] for i in MIRRORED], (112 - left - width, top, width, height))


def test_a_profile_is_told_from_a_head_that_is_turned_as_much() -> None:
    assert measure_profile(PROFILE, 40.0) > 0.5
    assert measure_profile(TURNED, 40.0) < 0.5
    assert measure_profile(FRONTAL, 40.0) < 0.1


@pytest.mark.parametrize("detection", [PROFILE, TURNED, FRONTAL])
def test_side_size_and_place_make_no_difference(detection: Detection) -> None:
    expected = measure_profile(detection, 40.0)
    assert measure_profile(mirrored(detection), -40.0) == pytest.approx(expected, abs=0.05)
    assert measure_profile(moved(detection, 7.5, 300.0), 40.0) == pytest.approx(expected, abs=1e-6)


def test_a_head_that_is_hardly_turned_is_none() -> None:
    assert measure_profile(PROFILE, 19.9) == 0.0
    assert measure_profile(PROFILE, -19.9) == 0.0


def test_it_is_an_extreme_pose_although_the_yaw_is_allowed() -> None:
    crop = np.zeros((112, 112, 3), np.uint8)
    measured = measure_face(BLANK, moved(PROFILE, 1.0, 40.0), crop)
    assert 20 < abs(measured["yaw_deg"]) < QualityLimits().max_yaw_deg
    assert "extreme_pose" in face_reasons(measured, QualityLimits())
    assert "extreme_pose" not in face_reasons(measured, QualityLimits(max_profile=1.0))


def test_a_box_without_a_size_is_no_number_out_of_range() -> None:
    assert np.isfinite(profile_terms(face(list(PROFILE.landmarks_px), (0, 0, 0, 0)))).all()
