"""Reason to refuse a covered face: by sunglasses, by a mask or scarf, by a hand.

Regions of the aligned crop are measured, in lightness, texture and colour, and compared with each other by
three small logistic models. ``python -m benchmarks.covered`` fits them and states their error rates, which
docs/explanation/quality.md shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
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
# The part of a crop that is looked at: the regions, with a neighbour above and to the left.
_TOP, _LEFT = 19, 23
_SEEN = slice(_TOP, 112), slice(_LEFT, 88)
# Top, bottom, left and right of every part, in the order of the regions.
_BOUNDS = np.array([(*rows, *columns) for parts in _REGIONS.values() for rows, columns in parts]).T
_BOUNDS -= np.array([[_TOP], [_TOP], [_LEFT], [_LEFT]])
_AREAS = (_BOUNDS[1] - _BOUNDS[0]) * (_BOUNDS[3] - _BOUNDS[2])
_PARTS = {
    region: [
        n
        for n, each in enumerate(name for name in _REGIONS for _ in _REGIONS[name])
        if each == region
    ]
    for region in _REGIONS
}
_PAIRED = tuple(region for region, parts in _PARTS.items() if len(parts) == 2)
_RIGHT_SIDES, _LEFT_SIDES = np.array([_PARTS[region] for region in _PAIRED]).T
# (regions, parts): the mean of each region's parts.
_MEAN_OF_PARTS = np.array(
    [[(n in parts) / len(parts) for n in range(len(_AREAS))] for parts in _PARTS.values()]
)
_NAMES = (
    *(f"{region} {name}" for region in _REGIONS for name in _MEASURES),
    *(f"{region} {name} sides" for region in _PAIRED for name in _MEASURES),
    "eyes asymmetry",
    "mouth asymmetry",
)
_HALVES = tuple(
    (slice(top - _TOP, bottom - _TOP), slice(24 - _LEFT, 88 - _LEFT))
    for top, bottom in ((42, 62), (64, 104))
)


def _fitted(number: int, missing: float) -> NDArray[np.float64]:
    """Return one of mean, deviation and weight of every measure in every model, (models, measures)."""
    return np.array(
        [
            [terms[name][number] if name in terms else missing for name in _NAMES]
            for _, terms in MODELS.values()
        ]
    )


_INTERCEPTS = np.array([intercept for intercept, _ in MODELS.values()])
_MEANS, _DEVIATIONS, _WEIGHTS = _fitted(0, 0.0), _fitted(1, 1.0), _fitted(2, 0.0)
_FACE = slice(36 - _TOP, 104 - _TOP), slice(28 - _LEFT, 84 - _LEFT)
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
    distances = ((_measured(crop) - _MEANS) / _DEVIATIONS).clip(-_MAX_DEVIATIONS, _MAX_DEVIATIONS)
    logits = _INTERCEPTS + (distances * _WEIGHTS).sum(axis=1)
    return {
        name: 1.0 / (1.0 + math.exp(-logit))
        for name, logit in zip(MODELS, logits.tolist(), strict=True)
    }


def measure_regions(crop: Image) -> dict[str, float]:
    """Return measures of the regions of an aligned crop, by the names of the region and the measure.

    Lightness is relative to the median and the range of the face. ``lightness``, ``spread``, ``texture``,
    ``grain`` (vertical over horizontal), ``red`` and ``yellow`` (a and b of CIELAB) and the distances of
    colour ``from brow`` and ``from cheeks``; of two sides their mean, and ``sides`` is the difference.
    """
    return dict(zip(_NAMES, _measured(crop).tolist(), strict=True))


def _measured(crop: Image) -> NDArray[np.float64]:
    """Return what :func:`measure_regions` does, in the order of ``_NAMES``."""
    import cv2

    if crop.shape[:2] != (_CROP_PX, _CROP_PX):
        size = (_CROP_PX, _CROP_PX)
        crop = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.uint8)
    lab = cv2.cvtColor(crop[_SEEN].astype(np.float32) / 255.0, cv2.COLOR_RGB2Lab)
    low, middle, high = _percentiles(lab[..., 0][_FACE])
    lightness = (lab[..., 0] - np.float32(middle)) / np.float32(max(high - low, _MIN_CONTRAST))
    across, down = np.zeros_like(lightness), np.zeros_like(lightness)
    np.abs(lightness[:, 1:] - lightness[:, :-1], out=across[:, 1:])
    np.abs(lightness[1:] - lightness[:-1], out=down[1:])
    changes = np.sqrt(across * across + down * down)
    planes = [lightness, lightness * lightness, changes, across, down, lab[..., 1], lab[..., 2]]
    parts = _of_parts(_means(cv2.merge(planes)))
    sides = np.abs(parts[_RIGHT_SIDES] - parts[_LEFT_SIDES])
    halves = (lightness[half] for half in _HALVES)
    asymmetries = [float(np.abs(half - half[:, ::-1]).mean()) for half in halves]
    return np.concatenate([(_MEAN_OF_PARTS @ parts).ravel(), sides.ravel(), asymmetries])


def _percentiles(values: NDArray[Any]) -> tuple[float, float, float]:
    """Return the 5th, 50th and 95th percentile; sorting a few thousand is faster than ``np.percentile``."""
    ordered = np.sort(values, axis=None)

    def at(share: float) -> float:
        whole, part = divmod(share * (len(ordered) - 1), 1.0)
        low, high = ordered[int(whole) : int(whole) + 2].tolist()
        return float(low + part * (high - low))

    return at(0.05), at(0.5), at(0.95)


def _means(planes: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean of each plane, (H, W, P), in each part of a region, (parts, P)."""
    import cv2

    sums = np.asarray(cv2.integral(planes, sdepth=cv2.CV_64F))
    top, bottom, left, right = _BOUNDS
    total = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return np.asarray(total / _AREAS[:, np.newaxis])


def _of_parts(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the measures of each part, (parts, measures), from the means of the planes."""
    lightness, square, texture, across, down = means[:, :5].T
    colors = means[:, 5:]
    brow, cheeks = (colors[_PARTS[region]].mean(axis=0) for region in ("brow", "cheeks"))
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
