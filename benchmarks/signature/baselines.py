"""Baselines without a trained network: the paper, the pen, and classical descriptors.

Each is measured by the protocol of the models. The paper alone must be near chance; otherwise data or
pipeline identify the writer by something other than the handwriting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.signature.data import Signatures, each_image
from benchmarks.signature.protocol import EmbeddingScorer, MeanScorer, Scorer
from verifykit.errors import AcquisitionError
from verifykit.modalities.signature.crop import crop_signature
from verifykit.modalities.signature.ink import Ink, find_ink
from verifykit.spec import SignatureCrop
from verifykit.types import Image

# A fixed canvas, so that the results do not depend on the measured model.
CROP = SignatureCrop(height_px=128, width_px=384)
SIFT_RATIO = 0.8
_AROUND_INK_PX = 7
_HOG_CELL_PX, _HOG_DIRECTIONS = 16, 9


@dataclass(frozen=True, eq=False)
class Features:
    """The features of an image.

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
    """The baselines of N images.

    Attributes:
        usable: (N,) images with ink.
        refused: (N,) the reason of a refusal, else empty.
    """

    def __init__(self, signatures: Signatures, features: list[Features | str]) -> None:
        """Keep the features of each image, or the reason of its refusal."""
        self.usable = np.array([not isinstance(each, str) for each in features])
        self.refused = np.array([each if isinstance(each, str) else "" for each in features])
        self._sets = signatures.sets
        self._features = features

    def scorers(self) -> dict[str, Scorer]:
        """Return the baselines by name, in the order of the table."""
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
                self._rows(lambda each: each.hog.astype(np.float64)).astype(np.float32), "mean"
            ),
        }

    def _rows(self, part: Callable[[Features], NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return (N, F) one part of the features; NaN for refused images."""
        parts = [None if isinstance(each, str) else part(each) for each in self._features]
        size = next(len(row) for row in parts if row is not None)
        return np.array([np.full(size, np.nan) if row is None else row for row in parts])

    def _distance(self, part: Callable[[Features], NDArray[np.float64]]) -> Scorer:
        """Score by minus the Euclidean distance of features standardised within their set."""
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
        descriptors = [
            np.empty((0, 128), np.uint8) if isinstance(e, str) else e.sift for e in self._features
        ]
        known: dict[tuple[int, int], float] = {}

        def similarity(reference: int, probes: NDArray[np.int64]) -> NDArray[np.float64]:
            for probe in probes.tolist():
                if (reference, probe) not in known:
                    known[reference, probe] = matched_share(
                        descriptors[reference], descriptors[probe]
                    )
            return np.array([known[reference, probe] for probe in probes.tolist()])

        return MeanScorer(similarity)


def measure(signatures: Signatures, *, workers: int = 2) -> Baselines:
    """Compute the features of every image."""
    features: list[Features | str] = ["not read"] * len(signatures.paths)
    work = partial(_features, CROP)
    for results in each_image(signatures, work, workers=workers, description="baselines"):
        for number, result in results:
            features[number] = result
    return Baselines(signatures, features)


def matched_share(reference: NDArray[np.uint8], probe: NDArray[np.uint8]) -> float:
    """Return the number of good matches over the smaller number of keypoints.

    Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 60, 2004, section 7.1: a match
    is good if the next best is clearly farther. The share is above 1 if several of the (K, 128) reference
    descriptors match the same probe descriptor, and 0 with fewer than two probe descriptors.
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
        raise AcquisitionError("the image has no ink", reason="blank")
    crop: Image = np.ascontiguousarray(crop_signature(ink, spec)[:, :, 0])
    _, descriptors = cv2.SIFT.create().detectAndCompute(crop, None)
    return Features(
        paper=_paper(image, ink),
        size_px=np.array(image.shape[:2], np.float64),
        crop_paper=_crop_paper(crop, ink, spec),
        stroke_px=ink.stroke_px / ink.scale,
        sift=np.empty((0, 128), np.uint8) if descriptors is None else descriptors.astype(np.uint8),
        hog=_hog(crop),
    )


def _paper(image: Image, ink: Ink) -> NDArray[np.float64]:
    """Return mean and deviation of each channel, and the grey histogram in 16 bins, away from the ink."""
    height, width = image.shape[:2]
    near = cv2.dilate(ink.mask.astype(np.uint8), _kernel())
    near = cv2.resize(near, (width, height), interpolation=cv2.INTER_NEAREST)
    away = (near == 0).astype(np.uint8)
    mask = away if away.any() else None
    mean, deviation = cv2.meanStdDev(image, mask=mask)
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    counts = cv2.calcHist([grey], [0], mask, [16], [0, 256]).ravel()
    parts = [mean.ravel(), deviation.ravel(), counts / counts.sum()]
    # OpenCV's deviation of uniform paper is a rounding error instead of 0, which would act as a feature.
    row = np.concatenate(parts).astype(np.float64).round(3)
    return np.asarray(row, np.float64)


def _crop_paper(crop: Image, ink: Ink, spec: SignatureCrop) -> NDArray[np.float64]:
    """Return mean, deviation and maximum of the crop away from the strokes: 0 unless the pipeline leaks."""
    strokes = replace(ink, darkness=ink.mask.astype(np.uint8) * 255)
    pixels = crop[cv2.dilate(crop_signature(strokes, spec)[:, :, 0], _kernel()) == 0]
    return np.array([pixels.mean(), pixels.std(), pixels.max()]) if pixels.size else np.zeros(3)


def _hog(crop: Image) -> NDArray[np.float32]:
    """Return histograms of oriented gradients as a unit row: 9 directions, 16 px cells, 2 x 2 blocks.

    Dalal and Triggs, "Histograms of oriented gradients for human detection", CVPR 2005, without the
    interpolation between cells.
    """
    grey = crop.astype(np.float32)
    across = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=1)
    down = cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=1)
    bins = (np.arctan2(down, across) % np.pi) * (_HOG_DIRECTIONS / np.pi)
    direction = bins.astype(np.int64) % _HOG_DIRECTIONS
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
