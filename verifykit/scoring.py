"""Cosine similarity, and how several templates of one subject become one score.

A score is computed in one way everywhere, so that ``verify`` and ``identify`` give the same number for
the same probe and subject, whatever else is in the gallery or in the batch: rows are brought to unit
length, products are summed row by row in float64 in a fixed order, and the sum is rounded to float32.

Adaptive symmetric score normalisation by a cohort (adaptive s-norm).

Of each side of a comparison the scores against a cohort of other people are taken, the K highest of them, and
the score is expressed in their standard deviations above their mean; the two are averaged. Matějka et al.,
"Analysis of Score Normalization in Multilingual Speaker Recognition", Interspeech 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from verifykit.errors import InputError, TemplateFormatError
from verifykit.spec import Cohort, Fusion
from verifykit.types import UNIT_TOLERANCE

FUSIONS: tuple[Fusion, ...] = ("max", "mean", "centroid", "spread")

LONGEST_ROW = 4.0
"""Bound of the length of a reference row under any fusion."""

# Bounds the float64 copies that one call makes.
_BLOCK_ROWS = 4096


def checked_fusion(fusion: str) -> Fusion:
    """The fusion of that name.

    Raises:
        InputError: There is none.
    """
    for known in FUSIONS:
        if fusion == known:
            return known
    raise InputError(f"unknown fusion {fusion!r}: one of {', '.join(FUSIONS)}")


def checked_embeddings(values: ArrayLike, embedding_size: int | None = None) -> NDArray[np.float32]:
    """Embeddings that can be compared.

    Args:
        values: (N, D) real numbers, rows of unit length; N may be 0.
        embedding_size: D that is wanted, if known.

    Returns:
        (N, D) float32, C-contiguous; a copy only where one is needed.

    Raises:
        TemplateFormatError: Another shape, not real numbers, NaN or infinite, or not of unit length.
    """
    raw: NDArray[Any] = np.asarray(values)
    if raw.dtype.kind != "f":
        raise TemplateFormatError(f"embeddings are float32, got {raw.dtype}")
    wanted = "D" if embedding_size is None else embedding_size
    if raw.ndim != 2 or raw.shape[1] != (
        raw.shape[1] if embedding_size is None else embedding_size
    ):
        raise TemplateFormatError(f"embeddings have shape (N, {wanted}), got {raw.shape}")
    rows = np.ascontiguousarray(raw, dtype=np.float32)
    for start in range(0, len(rows), _BLOCK_ROWS):
        lengths = _lengths(rows[start : start + _BLOCK_ROWS].astype(np.float64))
        bad = np.flatnonzero(~(np.abs(lengths - 1.0) <= UNIT_TOLERANCE))
        if bad.size:
            raise TemplateFormatError(
                f"embeddings have unit length, row {start + int(bad[0])} has {lengths[bad[0]]}"
            )
    return rows


def unit_rows(rows: ArrayLike) -> NDArray[np.float32]:
    """Rows brought to unit length, each by itself: the result does not depend on its neighbours.

    Args:
        rows: (N, D) float32, none of length zero.

    Returns:
        (N, D) float32, of length 1 within float32's precision.
    """
    source = np.ascontiguousarray(rows, dtype=np.float32)
    result = np.empty_like(source)
    for start in range(0, len(source), _BLOCK_ROWS):
        wide = source[start : start + _BLOCK_ROWS].astype(np.float64)
        result[start : start + _BLOCK_ROWS] = wide / _lengths(wide)[:, None]
    return result


def paired_scores(probe: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The exact score of one probe against each row; bit-equal whatever the number of rows.

    Args:
        probe: (D,) float32, of :func:`unit_rows`.
        rows: (R, D) float32, of :func:`reference_rows`.

    Returns:
        (R,) float32 in [-1, 1].
    """
    scores = np.empty(len(rows), dtype=np.float32)
    wide_probe = probe.astype(np.float64)
    for start in range(0, len(rows), _BLOCK_ROWS):
        products = np.ascontiguousarray(rows[start : start + _BLOCK_ROWS]) * wide_probe
        scores[start : start + _BLOCK_ROWS] = products.sum(axis=1)
    return np.clip(scores, -1.0, 1.0)


def cosine(a: ArrayLike, b: ArrayLike) -> float:
    """Cosine similarity of two embeddings.

    Args:
        a: (D,) float32 of unit length.
        b: (D,) float32 of unit length.

    Returns:
        The score in [-1, 1], higher is more alike; ``cosine(a, b) == cosine(b, a)``.

    Raises:
        TemplateFormatError: One is no embedding, or their lengths differ.
    """
    return subject_score(a, np.asarray(b)[None, ...], "max")


def reference_rows(templates: ArrayLike, fusion: Fusion) -> NDArray[np.float32]:
    """The rows that stand for a subject: its score is the best of the probe's with each of them.

    The mean of the scores with T templates is the score with the mean of the templates, so ``mean``,
    ``centroid`` and ``spread`` are one row each. They differ in the power of the mean's length that it is
    divided by: 0, 1 and 2. The length says how alike the references are, ``|mean|^2`` being the mean of
    all their T x T cosines: with ``spread`` a score is the share of what the references score among
    themselves, so that one threshold suits steady hands and unsteady ones.

    Args:
        templates: (T, D) float32, T at least 1, rows of unit length, in the order of enrolment.
        fusion: ``"max"`` keeps every template, ``"mean"`` is their mean, ``"centroid"`` their mean
            brought to unit length, ``"spread"`` their mean divided by its squared length, but by 1/16
            at the least: of references that have nothing in common no score is good.

    Returns:
        (T, D) for ``max``, else (1, D); float32, of length 1, with ``"mean"`` at most 1, with ``"spread"``
        at most 4. Templates that cancel each other out have no centroid: that row is zero, and its score 0.
    """
    rows = np.asarray(templates)
    return fused_rows(rows, [len(rows)], fusion)


def fused_rows(templates: ArrayLike, counts: ArrayLike, fusion: Fusion) -> NDArray[np.float32]:
    """The rows of many subjects at once, each to the bit what :func:`reference_rows` gives for it alone.

    Args:
        templates: (T, D) float32, rows of unit length: one subject's after the other's, each in the order
            of enrolment.
        counts: (S,) integers of at least 1 that add up to T, how many templates each subject has.
        fusion: As there.

    Returns:
        (T, D) for ``max``, else (S, D); float32.
    """
    units = unit_rows(templates)
    if fusion == "max":
        return units
    sizes = np.asarray(counts, dtype=np.int64)
    if fusion == "mean" and (sizes == 1).all():
        return units  # a mean of one
    firsts = np.cumsum(sizes) - sizes
    fused = np.empty((len(sizes), units.shape[1]), np.float32)
    for start in range(0, len(sizes), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        fused[block] = _means(units, firsts[block], sizes[block], fusion)
    return fused


def _means(
    units: NDArray[np.float32],
    firsts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    fusion: Fusion,
) -> NDArray[np.float64]:
    mean = np.zeros((len(sizes), units.shape[1]))
    for k in range(int(sizes.max(initial=0))):
        # One template after the other: a sum over an axis does not promise an order.
        having = np.flatnonzero(sizes > k)
        mean[having] += units[firsts[having] + k]
    mean /= sizes[:, None]
    lengths = _lengths(mean)[:, None]
    if fusion == "centroid":
        mean /= np.where(lengths > 0.0, lengths, 1.0)
    if fusion == "spread":
        mean /= np.maximum(lengths, 1.0 / LONGEST_ROW) ** 2
    return mean


def subject_score(probe: ArrayLike, templates: ArrayLike, fusion: Fusion) -> float:
    """The score of a probe against a subject, the same number that a gallery's search gives.

    Args:
        probe: (D,) float32 of unit length.
        templates: (T, D) float32 of unit length, T at least 1, in the order of enrolment.
        fusion: How T scores become one; see :func:`reference_rows`.

    Returns:
        The score in [-1, 1].

    Raises:
        TemplateFormatError: A shape does not fit, or values are not finite or not of unit length.
        InputError: No such fusion.
    """
    single = checked_embeddings(np.asarray(probe)[None, ...])
    several = checked_embeddings(templates, single.shape[1])
    if not len(several):
        raise TemplateFormatError("a subject's score takes at least one template, got none")
    rows = reference_rows(several, checked_fusion(fusion))
    return float(paired_scores(unit_rows(single)[0], rows).max())


def _lengths(wide: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean length of each row, summed row by row."""
    lengths: NDArray[np.float64] = np.sqrt(np.square(wide).sum(axis=1))
    return lengths


_LEAST_DEVIATION = 1e-6


@dataclass(frozen=True, eq=False)
class Statistics:
    """What a cohort scores against rows.

    Attributes:
        mean: (R,) float64, mean of the K highest scores.
        deviation: (R,) float64, their standard deviation, above 0.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


@dataclass(frozen=True)
class Normal:
    """The normalisation of one pair, which is linear: ``slope * score + intercept``.

    So a threshold for normalised scores is one for the cosine of this very pair.

    Attributes:
        slope: Above 0.
        intercept: At score 0.
    """

    slope: float
    intercept: float

    @classmethod
    def of(cls, probe: Statistics, reference: Statistics) -> Normal:
        """The normalisation of a probe and a reference.

        Args:
            probe: Of one row.
            reference: Of one row.
        """
        sides = ((float(s.mean[0]), float(s.deviation[0])) for s in (probe, reference))
        (mean_a, deviation_a), (mean_b, deviation_b) = sides
        return cls(
            (1 / deviation_a + 1 / deviation_b) / 2,
            -(mean_a / deviation_a + mean_b / deviation_b) / 2,
        )

    def apply(self, score: float) -> float:
        """The normalised score of a cosine.

        Args:
            score: Cosine similarity.
        """
        return self.slope * score + self.intercept

    def undo(self, normalised: float) -> float:
        """The cosine that has this normalised score; may lie outside [-1, 1].

        Args:
            normalised: A normalised score.
        """
        return (normalised - self.intercept) / self.slope


def cohort_statistics(cohort: Cohort, rows: NDArray[np.float32]) -> Statistics:
    """Mean and deviation of the K highest scores of each row against the cohort.

    Args:
        cohort: C rows.
        rows: (R, D) float32: unit embeddings, or the fused row that stands for a subject.
    """
    scores = rows.astype(np.float64) @ cohort.rows.astype(np.float64).T
    highest = np.partition(scores, -cohort.nearest, axis=1)[:, -cohort.nearest :]
    deviation = np.maximum(highest.std(axis=1), _LEAST_DEVIATION)
    return Statistics(highest.mean(axis=1), deviation)


def normalise(
    scores: NDArray[np.float32], probe: Statistics, reference: Statistics
) -> NDArray[np.float32]:
    """Normalised scores of many comparisons, (P,) each.

    Args:
        scores: (P,) cosine similarities.
        probe: (P,) statistics of the one side, or (1,) of all.
        reference: (P,) statistics of the other, or (1,) of all.
    """
    wide = scores.astype(np.float64)
    left = (wide - probe.mean) / probe.deviation
    right = (wide - reference.mean) / reference.deviation
    return ((left + right) / 2).astype(np.float32)
