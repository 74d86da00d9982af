"""How much a head looks like one in profile, by its landmarks and its box.

On a profile the detector places the hidden eye and the hidden corner of the mouth too, so that the yaw of
its points is often 30 to 45 degrees. A logistic model of where points and box are in the aligned crop
distinguishes such a head from one that is turned by so much. ``python -m benchmarks.profiles`` fits it and
states its error rates, which docs/explanation/quality.md shows.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from verifykit.modalities.face.crop import ARCFACE_112_PX
from verifykit.modalities.face.profile_model import INTERCEPT, TERMS
from verifykit.modalities.ops import similarity_transform
from verifykit.types import Detection

_LEAST_YAW_DEG = 20.0
_MIDDLE_PX = 56.0
_MIRRORED = [1, 0, 2, 4, 3]  # left and right changed
_MOST = 4.0  # deviations
_MEANS, _DEVIATIONS, _WEIGHTS = np.array(TERMS).T


def measure_profile(face: Detection, yaw_deg: float) -> float:
    """Return how much a face looks like one in profile, in [0, 1]; 0 below a yaw of 20 degrees."""
    if abs(yaw_deg) < _LEAST_YAW_DEG:
        return 0.0
    distances = ((profile_terms(face) - _MEANS) / _DEVIATIONS).clip(-_MOST, _MOST)
    return 1.0 / (1.0 + math.exp(-(INTERCEPT + float(_WEIGHTS @ distances))))


def profile_terms(face: Detection) -> NDArray[np.float64]:
    """Return landmarks and box in the aligned crop, as if the head were turned to the image's right.

    Ten coordinates of the landmarks, the middle of the box, and the logarithms of its width and height.
    """
    matrix = similarity_transform(face.landmarks_px, ARCFACE_112_PX)
    left, top, width, height = face.box_px
    points = np.array([*face.landmarks_px, (left + width / 2, top + height / 2)])
    points = points @ matrix[:, :2].T + matrix[:, 2]
    points[:, 0] -= _MIDDLE_PX
    if 2 * points[2, 0] < points[0, 0] + points[1, 0]:  # the nose is left of the eyes' middle
        points[:, 0] *= -1
        points[:5] = points[_MIRRORED]
    scale = np.hypot(*matrix[:, 0])
    return np.append(points.ravel(), np.log(np.maximum(scale * np.array([width, height]), 1.0)))
