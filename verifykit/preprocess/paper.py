"""The paper under the ink: its light at each place, and where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verifykit.spec import SignatureCrop
from verifykit.types import Image

__all__ = ["against_paper"]

Mask = NDArray[np.bool_]
Grey = NDArray[np.uint8]

# What is beyond the paper's edge takes up at least so much of the image's shorter side.
_MIN_RIM_SHARE = 0.25
# The sheet fills at least so much of the image.
_MIN_SHEET_SHARE = 0.2


def against_paper(image: Image, spec: SignatureCrop) -> tuple[Grey, Mask]:
    """Darkness against the paper of each place, and where paper is.

    Channel by channel, so that tinted paper counts as white; of the three the darkest, so that coloured
    ink counts as black. A window that is wider than a stroke and takes its brightest sees only paper.

    Args:
        image: (H, W, 3) uint8 RGB.
        spec: The window, and how much darker a table is than paper.

    Returns:
        (H, W) uint8 darkness, 0 is paper and whatever is no paper; and (H, W) bool, where paper is.
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
    # Median first: the brightest of a window would otherwise be its noise.
    calm = [cv2.medianBlur(channel, 3) for channel in small]
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (window, window))
    lights = [
        cv2.morphologyEx(channel, cv2.MORPH_CLOSE, kernel, borderType=cv2.BORDER_REPLICATE)
        for channel in calm
    ]
    # Here a strip along the rim goes on beyond it, however narrow it is.
    frame = (window,) * 4
    padded = cv2.copyMakeBorder(np.minimum.reduce(calm), *frame, cv2.BORDER_REPLICATE)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, kernel)[window:-window, window:-window]
    paper = _paper(np.asarray(closed, np.uint8), spec.table_ratio)
    evens = [_even(light, paper, window / 3) for light in lights]
    darkness: Grey
    if len(channels) == 1 and evens[0].min() == evens[0].max():
        # A clean scan: the same for each of 256 values.
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
    """What is missing of the light, in the channel that misses most."""
    import cv2

    shares = [
        np.asarray(cv2.divide(channel, light, dtype=cv2.CV_32F))
        for channel, light in zip(channels, lights, strict=True)
    ]
    share = np.minimum(np.minimum.reduce(shares), np.float32(1.0))
    return np.asarray(255.0 * (1.0 - share), np.float32).astype(np.uint8)


def _even(light: NDArray[Any], paper: Mask, sigma: float) -> NDArray[np.float32]:
    """Smooth light, of the paper alone: what lies beside it does not darken its edge."""
    import cv2

    def blur(values: NDArray[Any]) -> NDArray[Any]:
        return cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)

    if paper.all():
        return np.asarray(np.maximum(blur(light), 1), np.float32)
    weight = blur(paper.astype(np.float32))
    total = blur(np.where(paper, light, 0).astype(np.float32))
    return np.asarray(np.maximum(total / np.maximum(weight, 1e-3), 1.0), np.float32)


def _paper(light: Grey, table_ratio: float) -> Mask:
    """The sheet, where it is seen to end in something darker; else everything.

    A table begins with a step, a shadow with a slope: the image is cut along the steps, and of the
    pieces the largest bright one is the sheet. The pieces beyond are dropped if they reach the rim.
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
