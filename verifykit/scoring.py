"""Cosine similarity, fusion of several templates into one score, and normalisation by a cohort.

``verify`` and ``identify`` give the same number for the same probe and subject, whatever else is in the
gallery or the batch: rows are brought to unit length, products are summed row by row in float64 in a fixed
order, and the sum is rounded to float32.

Normalisation is adaptive symmetric (s-norm): for each side of a comparison the K highest scores against a
cohort of other people are taken, the score is expressed in their standard deviations above their mean, and
the two are averaged. Matějka et al., "Analysis of Score Normalization in Multilingual Speaker Recognition",
Interspeech 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from verifykit.errors import InputError, TemplateFormatError, shown
from verifykit.spec import Cohort, Fusion
from verifykit.types import UNIT_TOLERANCE

FUSIONS: tuple[Fusion, ...] = ("max", "mean", "centroid", "spread")

LONGEST_ROW = 4.0
"""Bound of the length of a reference row under any fusion."""

# Bounds the float64 copies of one call.
_BLOCK_ROWS = 4096


def checked_fusion(fusion: str) -> Fusion:
    """Return the fusion of a name; raise :class:`InputError` for an unknown one."""
    for known in FUSIONS:
        if fusion == known:
            return known
    raise InputError(f"unknown fusion {shown(fusion)}: one of {', '.join(FUSIONS)}")


def checked_embeddings(values: ArrayLike, embedding_size: int | None = None) -> NDArray[np.float32]:
    """Return (N, D) float32 unit rows, C-contiguous, copied only where needed; N may be 0.

    Raises:
        TemplateFormatError: Another shape or dtype, NaN or infinite, or not of unit length.
    """
    raw: NDArray[Any] = np.asarray(values)
    if raw.dtype.kind != "f":
        raise TemplateFormatError(f"embeddings are float32, got {raw.dtype}")
    if raw.ndim != 2 or embedding_size not in (None, raw.shape[1]):
        size = "D" if embedding_size is None else embedding_size
        raise TemplateFormatError(f"embeddings have shape (N, {size}), got {raw.shape}")
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
    """Return the rows (N, D) at unit length, each on its own, so that its neighbours change nothing."""
    source = np.ascontiguousarray(rows, dtype=np.float32)
    result = np.empty_like(source)
    for start in range(0, len(source), _BLOCK_ROWS):
        wide = source[start : start + _BLOCK_ROWS].astype(np.float64)
        result[start : start + _BLOCK_ROWS] = wide / _lengths(wide)[:, None]
    return result


def paired_scores(probe: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the exact scores of one unit probe (D,) against each reference row (R, D), in [-1, 1].

    Bit-equal whatever the number of rows.
    """
    scores = np.empty(len(rows), dtype=np.float32)
    wide_probe = probe.astype(np.float64)
    for start in range(0, len(rows), _BLOCK_ROWS):
        products = np.ascontiguousarray(rows[start : start + _BLOCK_ROWS]) * wide_probe
        scores[start : start + _BLOCK_ROWS] = products.sum(axis=1)
    return np.clip(scores, -1.0, 1.0)


def cosine(a: ArrayLike, b: ArrayLike) -> float:
    """Return the cosine similarity of two unit embeddings (D,), in [-1, 1]."""
    return subject_score(a, np.asarray(b)[None, ...], "max")


def reference_rows(templates: ArrayLike, fusion: Fusion) -> NDArray[np.float32]:
    """Return the rows that represent a subject: its score is the probe's best with any of them.

    The mean of the scores with T templates is the score with the mean of the templates, so ``mean``,
    ``centroid`` and ``spread`` are one row each. They divide the mean by its length to the power of 0, 1 and
    2. The length says how alike the references are, ``|mean|^2`` being the mean of all their T x T cosines:
    with ``spread`` a score is a share of what the references score among themselves, so that one threshold
    suits consistent and inconsistent writers.

    Args:
        templates: (T, D) float32, T at least 1, rows of unit length, in the order of enrollment.
        fusion: ``"max"`` keeps every template, ``"mean"`` is their mean, ``"centroid"`` their mean
            brought to unit length, ``"spread"`` their mean divided by its squared length, but by 1/16
            at least, so that no score is high for references that have nothing in common.

    Returns:
        (T, D) for ``max``, else (1, D); float32, of length 1, with ``"mean"`` at most 1, with ``"spread"``
        at most 4. Templates that cancel each other out have no centroid: the row and its score are zero.
    """
    rows = np.asarray(templates)
    return fused_rows(rows, [len(rows)], fusion)


def fused_rows(templates: ArrayLike, counts: ArrayLike, fusion: Fusion) -> NDArray[np.float32]:
    """Return the rows of many subjects at once, bit-equal to :func:`reference_rows` of each alone.

    ``templates`` are (T, D), one subject's after the other's; ``counts`` (S,) says how many each has.
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
        # One template after the other: numpy does not define the order of a sum over an axis.
        remaining = np.flatnonzero(sizes > k)
        mean[remaining] += units[firsts[remaining] + k]
    mean /= sizes[:, None]
    lengths = _lengths(mean)[:, None]
    if fusion == "centroid":
        mean /= np.where(lengths > 0.0, lengths, 1.0)
    if fusion == "spread":
        mean /= np.maximum(lengths, 1.0 / LONGEST_ROW) ** 2
    return mean


def subject_score(probe: ArrayLike, templates: ArrayLike, fusion: Fusion) -> float:
    """Return the score of a probe against a subject, in [-1, 1], equal to that of a gallery's search.

    Args:
        probe: (D,) float32 of unit length.
        templates: (T, D) float32 of unit length, T at least 1, in the order of enrollment.
        fusion: How T scores become one; see :func:`reference_rows`.

    Raises:
        TemplateFormatError: A shape does not fit, or values are not finite or not of unit length.
        InputError: Unknown fusion.
    """
    single = checked_embeddings(np.asarray(probe)[None, ...])
    several = checked_embeddings(templates, single.shape[1])
    if not len(several):
        raise TemplateFormatError("a subject's score takes at least one template, got none")
    rows = reference_rows(several, checked_fusion(fusion))
    return float(paired_scores(unit_rows(single)[0], rows).max())


def score_matrix(probes: ArrayLike, references: ArrayLike) -> NDArray[np.float32]:
    """Return the score of each probe, (P, D), against each of (R, D) references by itself, (P, R).

    The scores are those of :func:`subject_score` for single references, to the last bit.
    """
    each = checked_embeddings(probes)
    rows = reference_rows(checked_embeddings(references, each.shape[1]), "max")
    return np.stack([paired_scores(probe, rows) for probe in unit_rows(each)])


def _lengths(wide: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Euclidean length of each row, summed row by row."""
    lengths: NDArray[np.float64] = np.sqrt(np.square(wide).sum(axis=1))
    return lengths


_MIN_DEVIATION = 1e-6


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean and deviation of the K highest cohort scores of each row, (R,); deviations are above 0."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


@dataclass(frozen=True)
class PairNormalisation:
    """The linear normalisation of one pair: ``slope * score + intercept``, slope above 0.

    A threshold for normalised scores is therefore one for the cosine of this pair.
    """

    slope: float
    intercept: float

    @classmethod
    def of(cls, probe: Statistics, reference: Statistics) -> PairNormalisation:
        """Return the normalisation of a probe and a reference, one row each."""
        sides = ((float(s.mean[0]), float(s.deviation[0])) for s in (probe, reference))
        (mean_a, deviation_a), (mean_b, deviation_b) = sides
        return cls(
            (1 / deviation_a + 1 / deviation_b) / 2,
            -(mean_a / deviation_a + mean_b / deviation_b) / 2,
        )

    def apply(self, score: float) -> float:
        """Return the normalised score of a cosine."""
        return self.slope * score + self.intercept

    def undo(self, normalised: float) -> float:
        """Return the cosine that has this normalised score; may be outside [-1, 1]."""
        return (normalised - self.intercept) / self.slope


def cohort_statistics(cohort: Cohort, rows: NDArray[np.float32]) -> Statistics:
    """Return mean and deviation of the K highest scores of each row (R, D) against the cohort."""
    scores = rows.astype(np.float64) @ cohort.rows.astype(np.float64).T
    highest = np.partition(scores, -cohort.nearest, axis=1)[:, -cohort.nearest :]
    deviation = np.maximum(highest.std(axis=1), _MIN_DEVIATION)
    return Statistics(highest.mean(axis=1), deviation)


def normalise(
    scores: NDArray[np.float32], probe: Statistics, reference: Statistics
) -> NDArray[np.float32]:
    """Return normalised scores of P comparisons; statistics are (P,) a side, or (1,) for all."""
    wide = scores.astype(np.float64)
    left = (wide - probe.mean) / probe.deviation
    right = (wide - reference.mean) / reference.deviation
    return ((left + right) / 2).astype(np.float32)
