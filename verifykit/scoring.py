"""Cosine similarity, fusion of several templates into one score, and the penalty of look-alikes.

``verify`` and ``identify`` give the same number for the same probe and subject, whatever else is in the
gallery or the batch: rows are brought to unit length, products are summed row by row in float64 in a fixed
order, and the sum is rounded to float32.

With a cohort, half of each side's penalty is taken from the cosine (:func:`penalties`; docs/adr/0018): an
embedding that resembles the mean of many other people is a look-alike of all who resemble it too. The
penalty is a number of one embedding, so a search still has one threshold for all.
"""

from __future__ import annotations

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
_BLOCK_VALUES = 1 << 17


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


def tile_scores(
    probes: NDArray[np.float32], references: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the scores (P, R) of unit rows (P, D) and (R, D), to the last bit those of `paired_scores`.

    A matrix product in float64 adds in another order. Where that could change the rounding to float32, which
    is for a few scores in a million, the score is computed as `paired_scores` computes it.
    """
    one, other = probes.astype(np.float64), references.astype(np.float64)
    products = one @ other.T
    # Twice the bound of both sums' errors: D roundings each, of terms whose magnitudes sum up to 1.
    doubt = 4 * probes.shape[1] * float(np.finfo(np.float64).eps)
    found: NDArray[np.float32] = (products + doubt).astype(np.float32)
    rows, columns = np.nonzero(found != (products - doubt).astype(np.float32))
    for start in range(0, len(rows), _BLOCK_ROWS):
        some = slice(start, start + _BLOCK_ROWS)
        found[rows[some], columns[some]] = (one[rows[some]] * other[columns[some]]).sum(axis=1)
    np.clip(found, -1.0, 1.0, out=found)
    return found


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


def subject_score(
    probe: ArrayLike, templates: ArrayLike, fusion: Fusion, cohort: Cohort | None = None
) -> float:
    """Return the score of a probe against a subject, in [-1, 1], equal to that of a search in a gallery.

    Args:
        probe: (D,) float32 of unit length.
        templates: (T, D) float32 of unit length, T at least 1, in the order of enrollment.
        fusion: How T scores become one; see :func:`reference_rows`.
        cohort: Lowers the scores of look-alikes; None for bare cosines.

    Raises:
        TemplateFormatError: A shape does not fit, or values are not finite or not of unit length.
        InputError: Unknown fusion.
    """
    single = checked_embeddings(np.asarray(probe)[None, ...])
    several = checked_embeddings(templates, single.shape[1])
    if not len(several):
        raise TemplateFormatError("a subject's score takes at least one template, got none")
    rows = reference_rows(several, checked_fusion(fusion))
    return float(scores_of(unit_rows(single)[0], rows, cohort).max())


def score_matrix(
    probes: ArrayLike, references: ArrayLike, cohort: Cohort | None = None
) -> NDArray[np.float32]:
    """Return the score of each probe, (P, D), against each of (R, D) references by itself, (P, R).

    The scores are those of :func:`subject_score` for single references, to the last bit.
    """
    each = checked_embeddings(probes)
    rows = reference_rows(checked_embeddings(references, each.shape[1]), "max")
    return np.stack([scores_of(probe, rows, cohort) for probe in unit_rows(each)])


def _lengths(wide: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Euclidean length of each row, summed row by row."""
    lengths: NDArray[np.float64] = np.sqrt(np.square(wide).sum(axis=1))
    return lengths


def penalties(cohort: Cohort | None, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the penalty of each row (R, D), at least 0; of its direction, whatever its length.

    Bit-equal whatever the number of rows; 0 without a cohort.
    """
    if cohort is None:
        return np.zeros(len(rows))
    means, units = np.empty(len(rows)), unit_rows(rows)
    step = max(1, _BLOCK_VALUES // cohort.centres.size)
    for start in range(0, len(units), step):
        # As paired_scores, of several rows at once.
        products = cohort.centres * units[start : start + step, None].astype(np.float64)
        cosines = np.clip(products.sum(axis=2).astype(np.float32), -1.0, 1.0)
        nearest = np.sort(cosines, axis=1)[:, -cohort.nearest :].astype(np.float64)
        means[start : start + step] = nearest.mean(axis=1)
    return cohort.factor * np.maximum(means - cohort.typical, 0.0)


def penalised(
    cosines: NDArray[np.float32], probe: ArrayLike, reference: ArrayLike
) -> NDArray[np.float32]:
    """Return the scores (P,) of cosines (P,), less half of both sides' penalties, (P,) or one for all."""
    half = (np.asarray(probe, np.float64) + np.asarray(reference, np.float64)) / 2
    return np.maximum(cosines.astype(np.float64) - half, -1.0).astype(np.float32)


def scores_of(
    probe: NDArray[np.float32], rows: NDArray[np.float32], cohort: Cohort | None
) -> NDArray[np.float32]:
    """Return the scores of one unit probe (D,) against each reference row (R, D), in [-1, 1]."""
    cosines = paired_scores(probe, rows)
    if cohort is None:
        return cosines
    return penalised(cosines, penalties(cohort, probe[None]), penalties(cohort, rows))
