"""Straight lines that nobody wrote: the ruling of the paper, and what a scanner leaves along the rim."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from verifykit.spec import SignatureCrop

__all__ = ["rim_lines", "ruled_lines"]

Mask = NDArray[np.bool_]
Grey = NDArray[np.uint8]

_STEP_DEG = 0.25
_SLANT = 0.03  # of a line along the rim, as a tangent
_EVERY = 4  # columns: a quarter of them show a line as well
_MAX_LINES = 60
_UNBROKEN = 0.8  # share of the width that one of several dark lines shows
_PARALLEL_DEG = 0.5
_WRITING = (0.5, 99.5)  # percentiles of the ink between which the writing lies
_SHORT = 0.03  # share of the width across which such a line must run at the least
_RUNS_OFF = 0.02  # share of the width by which a line may end before the paper does
_REACH_PX = 3  # a line may be so far from where it is expected


def rim_lines(
    labels: NDArray[np.int32], stats: NDArray[np.int32], stroke_px: float, spec: SignatureCrop
) -> Mask:
    """Which components are thin straight lines along the image's rim: the paper's or the scanner's edge.

    Args:
        labels: (h, w) int32, the number of the component at each pixel, 0 is none.
        stats: (count, 5) int32, left, top, width, height and area of each, as OpenCV gives them.
        stroke_px: Mean width of the strokes.
        spec: In which strip they lie, how long and how thin they are.

    Returns:
        (count,) bool. What reaches further inside than the strip, or is no straighter or thinner than
        what a hand writes, is a stroke.
    """
    height, width = labels.shape
    strip = max(1, round(spec.rim_share * min(height, width)))
    wide, high, area = stats[:, 2], stats[:, 3], stats[:, 4]
    long, across = np.maximum(wide, high), np.minimum(wide, high)
    straight = (across <= _SLANT * long + 2) | (across > strip)  # or round a corner
    thin = area <= spec.rim_thickness * stroke_px * (wide + high)
    lines = (wide >= spec.rim_length_share * width) | (high >= spec.rim_length_share * height)
    lines &= straight & thin
    lines[0] = False
    for label in np.flatnonzero(lines):
        left, top = stats[label, :2]
        part = labels[top : top + high[label], left : left + wide[label]] == label
        inner = part[
            max(0, strip - top) : max(0, height - strip - top),
            max(0, strip - left) : max(0, width - strip - left),
        ]
        lines[label] = not inner.any()
    return lines if not lines[1:].all() else np.zeros_like(lines)


def ruled_lines(darkness: Grey, mask: Mask, paper: Mask, spec: SignatureCrop) -> tuple[Mask, float]:
    """The pixels of ruled lines, without those where a stroke crosses them.

    A ruled line is straight, nearly level, and runs from one side of the paper to the other. So may a
    flourish; a line is taken out only if it is lighter than the rest of the ink, or if there are several.

    Args:
        darkness: (h, w) uint8, against the paper.
        mask: (h, w) bool, strokes and lines.
        paper: (h, w) bool, where paper is.
        spec: How long, how steep, how light and how many.

    Returns:
        (h, w) bool, a subset of the mask; and the darkness between the lines' and the ink's, which
        parts them; 0 if the lines are not lighter.
    """
    import cv2

    height, width = mask.shape
    nothing = np.zeros_like(mask)
    if height < 16 or width < 64:
        return nothing, 0.0
    thick = max(3, round(spec.ruled_thickness_share * max(height, width)))
    column = np.ones((thick + 1, 1), np.uint8)
    whole = mask.astype(np.uint8)
    thin = np.asarray(whole - cv2.morphologyEx(whole, cv2.MORPH_OPEN, column), np.uint8)
    lines, slopes = _lines(thin, paper, spec.ruled_slope_deg, 0.0, spec.ruled_length_share, spec)
    if not lines:
        return nothing, 0.0
    # Where the paper lies askew, lines across its corners are shorter, and parallel.
    parallel, _ = _lines(thin, paper, _PARALLEL_DEG, float(np.median(slopes)), _SHORT, spec)
    together = np.logical_or.reduce(lines + parallel)
    rest = mask & ~together
    if not rest.any():
        return nothing, 0.0
    begin, end = np.percentile(np.nonzero(rest)[1], _WRITING)
    if begin < spec.ruled_beyond_share * width or end > (1 - spec.ruled_beyond_share) * width:
        return nothing, 0.0
    ink = float(np.median(darkness[rest]))
    shade = max(float(np.median(darkness[line])) for line in lines)
    if shade < spec.ruled_lightness * ink:
        between = 0.5 * (shade + ink)
        return together & (darkness < between), between
    unbroken = sum(line.any(axis=0).mean() >= _UNBROKEN for line in lines)
    return (together, 0.0) if unbroken >= spec.ruled_several else (nothing, 0.0)


def _lines(
    thin: NDArray[np.uint8],
    paper: Mask,
    range_deg: float,
    slope_deg: float,
    length_share: float,
    spec: SignatureCrop,
) -> tuple[list[Mask], list[float]]:
    """Lines of ink that go all the way across the paper, and their slopes in degrees.

    Looked for among slopes of ``slope_deg`` give or take ``range_deg``, if at least ``length_share`` of
    the image's width is paper along them.
    """
    import cv2

    height, width = thin.shape
    votes = np.zeros_like(thin)
    votes[:, ::_EVERY] = thin[:, ::_EVERY]
    found = cv2.HoughLines(
        votes,
        1.0,
        math.radians(_STEP_DEG),
        max(8, int(0.5 * length_share * width / _EVERY)),
        min_theta=math.radians(90 + slope_deg - range_deg),
        max_theta=math.radians(90 + slope_deg + range_deg),
    )
    columns = np.arange(width)
    lines: list[Mask] = []
    slopes: list[float] = []
    tried: list[NDArray[np.float64]] = []
    taken: list[NDArray[np.float64]] = []
    for rho, theta in () if found is None else found[:, 0]:
        rows = (rho - columns * math.cos(theta)) / math.sin(theta)
        ends = rows[[0, width // 2, -1]]
        if any(np.abs(ends - other).max() < _REACH_PX for other in tried):
            continue
        # Lines do not meet: what crosses one is a stroke, or the same line again.
        if any(
            np.abs(ends - other).min() < 2 * _REACH_PX or np.ptp(np.sign(ends - other)) > 0
            for other in taken
        ):
            continue
        if len(tried) >= _MAX_LINES:
            break
        tried.append(ends)
        expected = paper[np.clip(np.rint(rows).astype(int), 0, height - 1), columns]
        there = np.flatnonzero(expected & (rows >= 0) & (rows <= height - 1))
        if len(there) < length_share * width:
            continue
        at, on = _follow(thin, rows)
        covered = np.flatnonzero(on)
        margin = _RUNS_OFF * width
        if (
            len(covered) < spec.ruled_length_share * len(there)
            or covered[0] > there[0] + margin
            or covered[-1] < there[-1] - margin
        ):
            continue
        line = np.zeros(thin.shape, bool)
        for shift in range(-_REACH_PX, _REACH_PX + 1):
            beside = at + shift
            inside = (beside >= 0) & (beside < height)
            line[beside[inside], columns[inside]] = True
        taken.append(ends)
        lines.append(line & (thin > 0))
        slopes.append(math.degrees(theta) - 90.0)
    return lines, slopes


def _follow(thin: NDArray[np.uint8], rows: NDArray[np.float64]) -> tuple[NDArray[np.int64], Mask]:
    """Straighten a candidate on the ink near it: (w,) rows, and (w,) where there is ink."""
    height, width = thin.shape
    columns = np.arange(width)
    for _ in range(2):
        shifts = np.arange(-_REACH_PX, _REACH_PX + 1)[:, None]
        near = np.rint(rows)[None].astype(int) + shifts
        inside = (near >= 0) & (near < height)
        ink = (thin[np.clip(near, 0, height - 1), columns[None]] > 0) & inside
        on = ink.any(axis=0)
        if on.sum() < 8:
            break
        offsets = (ink * (near - rows)).sum(axis=0)[on] / ink.sum(axis=0)[on]
        slope, shift = np.polyfit(columns[on] - width / 2, offsets, 1)
        rows = rows + slope * (columns - width / 2) + shift
    at = np.rint(rows).astype(np.int64)
    near = at[None] + np.arange(-1, 2)[:, None]
    inside = (near >= 0) & (near < height)
    on = ((thin[np.clip(near, 0, height - 1), columns[None]] > 0) & inside).any(axis=0)
    return at, on
