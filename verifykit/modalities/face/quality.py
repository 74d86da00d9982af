"""Reasons to refuse a face, or to warn of it, from measures with limits.

Each limit is where the false non-match rate of real faces, degraded step by step, has clearly
risen: measured by ``python -m benchmarks.quality``, shown in docs/explanation/quality.md.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from verifykit.modalities.base import FoundSample, SampleCheck
from verifykit.modalities.face.crop import ARCFACE_112_PX
from verifykit.modalities.face.profile import measure_profile
from verifykit.modalities.ops import inverse_rotation, similarity_transform
from verifykit.types import Detection, Image

_CROP_PX = 112
# The part of an aligned crop that no hair covers: between brows, cheeks and chin.
_FACE_ROWS, _FACE_COLUMNS = slice(36, 104), slice(28, 84)
# Points (x, y) of an aligned crop, 4 px apart, on the head with brow and chin.
_HEAD = np.stack(np.meshgrid(np.arange(16, 96, 4), np.arange(10, 112, 4)), axis=-1).reshape(-1, 2)
_DARK, _BRIGHT = 20, 250
_LEVELS = np.arange(256)
_BLUR_PX = 9
# The face with as much around it as its blurred pixels and their neighbours need; the face within that.
_BLUR_ROWS, _BLUR_COLUMNS = slice(32, 109), slice(24, 89)
_WITHIN, _BELOW, _RIGHT = np.s_[4:72, 4:60], np.s_[5:73, 4:60], np.s_[4:72, 5:61]

# Right eye, left eye, nose tip, mouth corners in (right, down, away from the viewer), in distances
# between the eyes. Affine factorisation with metric upgrade (Tomasi and Kanade, IJCV 9, 1992) of
# YuNet's landmarks on the 3514 images of LFW's training people: benchmarks.face_model.
_FACE_MODEL = np.array(
    [
        (-0.5, 0.0, 0.0),
        (0.5, 0.0, 0.0),
        (0.0, 0.498, -0.481),
        (-0.428, 0.978, 0.0),
        (0.428, 0.978, 0.0),
    ]
)
_CENTRED_MODEL = _FACE_MODEL - _FACE_MODEL.mean(axis=0)
_POSE_SOLVER = np.linalg.pinv(_CENTRED_MODEL)
_QUARTER_TURN = np.array([(0, 1), (-1, 0)])  # counter-clockwise, y down
_QUARTER_TURNS = tuple(np.linalg.matrix_power(_QUARTER_TURN, quarters).T for quarters in range(4))
_LEAST_DETERMINANT = 1e-9  # relative, of a camera's two rows: below, landmarks are on one line


@dataclass(frozen=True)
class QualityLimits:
    """Limits of a usable face; ``dataclasses.replace`` changes them.

    Attributes:
        min_eye_distance_px: Between the eyes, in the image's pixels, as if seen from the front.
        min_sharpness: One minus the blur effect of the crop, in [0, 1]; noise raises it.
        min_brightness: Mean luma of the face, 0..255.
        max_bright_share: Share of the face that is overexposed, in [0, 1].
        max_yaw_deg: Head turned to either side, degrees.
        max_pitch_deg: Head raised or lowered, degrees.
        min_visible_share: Share of the head that is inside the image, in [0, 1].
        max_profile: How much a head looks like one in profile, in [0, 1]: see
            :mod:`~verifykit.modalities.face.profile`.
    """

    min_eye_distance_px: float = 14.0
    min_sharpness: float = 0.32
    min_brightness: float = 30.0
    max_bright_share: float = 0.25
    max_yaw_deg: float = 50.0
    max_pitch_deg: float = 30.0
    min_visible_share: float = 0.70
    max_profile: float = 0.5


class FaceQuality(SampleCheck):
    """Check pose, size, light, sharpness and completeness of a face."""

    name = "face_quality"
    takes_reduced = True
    reasons: ClassVar[Mapping[str, str]] = {
        "face_too_small": "Come closer: the face is too small.",
        "clipped": "Move to the middle: a part is outside the image.",
        "extreme_pose": "Look straight at the camera and hold it upright.",
        "too_dark": "More light: the face is too dark.",
        "too_bright": "Less light: parts of the face are white.",
        "too_blurred": "Hold still and clean the lens: the face is blurred.",
    }
    warnings_for_probe: ClassVar[frozenset[str]] = frozenset(
        {"clipped", "extreme_pose", "too_bright"}
    )

    def __init__(self, limits: QualityLimits | None = None) -> None:
        self.limits = limits or QualityLimits()

    def measure(self, sample: FoundSample) -> dict[str, float]:
        """Return what :func:`measure_face` measures, the eye distance in pixels of the whole image."""
        detection = sample.finding.detection
        assert detection is not None  # noqa: S101 - faces are detected
        measured = measure_face(sample.image, detection, sample.crop, sample.finding.turned_deg)
        measured["eye_distance_px"] *= sample.reduction
        return measured

    def judge(self, measures: Mapping[str, float]) -> tuple[str, ...]:
        """Return the reason codes of :func:`face_reasons`."""
        return face_reasons(measures, self.limits)


def measure_face(
    image: Image, detection: Detection, crop: Image, turned_deg: float = 0.0
) -> dict[str, float]:
    """Return measures of a face that is aligned to the ArcFace template in ``crop``.

    They are ``eye_distance_px`` (as if seen from the front), ``sharpness`` (one minus
    the blur effect, 0..1), ``brightness`` (mean luma 0..255), ``dark_share`` and ``bright_share``
    (pixels at the ends of the range, 0..1), ``yaw_deg`` (positive: towards the image's right),
    ``pitch_deg`` (positive: up), ``roll_deg`` (positive: clockwise), ``turned_deg`` (as given),
    ``visible_share`` (of the head inside the image, 0..1). The three angles are those in the image
    rotated counter-clockwise by ``turned_deg``. ``profile`` is :func:`measure_profile`, 0..1.
    """
    import cv2

    landmarks_px = np.asarray(detection.landmarks_px, dtype=np.float64)
    turned_px = landmarks_px @ _QUARTER_TURNS[round(turned_deg / 90.0) % 4]
    eye_distance_px, yaw, pitch, roll = _pose(turned_px)
    luma: Image = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    if luma.shape != (_CROP_PX, _CROP_PX):
        luma = cv2.resize(luma, (_CROP_PX, _CROP_PX), interpolation=cv2.INTER_AREA).astype(np.uint8)
    counts = np.bincount(luma[_FACE_ROWS, _FACE_COLUMNS].ravel(), minlength=256)
    total = int(counts.sum())
    return {
        "eye_distance_px": eye_distance_px,
        "sharpness": _sharpness(luma),
        "brightness": int(counts @ _LEVELS) / total,
        "dark_share": int(counts[:_DARK].sum()) / total,
        "bright_share": int(counts[_BRIGHT + 1 :].sum()) / total,
        "yaw_deg": yaw,
        "pitch_deg": pitch,
        "roll_deg": roll,
        "turned_deg": turned_deg,
        "visible_share": _visible_share(landmarks_px, image.shape[0], image.shape[1]),
        "profile": measure_profile(detection, yaw),
    }


def face_reasons(measures: Mapping[str, float], limits: QualityLimits) -> tuple[str, ...]:
    """Return the reason codes that apply to a face, in a fixed order; empty for a good face."""
    turned = (
        abs(measures["yaw_deg"]) > limits.max_yaw_deg
        or abs(measures["pitch_deg"]) > limits.max_pitch_deg
        or measures["profile"] > limits.max_profile
    )
    applies = {
        "face_too_small": measures["eye_distance_px"] < limits.min_eye_distance_px,
        "clipped": measures["visible_share"] < limits.min_visible_share,
        "extreme_pose": turned,
        "too_dark": measures["brightness"] < limits.min_brightness,
        "too_bright": measures["bright_share"] > limits.max_bright_share,
        "too_blurred": measures["sharpness"] < limits.min_sharpness,
    }
    return tuple(code for code, applied in applies.items() if applied)


def _pose(landmarks_px: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Return eye distance in pixels, then yaw, pitch and roll in degrees, by scaled orthography.

    The affine camera that best maps the model to the landmarks, and the rotation nearest to it.
    """
    camera = (_POSE_SOLVER @ (landmarks_px - landmarks_px.mean(axis=0))).T
    scale, rotation = scale_and_rotation(camera)
    (right_x, right_y, right_z), (down_x, down_y, down_z) = rotation
    away_z = right_x * down_y - right_y * down_x
    yaw = math.atan2(-right_z, away_z)
    pitch = math.atan2(down_z, math.hypot(right_z, away_z))
    roll = math.atan2(down_x, right_x)
    return scale, math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def scale_and_rotation(camera: NDArray[np.float64]) -> tuple[float, list[list[float]]]:
    """Return the mean of an affine camera's two singular values, and the nearest two rows of a rotation.

    The polar decomposition; the root of the (2, 2) matrix of the rows' products has a closed form.
    """
    right, down = camera.tolist()
    products = [
        sum(map(operator.mul, *rows)) for rows in ((right, right), (right, down), (down, down))
    ]
    determinant = products[0] * products[2] - products[1] ** 2
    if not determinant > _LEAST_DETERMINANT * (products[0] + products[2]) ** 2:
        left, scales, others = np.linalg.svd(camera, full_matrices=False)
        return float(scales.mean()), (left @ others).tolist()
    root = math.sqrt(determinant)
    total = math.sqrt(products[0] + products[2] + 2.0 * root)  # of the singular values
    own, shared, other = products[0] + root, products[1], products[2] + root
    factor = total / (own * other - shared**2)
    rotation = [
        [factor * (other * x - shared * y) for x, y in zip(right, down, strict=True)],
        [factor * (own * y - shared * x) for x, y in zip(right, down, strict=True)],
    ]
    return total / 2.0, rotation


def yaw_deg(landmarks_px: Sequence[tuple[float, float]]) -> float:
    """Return the yaw of upright landmarks in degrees, positive towards the image's right."""
    return _pose(np.asarray(landmarks_px, dtype=np.float64))[1]


def _sharpness(luma: Image) -> float:
    """Return one minus the blur effect of Crete et al., SPIE Human Vision and Electronic Imaging, 2007.

    It is the share of the change between neighbouring pixels that a strong blur removes: an image that
    is already blurred loses little. The lower of the two directions counts, which detects motion blur.
    """
    import cv2

    grey = luma[_BLUR_ROWS, _BLUR_COLUMNS].astype(np.float32)
    shares = []
    for kernel, neighbour in (((1, _BLUR_PX), _BELOW), ((_BLUR_PX, 1), _RIGHT)):
        blurred = cv2.blur(grey, kernel)
        change = np.abs(grey[neighbour] - grey[_WITHIN])
        left = np.abs(blurred[neighbour] - blurred[_WITHIN])
        whole = float(change.sum())
        shares.append(float(np.maximum(change - left, 0.0).sum()) / whole if whole > 0 else 0.0)
    return min(shares)


def _visible_share(landmarks_px: NDArray[np.float64], height: int, width: int) -> float:
    """Return the share of the head, as the landmarks place it, that is inside the image.

    Not the detector's box: for a face cut by the image's edge, the box is that of the rest.
    """
    matrix = similarity_transform(landmarks_px, ARCFACE_112_PX)
    head_px = (_HEAD - matrix[:, 2]) @ inverse_rotation(matrix).T
    inside = (head_px >= 0.0) & (head_px <= (width - 1, height - 1))
    return float(inside.all(axis=1).mean())
