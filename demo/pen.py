"""Draw pen strokes: smooth curves whose width depends on speed, in ink on white."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

STEP_PX = 0.5  # between two points of a drawn curve
_FINER = 4  # the ink is drawn this many times larger, and averaged
_SHIFT = 4  # fractional bits of OpenCV's coordinates


@dataclass(frozen=True)
class Pen:
    """Parameters of a pen and its movement.

    Attributes:
        width_px: Mean width of the line.
        contrast: Dependence of the width on speed, [0, 1]; slow is thicker.
        shade: Extra width of downward strokes, [0, 1].
        fading: Decrease of pressure from the first stroke to the last, [-1, 1].
        taper_px: Length of the taper at the ends of a stroke.
        roundness: 1 for a Catmull-Rom curve, less for a more angular one.
        haste_px: Smoothing of corners by fast movement.
        tremor_px: Standard deviation of the tremor of slow movement.
        grey: Grey level of the ink, [0, 255].
    """

    width_px: float
    contrast: float
    shade: float
    fading: float
    taper_px: float
    roundness: float
    haste_px: float
    tremor_px: float = 0.0
    grey: int = 30


def draw(
    strokes: Sequence[NDArray[np.float64]], pen: Pen, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw strokes on a white background with small margins.

    Args:
        strokes: Control points of each stroke, (K, 2) as x, y in pixels, y downwards.
        pen: The pen.
        rng: Source of the margins and of the tremor.

    Returns:
        (H, W, 3) uint8 RGB, [0, 255]; the background is exactly 255, also at the border.
    """
    curves = [_curve(points, pen.roundness) for points in strokes]
    curves = [_smooth(curve, pen.haste_px / STEP_PX) for curve in curves]
    if pen.tremor_px:
        curves = [curve + pen.tremor_px * _tremor(rng, len(curve)) for curve in curves]
    widths = _widths(curves, pen)
    margins = rng.integers(10, 26, (2, 2))
    points = np.concatenate(curves)
    origin = points.min(axis=0) - margins[0]
    width, height = np.ceil(points.max(axis=0) - origin).astype(int) + margins[1]
    ink = np.zeros((height * _FINER, width * _FINER), np.uint8)
    dots = zip(np.concatenate(curves) - origin, np.concatenate(widths), strict=True)
    for (x, y), thickness in dots:
        centre = round(x * _FINER * 2**_SHIFT), round(y * _FINER * 2**_SHIFT)
        radius = round(thickness * _FINER * 2**_SHIFT / 2)
        cv2.circle(ink, centre, radius, 255, cv2.FILLED, cv2.LINE_8, _SHIFT)
    cover = cv2.resize(ink, (width, height), interpolation=cv2.INTER_AREA) / 255.0
    grey = np.rint(255.0 + cover * (pen.grey - 255.0)).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _curve(points: NDArray[np.float64], roundness: float) -> NDArray[np.float64]:
    """Join (K, 2) points by a centripetal Catmull-Rom spline (Yuksel et al. 2011), evenly sampled."""
    chords = np.diff(points, axis=0)
    knots = np.sqrt(np.linalg.norm(chords, axis=1)).clip(1e-3)[:, None]
    slopes = chords / knots
    inner = (slopes[:-1] * knots[1:] + slopes[1:] * knots[:-1]) / (knots[:-1] + knots[1:])
    tangents = roundness * np.concatenate([slopes[:1], inner, slopes[-1:]])
    t = np.linspace(0.0, 1.0, 40, endpoint=False)[:, None, None]
    curve = (
        (2 * t**3 - 3 * t**2 + 1) * points[:-1]
        + (t**3 - 2 * t**2 + t) * tangents[:-1] * knots
        + (3 * t**2 - 2 * t**3) * points[1:]
        + (t**3 - t**2) * tangents[1:] * knots
    )
    dense = np.concatenate([curve.transpose(1, 0, 2).reshape(-1, 2), points[-1:]])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(dense, axis=0), axis=1))])
    even = np.linspace(0.0, along[-1], max(int(along[-1] / STEP_PX), 2) + 1)
    return np.stack([np.interp(even, along, axis) for axis in dense.T], axis=1)


def _widths(curves: list[NDArray[np.float64]], pen: Pen) -> list[NDArray[np.float64]]:
    """Return the width of the line at every point, in pixels."""
    widths = []
    for index, curve in enumerate(curves):
        heading = np.gradient(_smooth(curve, 3.0), axis=0)
        heading /= np.linalg.norm(heading, axis=1, keepdims=True) + 1e-9
        bend = np.linalg.norm(np.gradient(heading, axis=0), axis=1)
        # Speed decreases with the third root of the curvature: Lacquaniti et al. 1983.
        slow = _smooth(((bend + 0.004) / 0.03)[:, None] ** (1 / 3), 8.0)[:, 0]
        down = _smooth(heading[:, 1:].clip(0.0), 6.0)[:, 0]
        pressure = 1.0 + pen.contrast * (slow - 1.0) + pen.shade * (down - 0.3)
        pressure *= 1.0 + pen.fading * (0.5 - index / max(len(curves) - 1, 1))
        from_end = np.minimum(np.arange(len(curve)), np.arange(len(curve))[::-1]) * STEP_PX
        taper = 0.35 + 0.65 * (from_end / pen.taper_px).clip(0.0, 1.0)
        short = len(curve) * STEP_PX < 3.0 * pen.taper_px
        pressure *= np.maximum(taper, 0.8) if short else taper
        widths.append((pen.width_px * pressure).clip(1.0, 1.8 * pen.width_px))
    return widths


def _tremor(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Return (count, 2) tremor of unit variance with waves of about 30 pixels."""
    white = rng.standard_normal((count, 2))
    wave = _smooth(white, 4.0 / STEP_PX) - _smooth(white, 12.0 / STEP_PX)
    strength = _smooth(rng.standard_normal((count, 1)), 30.0 / STEP_PX)
    wave *= 0.4 + np.abs(strength) / (strength.std() + 1e-9)  # of varying strength
    return np.asarray(wave / (wave.std() + 1e-9), np.float64)


def _smooth(values: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """Smooth (N, D) values along N by a Gaussian of ``reach`` rows."""
    half = int(3.0 * reach) + 1
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / reach) ** 2)
    padded = np.pad(values, ((half, half), (0, 0)), mode="edge")
    columns = [np.convolve(column, kernel / kernel.sum(), mode="valid") for column in padded.T]
    return np.stack(columns, axis=1)
