"""Reason to refuse a covered face: by sunglasses, by a mask or scarf, by a hand.

Regions of the aligned crop are measured, in lightness, texture and colour, and compared with each other by
three small logistic models. ``python -m benchmarks.covered`` fits them and states their error rates, which
docs/explanation/quality.md shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from verifykit.modalities.base import FoundSample, SampleCheck
from verifykit.modalities.face.covered_model import MODELS
from verifykit.types import Image

_CROP_PX = 112
# Rows and columns of an aligned crop; a region with two parts is on both sides of the face.
_REGIONS = {
    "brow": (((20, 34), (36, 76)),),
    "eyes": (((44, 60), (24, 50)), ((44, 60), (62, 88))),
    "between": (((42, 58), (51, 61)),),
    "cheeks": (((66, 80), (26, 42)), ((66, 80), (70, 86))),
    "nose": (((60, 74), (48, 64)),),
    "lip": (((78, 85), (46, 66)),),
    "mouth": (((86, 99), (40, 72)),),
    "jaws": (((88, 102), (24, 38)), ((88, 102), (74, 88))),
    "chin": (((101, 112), (44, 68)),),
}
_FACE = slice(36, 104), slice(28, 84)
_MIN_CONTRAST = 8.0  # of 100 levels of lightness
_MAX_DEVIATIONS = 4.0


@dataclass(frozen=True)
class CoveredLimits:
    """Limit of a face that is not covered.

    Attributes:
        max_covered: Each of ``covered_eyes``, ``covered_mouth`` and ``covered_hand``, in [0, 1].
    """

    max_covered: float = 0.5


class CoveredCheck(SampleCheck):
    """Check that nothing covers a face: no sunglasses, mask, scarf or hand."""

    name = "face_covered"
    reasons: ClassVar[Mapping[str, str]] = {
        "covered": "Show the whole face: take off sunglasses or mask, keep hands away.",
    }
    warnings_for_probe: ClassVar[frozenset[str]] = frozenset({"covered"})

    def __init__(self, limits: CoveredLimits | None = None) -> None:
        self.limits = limits or CoveredLimits()

    def measure(self, sample: FoundSample) -> dict[str, float]:
        """Return ``covered_eyes``, ``covered_mouth`` and ``covered_hand``, each in [0, 1]."""
        return measure_covered(sample.crop)

    def judge(self, measures: Mapping[str, float]) -> tuple[str, ...]:
        """Return ``covered`` if one of the measures exceeds the limit."""
        covered = any(measures[name] > self.limits.max_covered for name in MODELS)
        return ("covered",) if covered else ()


def measure_covered(crop: Image) -> dict[str, float]:
    """Return by name, in [0, 1], how much a face aligned to the ArcFace template looks covered."""
    measured = measure_regions(crop)
    values = {}
    for name, (intercept, terms) in MODELS.items():
        logit = intercept
        for measure, (mean, deviation, weight) in terms.items():
            deviations = (measured[measure] - mean) / deviation
            # Of single numbers, Python's own functions take a tenth of the time of NumPy's.
            logit += weight * min(max(deviations, -_MAX_DEVIATIONS), _MAX_DEVIATIONS)
        values[name] = 1.0 / (1.0 + float(np.exp(-logit)))
    return values


def measure_regions(crop: Image) -> dict[str, float]:
    """Return measures of the regions of an aligned crop, by the names of the region and the measure.

    Lightness is relative to the median and the range of the face. ``lightness``, ``spread``, ``texture``,
    ``grain`` (vertical over horizontal), ``red`` and ``yellow`` (a and b of CIELAB) and the distances of
    colour ``from brow`` and ``from cheeks``; of two sides their mean, and ``sides`` is the difference.
    """
    import cv2

    if crop.shape[:2] != (_CROP_PX, _CROP_PX):
        size = (_CROP_PX, _CROP_PX)
        crop = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.uint8)
    lab = cv2.cvtColor(crop.astype(np.float32) / 255.0, cv2.COLOR_RGB2Lab)
    face = lab[..., 0][_FACE]
    low, middle, high = np.percentile(face, (5, 50, 95))
    lightness = (lab[..., 0] - middle) / max(high - low, _MIN_CONTRAST)
    across = np.abs(np.diff(lightness, axis=1, prepend=lightness[:, :1]))
    down = np.abs(np.diff(lightness, axis=0, prepend=lightness[:1]))
    planes = np.dstack(
        [lightness, lightness**2, np.hypot(across, down), across, down, lab[..., 1:]]
    )
    means = {
        region: [
            planes[slice(*rows), slice(*columns)].reshape(-1, planes.shape[2]).mean(axis=0)
            for rows, columns in parts
        ]
        for region, parts in _REGIONS.items()
    }
    colors = {region: np.mean(means[region], axis=0)[5:] for region in ("brow", "cheeks")}
    measured: dict[str, float] = {}
    for region, parts in means.items():
        sides = [_of_part(part, colors) for part in parts]
        for name in sides[0]:
            values = [side[name] for side in sides]
            measured[f"{region} {name}"] = sum(values) / len(values)
            if len(values) == 2:
                measured[f"{region} {name} sides"] = abs(values[0] - values[1])
    for name, rows in (("eyes", slice(42, 62)), ("mouth", slice(64, 104))):
        half = lightness[rows, 24:88]
        measured[f"{name} asymmetry"] = float(np.abs(half - half[:, ::-1]).mean())
    return measured


def _of_part(means: np.ndarray, colors: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the measures of one part of a region from the means of the planes."""
    lightness, square, texture, across, down = (float(value) for value in means[:5])
    color = means[5:]
    return {
        "lightness": lightness,
        "spread": float(np.log(np.sqrt(max(square - lightness**2, 0.0)) + 0.02)),
        "texture": float(np.log(texture + 0.004)),
        "grain": float(np.log((down + 0.002) / (across + 0.002))),
        "red": float(color[0]),
        "yellow": float(color[1]),
        "from brow": float(np.hypot(*(color - colors["brow"]))),
        "from cheeks": float(np.hypot(*(color - colors["cheeks"]))),
    }
