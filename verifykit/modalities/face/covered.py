"""Reason to refuse a covered face: by sunglasses, by a mask or scarf, by a hand.

Regions of the aligned crop are measured, in lightness, texture and colour, and compared with each other by
three small logistic models. ``python -m benchmarks.covered`` fits them and states their error rates, which
docs/explanation/quality.md shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

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
_MEASURES = (
    "lightness",
    "spread",
    "texture",
    "grain",
    "red",
    "yellow",
    "from brow",
    "from cheeks",
)
# Top, bottom, left and right of every part, in the order of the regions.
_BOUNDS = np.array([(*rows, *columns) for parts in _REGIONS.values() for rows, columns in parts]).T


def _first_parts() -> Iterator[tuple[str, int, int]]:
    """Yield each region with the number of its first part and the number of its parts."""
    first = 0
    for region, parts in _REGIONS.items():
        yield region, first, len(parts)
        first += len(parts)


_FIRST_PARTS = tuple(_first_parts())
# Of each model the intercept, the names of its measures, and their means, deviations and weights.
_FITTED = {
    name: (intercept, tuple(terms), *np.array(list(terms.values())).T)
    for name, (intercept, terms) in MODELS.items()
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
    takes_reduced = True  # it looks at the crop alone
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
    for name, (intercept, measures, means, deviations, weights) in _FITTED.items():
        distances = (np.array([measured[measure] for measure in measures]) - means) / deviations
        logit = intercept + float(weights @ distances.clip(-_MAX_DEVIATIONS, _MAX_DEVIATIONS))
        values[name] = 1.0 / (1.0 + math.exp(-logit))
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
    lightness = (lab[..., 0] - np.float32(middle)) / np.float32(max(high - low, _MIN_CONTRAST))
    across = np.abs(np.diff(lightness, axis=1, prepend=lightness[:, :1]))
    down = np.abs(np.diff(lightness, axis=0, prepend=lightness[:1]))
    changes = np.sqrt(across * across + down * down)
    light = [lightness, lightness * lightness, changes, across, down]
    parts = _of_parts(_means(cv2.merge([*light, lab[..., 1], lab[..., 2]])))
    measured: dict[str, float] = {}
    for region, first, count in _FIRST_PARTS:
        sides = parts[first : first + count].tolist()
        for name, *values in zip(_MEASURES, *sides, strict=True):
            measured[f"{region} {name}"] = sum(values) / count
            if count == 2:
                measured[f"{region} {name} sides"] = abs(values[0] - values[1])
    for name, rows in (("eyes", slice(42, 62)), ("mouth", slice(64, 104))):
        half = lightness[rows, 24:88]
        measured[f"{name} asymmetry"] = float(np.abs(half - half[:, ::-1]).mean())
    return measured


def _means(planes: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean of each plane, (112, 112, P), in each part of a region, (parts, P)."""
    import cv2

    sums = np.asarray(cv2.integral(planes, sdepth=cv2.CV_64F))
    top, bottom, left, right = _BOUNDS
    total = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return np.asarray(total / ((bottom - top) * (right - left))[:, np.newaxis])


def _of_parts(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the measures of each part, (parts, measures), from the means of the planes."""
    lightness, square, texture, across, down = means[:, :5].T
    colors = means[:, 5:]
    brow, cheeks = (
        colors[first : first + count].mean(axis=0)
        for region, first, count in _FIRST_PARTS
        if region in {"brow", "cheeks"}
    )
    return np.column_stack(
        [
            lightness,
            np.log(np.sqrt(np.maximum(square - lightness**2, 0.0)) + 0.02),
            np.log(texture + 0.004),
            np.log((down + 0.002) / (across + 0.002)),
            colors,
            np.hypot(*(colors - brow).T),
            np.hypot(*(colors - cheeks).T),
        ]
    )
