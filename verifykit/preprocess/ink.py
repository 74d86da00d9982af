"""Ink on paper: how dark each pixel is against its own paper, and which pixels are strokes.

From a scan or a photograph of any light, paper and colour of ink to the same two arrays: darkness and
mask. Steps in order: reduce, measure the paper's light, divide by it, cut off what lies beyond the
paper's edge, Otsu, take out ruled lines, drop specks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verifykit.preprocess.ops import require_image
from verifykit.preprocess.paper import against_paper
from verifykit.preprocess.ruling import rim_lines, ruled_lines
from verifykit.spec import SignatureCrop
from verifykit.types import Image

__all__ = ["Ink", "find_ink"]

Mask = NDArray[np.bool_]
Grey = NDArray[np.uint8]

_NEAR_PX = 7  # a stroke with its soft edges
_SPECK_SIGMA_PX = 3.0  # the copy in which specks are told from strokes is reduced to this blur


@dataclass(frozen=True, eq=False)
class Ink:
    """What was found, in the working copy's pixels.

    Attributes:
        darkness: (h, w) uint8, 0 is paper, exactly, and 255 the darkest ink; anything that is no stroke is 0.
        mask: (h, w) bool, the strokes.
        box_px: (left, top, right, bottom) of the strokes, right and bottom exclusive; None without ink.
        contrast: Median darkness of the strokes before it was stretched, 0..255; 0 without ink.
        stroke_px: Mean width of the strokes in pixels of the working copy; 0 without ink.
        scale: Working pixels for one pixel of the image, at most 1.
        cut_share: Share of the strokes' pixels that lie on the rim of the image, in [0, 1].
        stray_share: Share of the paper, away from strokes and ruled lines, that is a quarter as dark as
            they are or more, in [0, 1]: next to none on paper, much in a picture of anything else.
    """

    darkness: Grey
    mask: Mask
    box_px: tuple[int, int, int, int] | None
    contrast: float
    stroke_px: float
    scale: float
    cut_share: float
    stray_share: float


def find_ink(image: Image, spec: SignatureCrop) -> Ink:
    """Find the strokes in a scan or a photograph.

    Args:
        image: (H, W, 3) uint8 RGB.
        spec: Every parameter.

    Returns:
        The ink; ``box_px`` is None where there is none.

    Raises:
        ImageError: The image has another shape or dtype.
    """
    import cv2

    image = require_image(image)
    scale = min(1.0, spec.working_side_px / max(image.shape[:2]))
    if scale < 1.0:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    darkness, paper = against_paper(image, spec)
    mask = everything = _strokes(darkness, spec.min_contrast)
    if mask.any():
        ruled, between = ruled_lines(darkness, mask, paper, spec)
        mask = mask & ~ruled
        mask = _without_specks(mask, darkness > between if between else None, spec)
    if not mask.any():
        return Ink(np.zeros_like(darkness), mask, None, 0.0, 0.0, scale, 0.0, 0.0)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    levels = darkness[mask]
    full = max(float(np.percentile(levels, spec.full_darkness_percentile)), 1.0)
    table = np.clip(np.arange(256) * (255.0 / full), 0, 255).astype(np.uint8)
    stretched = np.asarray(cv2.LUT(darkness, table) * mask, np.uint8)
    rim = mask.sum() - mask[1:-1, 1:-1].sum()
    return Ink(
        stretched,
        mask,
        box,
        float(np.median(levels)),
        _stroke_width(mask),
        scale,
        float(rim / mask.sum()),
        _stray_share(darkness, paper, everything, float(np.median(levels))),
    )


def _strokes(darkness: Grey, min_contrast: float) -> Mask:
    """Otsu ("A threshold selection method from gray-level histograms", IEEE SMC 9(1), 1979), unblurred."""
    import cv2

    level, _ = cv2.threshold(darkness, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    # On a bilevel scan Otsu's level is the paper's own value: what is above it is ink.
    return np.asarray(darkness > max(level, min_contrast))


def _without_specks(mask: Mask, dark: Mask | None, spec: SignatureCrop) -> Mask:
    """Strokes alone: a blurred copy tells them from specks, which would stretch the box.

    Lines along the rim are dropped with the specks. Connected strokes stay whole if any part of them passes.
    """
    import cv2

    height, width = mask.shape
    sigma = max(1.0, spec.box_sigma_share * max(height, width))
    factor = max(1, int(sigma / _SPECK_SIGMA_PX))
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    ink = mask.astype(np.float32)
    blurred = cv2.GaussianBlur(
        cv2.resize(ink, size, interpolation=cv2.INTER_AREA),
        (0, 0),
        sigma / factor,
        borderType=cv2.BORDER_CONSTANT,
    )
    # A long straight stroke of width w has w / (sigma sqrt(2 pi)) at its middle.
    stroke_px = _stroke_width(mask)
    level = spec.box_level * stroke_px / (sigma * np.sqrt(2 * np.pi))
    blurred = cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR)
    near = blurred >= min(level, float(blurred.max()))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    kept = np.zeros(count, bool)
    near &= mask if dark is None else mask & dark
    kept[labels[near]] = True
    kept[0] = False
    kept &= ~rim_lines(np.asarray(labels, np.int32), np.asarray(stats, np.int32), stroke_px, spec)
    return np.asarray(kept[labels])


def _stray_share(darkness: Grey, paper: Mask, ink: Mask, contrast: float) -> float:
    import cv2

    near = cv2.dilate(ink.astype(np.uint8), np.ones((_NEAR_PX, _NEAR_PX), np.uint8)) > 0
    calm = cv2.blur(darkness, (_NEAR_PX, _NEAR_PX))  # sensor noise is not dark together
    away = np.asarray(calm)[paper & ~near]
    return float((away > 0.25 * contrast).mean()) if away.size else 1.0


def _stroke_width(mask: Mask) -> float:
    """Mean width of the strokes: twice their area for each pixel of outline length."""
    import cv2

    padded = np.pad(mask, 1).astype(np.uint8)
    outlines, _ = cv2.findContours(padded, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    length = sum(cv2.arcLength(outline, True) for outline in outlines)
    # The outline runs through the centres of the outer pixels, half a pixel inside the stroke.
    return float(2.0 * mask.sum() / max(length, 1.0))
