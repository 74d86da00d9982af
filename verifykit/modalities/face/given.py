"""Faces at given places: aligned by given landmarks, or detected near a given box."""

from __future__ import annotations

import numpy as np

from verifykit._given_faces import GivenFace
from verifykit.errors import AcquisitionError, InputError
from verifykit.modalities.base import Detector, Finding
from verifykit.modalities.face.crop import ARCFACE_112_PX
from verifykit.modalities.face.detector import FaceDetector
from verifykit.modalities.ops import inverse_rotation, similarity_transform
from verifykit.types import Detection, Image

# Left, top, right and bottom of YuNet's box in an aligned crop: medians of lfw_val (benchmarks.profiles).
_BOX_112_PX = (15.6, 12.9, 96.4, 119.4)


def find_at(image: Image, face: GivenFace, detector: Detector | None) -> Finding:
    """Return the face at a place.

    Raises:
        InputError: The place is not in the image, or a box is given and the detector cannot search near it.
        AcquisitionError: The detector finds no face at the box.
    """
    if face.landmarks_px:
        return _aligned(image, face)
    assert face.box_px is not None  # noqa: S101 - one of the two is given
    _require_inside(image, face.box_px)
    if not isinstance(detector, FaceDetector):
        raise InputError(
            f"faces: {type(detector).__name__} cannot search near a box: give the five landmarks"
        )
    found = detector.detect_near(image, face.box_px)
    if found is None:
        raise AcquisitionError(
            f"no face was found at the given box {_shown(face.box_px)} of this image of "
            f"{image.shape[0]}x{image.shape[1]} px: give its five landmarks, or another box",
            reason="no_face",
        )
    detection = found.detection
    return Finding(
        detection,
        detection.landmarks_px,
        turned_deg=found.turned_deg,
        is_turn_sure=found.is_sure,
    )


def _aligned(image: Image, face: GivenFace) -> Finding:
    matrix = similarity_transform(face.landmarks_px, ARCFACE_112_PX)
    box_px = face.box_px or _box_of(matrix)
    _require_inside(image, box_px)
    quarters = round(-np.arctan2(matrix[1, 0], matrix[0, 0]) / (np.pi / 2)) % 4
    return Finding(
        Detection(box_px, face.landmarks_px, None),
        face.landmarks_px,
        turned_deg=90.0 * quarters,
        reasons=("not_detected",),
    )


def _box_of(matrix: np.ndarray) -> tuple[float, float, float, float]:
    """Return the box, in the image, of a face with the matrix that aligns it."""
    left, top, right, bottom = _BOX_112_PX
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    placed = (corners - matrix[:, 2]) @ inverse_rotation(matrix).T
    low, high = placed.min(axis=0), placed.max(axis=0)
    return float(low[0]), float(low[1]), *(high - low).tolist()


def _require_inside(image: Image, box_px: tuple[float, float, float, float]) -> None:
    """Raise unless the middle of the box is in the image."""
    left, top, width, height = box_px
    x, y = left + width / 2, top + height / 2
    if not (0 <= x < image.shape[1] and 0 <= y < image.shape[0]):
        raise InputError(
            f"faces: the middle of the box {_shown(box_px)} is outside the image of "
            f"{image.shape[0]}x{image.shape[1]} px (height x width): give it in pixels of the upright image"
        )


def _shown(box_px: tuple[float, float, float, float]) -> str:
    return "({})".format(", ".join(f"{value:.6g}" for value in box_px))
