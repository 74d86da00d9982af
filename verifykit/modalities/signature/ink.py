"""Find the ink on paper: how dark each pixel is against its paper, and which pixels are strokes.

A scan or a photograph of any light, paper and color of ink gives the same two arrays: darkness and
mask. The steps: reduce the image, measure the paper's light, divide by it, cut off what is beyond the
paper's edge, apply Otsu's threshold, remove ruled lines and what a scanner leaves along the border, drop
specks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verifykit.modalities.ops import require_image
from verifykit.spec import SignatureCrop
from verifykit.types import Image

Mask = NDArray[np.bool_]
Grey = NDArray[np.uint8]

# Least share of the image's shorter side that the area beyond the paper's edge takes.
_MIN_RIM_SHARE = 0.25
# Least share of the image that the sheet fills.
_MIN_SHEET_SHARE = 0.2


def against_paper(image: Image, spec: SignatureCrop) -> tuple[Grey, Mask]:
    """Return the darkness of each pixel against its paper, (H, W) uint8, and where paper is, (H, W) bool.

    0 is paper and anything beyond it. The channels are treated one by one, so that tinted paper counts as
    white; the darkest of the three counts, so that colored ink counts as black. The brightest of a window
    that is wider than a stroke is paper.
    """
    import cv2

    height, width = image.shape[:2]
    channels: Sequence[NDArray[Any]] = cv2.split(image)
    first = channels[0]
    if all(cv2.norm(first, other, cv2.NORM_INF) == 0 for other in channels[1:]):
        channels = [first]  # grey
    small_scale = min(1.0, spec.background_side_px / max(height, width))
    size = (max(1, round(width * small_scale)), max(1, round(height * small_scale)))
    window = max(3, round(spec.background_window_share * max(size)) | 1)
    small = [cv2.resize(channel, size, interpolation=cv2.INTER_AREA) for channel in channels]
    # Median first: without it the brightest pixel of a window would be noise.
    calm = [cv2.medianBlur(channel, 3) for channel in small]
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (window, window))
    lights = [
        cv2.morphologyEx(channel, cv2.MORPH_CLOSE, kernel, borderType=cv2.BORDER_REPLICATE)
        for channel in calm
    ]
    # Here a strip along the border continues beyond it, however narrow it is.
    frame = (window,) * 4
    padded = cv2.copyMakeBorder(np.minimum.reduce(calm), *frame, cv2.BORDER_REPLICATE)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, kernel)[window:-window, window:-window]
    paper = _paper(np.asarray(closed, np.uint8), spec.table_ratio)
    evens = [_even(light, paper, window / 3) for light in lights]
    darkness: Grey
    if len(channels) == 1 and evens[0].min() == evens[0].max():
        # A clean scan: a table of 256 values is enough.
        values = np.arange(256, dtype=np.uint8)[:, None]
        table = _darkness([values], [np.full(values.shape, evens[0][0, 0], np.float32)])
        darkness = np.asarray(cv2.LUT(first, table), np.uint8)
    else:
        whole_lights = [np.asarray(cv2.resize(e, (width, height)), np.float32) for e in evens]
        darkness = _darkness(channels, whole_lights)
    if paper.all():
        return darkness, np.ones((height, width), bool)
    whole = cv2.resize(paper.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    darkness[~whole] = 0
    return darkness, whole


def _darkness(channels: Sequence[NDArray[Any]], lights: Sequence[NDArray[np.float32]]) -> Grey:
    """Return the share of the light that is missing, in the channel that misses most, 0..255."""
    import cv2

    shares = [
        np.asarray(cv2.divide(channel, light, dtype=cv2.CV_32F))
        for channel, light in zip(channels, lights, strict=True)
    ]
    share = np.minimum(np.minimum.reduce(shares), np.float32(1.0))
    return np.asarray(255.0 * (1.0 - share), np.float32).astype(np.uint8)


def _even(light: NDArray[Any], paper: Mask, sigma: float) -> NDArray[np.float32]:
    """Return the smoothed light of the paper alone, so that its surroundings do not darken its edge."""
    import cv2

    def blur(values: NDArray[Any]) -> NDArray[Any]:
        return cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)

    if paper.all():
        return np.asarray(np.maximum(blur(light), 1), np.float32)
    weight = blur(paper.astype(np.float32))
    total = blur(np.where(paper, light, 0).astype(np.float32))
    return np.asarray(np.maximum(total / np.maximum(weight, 1e-3), 1.0), np.float32)


def _paper(light: Grey, table_ratio: float) -> Mask:
    """Return the sheet, where it ends in something darker; else everything.

    A table begins with a step, a shadow with a slope: the image is divided along the steps, and the
    largest bright piece is the sheet. The pieces beyond are dropped if they reach the border.
    """
    import cv2

    everything = np.ones(light.shape, bool)
    square = np.ones((3, 3), np.uint8)
    low, high = cv2.erode(light, square), cv2.dilate(light, square)
    step = low < np.sqrt(table_ratio) * high.astype(np.float32)
    if not step.any():
        return everything
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        (~step).astype(np.uint8), connectivity=4
    )
    if count < 2:
        return everything
    weights = stats[:, cv2.CC_STAT_AREA] * np.array(
        [float(light[labels == label].mean()) for label in range(count)]
    )
    weights[0] = 0.0
    sheet = labels == int(np.argmax(weights))
    if sheet.mean() < _MIN_SHEET_SHARE:
        return everything
    paper_level = float(np.median(light[sheet]))
    beyond = everything & ~sheet & (light < table_ratio * paper_level)
    count, labels = cv2.connectedComponents(beyond.astype(np.uint8), connectivity=4)
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    lengths = np.bincount(rim, minlength=count)
    table = lengths >= _MIN_RIM_SHARE * min(light.shape)
    table[0] = False
    if not table.any():
        return everything
    # The step itself is one pixel wide on either side.
    return np.asarray(cv2.dilate(table[labels].astype(np.uint8), np.ones((5, 5), np.uint8)) == 0)


_STEP_DEG = 0.25
_MAX_RIM_SLANT = 0.03  # of a line along the border, as a tangent
_COLUMN_STEP = 4  # a quarter of the columns shows a line as well
_MAX_LINES = 60
_MIN_UNBROKEN = 0.8  # share of the width that one of several dark lines shows
_PARALLEL_DEG = 0.5
_WRITING_PERCENTILES = (0.5, 99.5)  # of the ink, between which the writing is
_MIN_PARALLEL_SHARE = 0.03  # least share of the width that such a line runs across
_END_GAP_SHARE = 0.02  # share of the width by which a line may end before the paper does
_REACH_PX = 3  # distance of a line from where it is expected


def rim_lines(
    labels: NDArray[np.int32], stats: NDArray[np.int32], stroke_px: float, spec: SignatureCrop
) -> Mask:
    """Return which components, (count,) bool, are thin straight lines along the border: a paper's edge.

    What extends further inside than the strip, or is no straighter or thinner than
    handwriting, is a stroke. ``stats`` are left, top, width, height and area, as OpenCV gives them.
    """
    height, width = labels.shape
    strip = max(1, round(spec.rim_share * min(height, width)))
    wide, high, area = stats[:, 2], stats[:, 3], stats[:, 4]
    long, across = np.maximum(wide, high), np.minimum(wide, high)
    straight = (across <= _MAX_RIM_SLANT * long + 2) | (across > strip)  # or round a corner
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
    """Return the pixels of ruled lines, without those where a stroke crosses them, and a darkness.

    A ruled line is straight, nearly level, and runs from one side of the paper to the other. So may a
    flourish; a line is removed only if it is lighter than the rest of the ink, or if there are several.
    The darkness is between that of the lines and that of the ink; 0 if the lines are not lighter.
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
    # On rotated paper, lines across its corners are shorter, and parallel.
    parallel, _ = _lines(
        thin, paper, _PARALLEL_DEG, float(np.median(slopes)), _MIN_PARALLEL_SHARE, spec
    )
    together = np.logical_or.reduce(lines + parallel)
    rest = mask & ~together
    if not rest.any():
        return nothing, 0.0
    begin, end = np.percentile(np.nonzero(rest)[1], _WRITING_PERCENTILES)
    if begin < spec.ruled_beyond_share * width or end > (1 - spec.ruled_beyond_share) * width:
        return nothing, 0.0
    ink = float(np.median(darkness[rest]))
    shade = max(float(np.median(darkness[line])) for line in lines)
    if shade < spec.ruled_lightness * ink:
        between = 0.5 * (shade + ink)
        return together & (darkness < between), between
    unbroken = sum(line.any(axis=0).mean() >= _MIN_UNBROKEN for line in lines)
    return (together, 0.0) if unbroken >= spec.ruled_several else (nothing, 0.0)


def _lines(
    thin: NDArray[np.uint8],
    paper: Mask,
    range_deg: float,
    slope_deg: float,
    length_share: float,
    spec: SignatureCrop,
) -> tuple[list[Mask], list[float]]:
    """Return lines of ink that run all the way across the paper, and their slopes in degrees.

    Searched among slopes of ``slope_deg`` plus or minus ``range_deg``, if at least ``length_share`` of
    the image's width is paper along them.
    """
    import cv2

    height, width = thin.shape
    votes = np.zeros_like(thin)
    votes[:, ::_COLUMN_STEP] = thin[:, ::_COLUMN_STEP]
    found = cv2.HoughLines(
        votes,
        1.0,
        math.radians(_STEP_DEG),
        max(8, int(0.5 * length_share * width / _COLUMN_STEP)),
        min_theta=math.radians(90 + slope_deg - range_deg),
        max_theta=math.radians(90 + slope_deg + range_deg),
    )
    columns = np.arange(width)
    lines: list[Mask] = []
    slopes: list[float] = []
    tried: list[NDArray[np.float64]] = []
    accepted: list[NDArray[np.float64]] = []
    for rho, theta in () if found is None else found[:, 0]:
        rows = (rho - columns * math.cos(theta)) / math.sin(theta)
        ends = rows[[0, width // 2, -1]]
        if any(np.abs(ends - other).max() < _REACH_PX for other in tried):
            continue
        # Lines do not meet: what crosses one is a stroke, or the same line again.
        if any(
            np.abs(ends - other).min() < 2 * _REACH_PX or np.ptp(np.sign(ends - other)) > 0
            for other in accepted
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
        margin = _END_GAP_SHARE * width
        if (
            len(covered) < spec.ruled_length_share * len(there)
            or covered[0] > there[0] + margin
            or covered[-1] < there[-1] - margin
        ):
            continue
        line = np.zeros(thin.shape, bool)
        for shift in range(-_REACH_PX, _REACH_PX + 1):
            rows_near = at + shift
            inside = (rows_near >= 0) & (rows_near < height)
            line[rows_near[inside], columns[inside]] = True
        accepted.append(ends)
        lines.append(line & (thin > 0))
        slopes.append(math.degrees(theta) - 90.0)
    return lines, slopes


def _follow(thin: NDArray[np.uint8], rows: NDArray[np.float64]) -> tuple[NDArray[np.int64], Mask]:
    """Return the rows (w,) of a candidate, straightened on the ink near it, and where (w,) there is ink."""
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


_NEAR_PX = 7  # a stroke with its soft edges
_SPECK_SIGMA_PX = 3.0  # blur of the copy in which specks are separated from strokes


@dataclass(frozen=True, eq=False)
class Ink:
    """The ink of an image, in pixels of the working copy.

    Attributes:
        darkness: (h, w) uint8, 0 is paper, exactly, and 255 the darkest ink; 0 outside strokes.
        mask: (h, w) bool, the strokes.
        box_px: (left, top, right, bottom) of the strokes, right and bottom exclusive; None without ink.
        contrast: Median darkness of the strokes before it was stretched, 0..255; 0 without ink.
        stroke_px: Mean width of the strokes in pixels of the working copy; 0 without ink.
        scale: Working pixels for one pixel of the image, at most 1.
        cut_share: Share of the strokes' pixels that are on the border of the image, in [0, 1].
        stray_share: Share of the paper, away from strokes and ruled lines, that is at least a quarter as
            dark as they are, in [0, 1]: nearly 0 on paper, high in an image of anything else.
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
    """Return the strokes in a scan or a photograph, (H, W, 3) uint8 RGB; ``box_px`` is None without any."""
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
    """Return pixels above Otsu's threshold, unblurred.

    Otsu, "A threshold selection method from gray-level histograms", IEEE SMC 9(1), 1979.
    """
    import cv2

    level, _ = cv2.threshold(darkness, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    # On a bilevel scan Otsu's level is the paper's own value, and ink is above it.
    return np.asarray(darkness > max(level, min_contrast))


def _without_specks(mask: Mask, dark: Mask | None, spec: SignatureCrop) -> Mask:
    """Return strokes alone: a blurred copy separates them from specks, which would stretch the box.

    Lines along the border are dropped with the specks. Connected strokes stay whole if any part passes.
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
    calm = cv2.blur(darkness, (_NEAR_PX, _NEAR_PX))  # sensor noise does not add up
    away = np.asarray(calm)[paper & ~near]
    return float((away > 0.25 * contrast).mean()) if away.size else 1.0


def _stroke_width(mask: Mask) -> float:
    """Return the mean width of the strokes: twice their area for each pixel of outline length."""
    import cv2

    padded = np.pad(mask, 1).astype(np.uint8)
    outlines, _ = cv2.findContours(padded, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    length = sum(cv2.arcLength(outline, True) for outline in outlines)
    # The outline runs through the centres of the outer pixels, half a pixel inside the stroke.
    return float(2.0 * mask.sum() / max(length, 1.0))
