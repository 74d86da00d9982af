"""Changes of handwriting: another hand for each subject of a batch, and the hand's own unsteadiness.

190 writers are few. A mirrored, slanted, stretched signature is nobody's among them, so in a batch a subject
is turned into a new one by one change for all of its images, forgeries included; what tells genuine from
forged is kept, and a loss that compares within the batch needs no more. On top of it every image is
changed a little by itself, as the next signature of the same hand is. Both are put into one mapping of
pixels, which samples the crop once; albumentations, which interpolates in every transform, took four
times as long in a trial, on two cores that the network needs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.config import HandConfig
from verifykit.types import Image

__all__ = ["change_hands"]

_SUBJECT_NODES, _IMAGE_NODES = (3, 7), (6, 16)


@dataclass(frozen=True)
class _Hand:
    """What happens to all images of one subject."""

    matrix: NDArray[np.float64]
    warp: NDArray[np.float32]
    stroke_px: float


def change_hands(
    crops: Sequence[Image], subjects: Sequence[int], config: HandConfig, seed: int
) -> list[Image]:
    """Make other writers of the writers in a batch.

    Args:
        crops: Each (H, W, 3) uint8, all of one size, three equal channels, 0 where there is no ink.
        subjects: A number for each crop's subject; equal numbers are changed alike.
        config: The section ``[augmentation.hand]``.
        seed: In [0, 2**32); the same seed gives the same changes.

    Returns:
        As many crops of the same size; the ink stays within them.
    """
    random = np.random.default_rng(seed)
    hands: dict[int, _Hand] = {}
    changed = []
    for crop, subject in zip(crops, subjects, strict=True):
        if subject not in hands:
            hands[subject] = _another_hand(random, config, crop.shape[0])
        grey = _changed(crop[:, :, 0], hands[subject], random, config)
        changed.append(np.repeat(grey[:, :, None], 3, axis=2))
    return changed


def _another_hand(random: np.random.Generator, config: HandConfig, height: int) -> _Hand:
    mirror = np.ones(2)
    if random.random() < config.mirror:
        mirror = np.array(((-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0))[random.integers(3)])
    stretch = np.exp(random.uniform(-1.0, 1.0, 2) * np.log1p(config.subject_stretch))
    matrix = _rotation(random.uniform(-1.0, 1.0) * config.subject_rotate_deg)
    matrix = matrix @ _shear(random.uniform(-1.0, 1.0) * config.subject_shear)
    warp = random.standard_normal((*_SUBJECT_NODES, 2)) * config.subject_warp_share * height
    nodes = _resized(warp.astype(np.float32), *_IMAGE_NODES)
    return _Hand(
        matrix @ np.diag(mirror * stretch),
        nodes,
        random.uniform(-1.0, 1.0) * config.subject_stroke_px,
    )


def _changed(
    grey: NDArray[np.uint8], hand: _Hand, random: np.random.Generator, config: HandConfig
) -> NDArray[np.uint8]:
    height, width = grey.shape
    scale = np.exp(random.uniform(-1.0, 1.0, 3) * np.log1p([config.scale, 0.5 * config.scale, 0]))
    matrix = _rotation(random.uniform(-1.0, 1.0) * config.rotate_deg)
    matrix = matrix @ _shear(random.uniform(-1.0, 1.0) * config.shear) @ hand.matrix
    matrix = matrix * scale[0] @ np.diag((scale[1], 1.0 / scale[1]))
    matrix = matrix * _that_fits(grey, matrix)
    shift = random.uniform(-1.0, 1.0, 2) * config.shift_share * (width, height)
    warp = random.standard_normal((*_IMAGE_NODES, 2)) * config.warp_share * height
    places = _places(matrix, shift, hand.warp + warp.astype(np.float32), height, width)
    columns, rows = np.ascontiguousarray(places.transpose(2, 0, 1))
    moved = cv2.remap(grey, columns, rows, cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    own = random.uniform(-1.0, 1.0) * config.stroke_px if random.random() < 0.5 else 0.0
    return _thickened(moved, hand.stroke_px + own)


def _places(
    matrix: NDArray[np.float64],
    shift: NDArray[np.float64],
    warp: NDArray[np.float32],
    height: int,
    width: int,
) -> NDArray[np.float32]:
    """(H, W, 2) float32: where in the crop each pixel of the result is looked up, (x, y)."""
    inverse = np.linalg.inv(matrix)
    places = _resized(warp, height, width)
    places[..., 0] += np.arange(width, dtype=np.float32) - (width - 1) / 2 - np.float32(shift[0])
    places[..., 1] += (np.arange(height, dtype=np.float32) - (height - 1) / 2)[
        :, None
    ] - np.float32(shift[1])
    found = places @ inverse.T.astype(np.float32)
    found += np.array([(width - 1) / 2, (height - 1) / 2], np.float32)
    return np.asarray(found, np.float32)


def _that_fits(grey: NDArray[np.uint8], matrix: NDArray[np.float64]) -> float:
    """The factor, at most 1, by which the mapped ink stays inside."""
    height, width = grey.shape
    rows, columns = np.nonzero(grey[::4, ::4])
    if not len(rows):
        return 1.0
    corners = np.stack([columns * 4 - width / 2, rows * 4 - height / 2])
    reach = np.abs(matrix @ corners).max(axis=1)
    return float(min(1.0, width / 2 / max(reach[0], 1.0), height / 2 / max(reach[1], 1.0)))


def _thickened(grey: NDArray[np.uint8], stroke_px: float) -> NDArray[np.uint8]:
    """Strokes wider by ``stroke_px`` on each side, or thinner; parts of a pixel by mixing."""
    amount = min(abs(stroke_px), 1.0)
    if amount < 0.05:
        return grey
    if stroke_px > 0:
        other = cv2.dilate(grey, np.ones((3, 3), np.uint8))
    else:
        other = cv2.erode(grey, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
    return cv2.addWeighted(grey, 1.0 - amount, other, amount, 0.0).astype(np.uint8, copy=False)


def _rotation(degrees: float) -> NDArray[np.float64]:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, -sine], [sine, cosine]])


def _shear(slope: float) -> NDArray[np.float64]:
    return np.array([[1.0, slope], [0.0, 1.0]])


def _resized(nodes: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(nodes, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
