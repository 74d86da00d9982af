"""What can be told without a trained network: from the paper, the pen, or classical descriptors.

Each goes through the protocol of the models. The paper alone must be near chance, or the data or the
pipeline tell who wrote by something else than the hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.signature_protocol import EmbeddingScorer, MeanScorer, Scorer
from benchmarks.signatures import Signatures, each_image
from verifykit.errors import AcquisitionError
from verifykit.modalities.signature.crop import crop_signature
from verifykit.modalities.signature.ink import Ink, find_ink
from verifykit.spec import SignatureCrop
from verifykit.types import Image

__all__ = ["Baselines", "measure"]

# Their own canvas, so that their numbers do not depend on the model beside them.
CROP = SignatureCrop(height_px=128, width_px=384)
SIFT_RATIO = 0.8
_AROUND_INK_PX = 7
_HOG_CELL_PX, _HOG_DIRECTIONS = 16, 9


@dataclass(frozen=True, eq=False)
class Features:
    """What the baselines keep of an image.

    Attributes:
        paper: (F,) mean, deviation and histogram of the raw image's paper.
        size_px: (2,) height and width of the raw image.
        crop_paper: (3,) mean, deviation and maximum of the crop's paper.
        stroke_px: Mean width of the strokes in the raw image.
        sift: (K, 128) uint8 descriptors of the crop.
        hog: (H,) float32 unit row of the crop.
    """

    paper: NDArray[np.float64]
    size_px: NDArray[np.float64]
    crop_paper: NDArray[np.float64]
    stroke_px: float
    sift: NDArray[np.uint8]
    hog: NDArray[np.float32]


class Baselines:
    """The baselines of N measured images.

    Attributes:
        usable: (N,) images in which there is ink.
        refused: (N,) the reason for the others, else empty.
    """

    def __init__(self, signatures: Signatures, features: list[Features | str]) -> None:
        """Keep what :func:`measure` found.

        Args:
            signatures: N images.
            features: Of each, or the reason why there are none.
        """
        self.usable = np.array([not isinstance(each, str) for each in features])
        self.refused = np.array([each if isinstance(each, str) else "" for each in features])
        self._sets = signatures.sets
        self._features = features

    def scorers(self) -> dict[str, Scorer]:
        """Each baseline by its name, in the order of the table."""
        stroke = self._rows(lambda each: np.array([each.stroke_px]))[:, 0]
        return {
            "paper of the scan": self._distance(lambda each: each.paper),
            "paper of the scan, and its size in pixels": self._distance(
                lambda each: np.concatenate([each.paper, each.size_px])
            ),
            "paper of the crop (what a network sees)": self._distance(lambda e: e.crop_paper),
            "mean stroke width": MeanScorer(
                lambda reference, probes: -np.abs(stroke[probes] - stroke[reference])
            ),
            "SIFT matching": self._sift(),
            "HOG, cosine": EmbeddingScorer(
                self._rows(lambda each: each.hog).astype(np.float32), "mean"
            ),
        }

    def _rows(self, part: Callable[[Features], NDArray[np.float64]]) -> NDArray[np.float64]:
        """(N, F) one part of the features; NaN where there are none."""
        found = [None if isinstance(each, str) else part(each) for each in self._features]
        size = next(len(row) for row in found if row is not None)
        return np.array([np.full(size, np.nan) if row is None else row for row in found])

    def _distance(self, part: Callable[[Features], NDArray[np.float64]]) -> Scorer:
        """Minus the Euclidean distance after each feature was brought to deviation 1 within its set."""
        rows = self._rows(part)
        for name in set(self._sets.tolist()):
            own = (self._sets == name) & self.usable
            if own.any():
                spread = rows[own].std(axis=0)
                rows[own] = (rows[own] - rows[own].mean(axis=0)) / np.where(
                    spread > 1e-9, spread, 1
                )
        return MeanScorer(
            lambda reference, probes: -np.linalg.norm(rows[probes] - rows[reference], axis=1)
        )

    def _sift(self) -> Scorer:
        kept = [
            np.empty((0, 128), np.uint8) if isinstance(e, str) else e.sift for e in self._features
        ]
        known: dict[tuple[int, int], float] = {}

        def similarity(reference: int, probes: NDArray[np.int64]) -> NDArray[np.float64]:
            for probe in probes.tolist():
                if (reference, probe) not in known:
                    known[reference, probe] = matched_share(kept[reference], kept[probe])
            return np.array([known[reference, probe] for probe in probes.tolist()])

        return MeanScorer(similarity)


def measure(signatures: Signatures, *, workers: int = 2) -> Baselines:
    """Look at every image once.

    Args:
        signatures: N images.
        workers: Threads.
    """
    features: list[Features | str] = ["not read"] * len(signatures.paths)
    work = partial(_features, CROP)
    for answers in each_image(signatures, work, workers=workers, description="baselines"):
        for number, answer in answers:
            features[number] = answer
    return Baselines(signatures, features)


def matched_share(reference: NDArray[np.uint8], probe: NDArray[np.uint8]) -> float:
    """Good matches over the lesser number of keypoints.

    Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 60, 2004, section 7.1: a match
    is good if the next best is clearly farther.

    Args:
        reference: (K, 128) descriptors.
        probe: (L, 128) descriptors; fewer than two give 0.

    Returns:
        At least 0; above 1 if several keypoints of the reference have one partner.
    """
    if not len(reference) or len(probe) < 2:
        return 0.0
    one, other = reference.astype(np.float32), probe.astype(np.float32)
    # Squared distances; whole numbers below 2^24 are exact in float32.
    squares = np.square(other).sum(axis=1) - 2 * one @ other.T
    squares += np.square(one).sum(axis=1)[:, None]
    row, at = np.arange(len(one)), squares.argmin(axis=1)
    best = squares[row, at]
    squares[row, at] = np.inf
    good = best < SIFT_RATIO**2 * squares.min(axis=1)
    return float(good.sum() / min(len(reference), len(probe)))


def _features(spec: SignatureCrop, image: Image) -> Features:
    ink = find_ink(image, spec)
    if ink.box_px is None:
        raise AcquisitionError("there is no ink in it", reason="blank")
    crop: Image = np.ascontiguousarray(crop_signature(ink, spec)[:, :, 0])
    _, descriptors = cv2.SIFT_create().detectAndCompute(crop, None)
    return Features(
        paper=_paper(image, ink),
        size_px=np.array(image.shape[:2], np.float64),
        crop_paper=_crop_paper(crop, ink, spec),
        stroke_px=ink.stroke_px / ink.scale,
        sift=np.empty((0, 128), np.uint8) if descriptors is None else descriptors.astype(np.uint8),
        hog=_hog(crop),
    )


def _paper(image: Image, ink: Ink) -> NDArray[np.float64]:
    """Mean and deviation of each channel, and the grey histogram in 16 steps, away from the ink."""
    height, width = image.shape[:2]
    near = cv2.dilate(ink.mask.astype(np.uint8), _kernel())
    near = cv2.resize(near, (width, height), interpolation=cv2.INTER_NEAREST)
    away = (near == 0).astype(np.uint8)
    mask = away if away.any() else None
    mean, deviation = cv2.meanStdDev(image, mask=mask)
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    counts = cv2.calcHist([grey], [0], mask, [16], [0, 256]).ravel()
    parts = [mean.ravel(), deviation.ravel(), counts / counts.sum()]
    # OpenCV's deviation of even paper is not 0 but its rounding error, which would pass for a feature.
    return np.concatenate(parts).astype(np.float64).round(3)


def _crop_paper(crop: Image, ink: Ink, spec: SignatureCrop) -> NDArray[np.float64]:
    """Mean, deviation and maximum of the crop away from the strokes: all 0, or the pipeline leaks."""
    strokes = replace(ink, darkness=ink.mask.astype(np.uint8) * 255)
    pixels = crop[cv2.dilate(crop_signature(strokes, spec)[:, :, 0], _kernel()) == 0]
    return np.array([pixels.mean(), pixels.std(), pixels.max()]) if pixels.size else np.zeros(3)


def _hog(crop: Image) -> NDArray[np.float32]:
    """Histograms of oriented gradients, 9 directions in cells of 16 px, blocks of 2 x 2 cells, one unit row.

    Dalal and Triggs, "Histograms of oriented gradients for human detection", CVPR 2005, without the
    interpolation between cells.
    """
    grey = crop.astype(np.float32)
    across = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=1)
    down = cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=1)
    place = (np.arctan2(down, across) % np.pi) * (_HOG_DIRECTIONS / np.pi)
    direction = place.astype(np.int64) % _HOG_DIRECTIONS
    length = np.hypot(across, down)
    rows, columns = grey.shape[0] // _HOG_CELL_PX, grey.shape[1] // _HOG_CELL_PX
    cells = np.stack(
        [
            np.where(direction == bin_, length, 0)
            .reshape(rows, _HOG_CELL_PX, columns, _HOG_CELL_PX)
            .sum(axis=(1, 3))
            for bin_ in range(_HOG_DIRECTIONS)
        ],
        axis=-1,
    )
    corners = (cells[:-1, :-1], cells[:-1, 1:], cells[1:, :-1], cells[1:, 1:])
    blocks = np.concatenate(corners, axis=-1)
    blocks /= np.linalg.norm(blocks, axis=-1, keepdims=True) + 1.0
    row = blocks.ravel()
    return np.asarray(row / max(float(np.linalg.norm(row)), 1e-9), np.float32)


def _kernel() -> NDArray[np.uint8]:
    return np.ones((_AROUND_INK_PX, _AROUND_INK_PX), np.uint8)
