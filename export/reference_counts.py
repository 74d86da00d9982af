"""Thresholds for several references: the same threshold means another rate when more scores are fused."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data import Record
from training.embedding import pair_scores
from verifykit.metrics import fnmr_at, threshold_at_fmr
from verifykit.scoring import paired_scores, reference_rows, unit_rows
from verifykit.spec import Attack, Fusion, OperatingPoint
from verifykit.types import Embeddings

__all__ = [
    "DRAWS",
    "FMRS",
    "REFERENCE_COUNTS",
    "MeasuredPoint",
    "ReferenceScores",
    "draw_scores",
    "measured_points",
]

REFERENCE_COUNTS = (*range(1, 11), 15, 20)

FMRS: Mapping[Attack, tuple[float, ...]] = {
    "random_forgery": (1e-1, 5e-2, 2e-2, 1e-2, 1e-3, 1e-4),
    "skilled_forgery": (1e-1, 5e-2, 2e-2, 1e-2, 5e-3, 2e-3, 1e-3),
}
"""The rates that are looked for; those that the data do not support are left out."""

DRAWS = 20
"""How often a subject's references are drawn. More make a threshold steadier, and no rate lower."""

_LEAST_SUBJECTS = 5  # fewer say how these people write, and nothing about others


@dataclass(frozen=True)
class MeasuredPoint:
    """An operating point, and what it costs the right person.

    Attributes:
        point: Threshold, rate, attack and number of references.
        fnmr: Share of mated probes below the threshold, in [0, 1].
    """

    point: OperatingPoint
    fnmr: float


@dataclass(frozen=True, eq=False)
class ReferenceScores:
    """Scores of probes against the fused references of a subject, every draw's.

    Attributes:
        reference_count: K, how many references are fused.
        subjects: How many subjects had enough genuine images.
        draws: How often the same comparison is among the non-mated and the skilled scores.
        mated: (M,) float32, a subject's genuine images that are no references of the draw.
        non_mated: (N * draws,) float32, genuine images of other subjects (random forgeries).
        skilled: (S * draws,) float32, imitations of the subject; empty without any.
    """

    reference_count: int
    subjects: int
    draws: int
    mated: NDArray[np.float32]
    non_mated: NDArray[np.float32]
    skilled: NDArray[np.float32]


def draw_scores(
    embeddings: Embeddings,
    records: Sequence[Record],
    fusion: Fusion,
    reference_count: int,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> ReferenceScores:
    """Enrol K genuine images of each subject, again and again, and score everything else against them.

    A single reference needs no draws: every pair of images is scored once. Subjects called ``set/name`` are
    compared within their set: a stranger who writes in another script is too easily told to count.

    Args:
        embeddings: (N, D) float32 unit rows.
        records: Whose they are, and which are imitations.
        fusion: How K scores become one, as the runtime does it.
        reference_count: K, at least 1; only subjects with more than K genuine images are enrolled.
        draws: Sets of references a subject, at least 1; they may overlap or, where there are few
            images, repeat.
        seed: Of the draws; the same seed gives the same scores.

    Returns:
        The scores; empty arrays where nobody has enough images.
    """
    sets = np.array([record.subject.rpartition("/")[0] for record in records])
    parts = []
    for name in np.unique(sets):
        rows = np.flatnonzero(sets == name).tolist()
        parts.append(
            _draw_within(
                embeddings[rows], [records[i] for i in rows], fusion, reference_count, draws, seed
            )
        )
    return ReferenceScores(
        reference_count,
        sum(part.subjects for part in parts),
        parts[0].draws,
        np.concatenate([part.mated for part in parts]),
        np.concatenate([part.non_mated for part in parts]),
        np.concatenate([part.skilled for part in parts]),
    )


def _draw_within(
    embeddings: Embeddings,
    records: Sequence[Record],
    fusion: Fusion,
    reference_count: int,
    draws: int,
    seed: int,
) -> ReferenceScores:
    owner = np.array([record.subject for record in records])
    forged = np.array([record.is_forgery for record in records], dtype=bool)
    enough = [
        name
        for name in sorted(set(owner.tolist()))
        if int(((owner == name) & ~forged).sum()) > reference_count
    ]
    if reference_count == 1:
        labels = np.unique(owner, return_inverse=True)[1]
        pairs = pair_scores(embeddings, labels.tolist(), forged.tolist())
        return ReferenceScores(1, len(enough), 1, pairs.mated, pairs.non_mated, pairs.skilled)
    units = unit_rows(embeddings)
    random = np.random.default_rng((seed, reference_count))
    mated, non_mated, skilled = [], [], []
    for name in enough:
        genuine = np.flatnonzero((owner == name) & ~forged)
        others, imitations = (owner != name) & ~forged, (owner == name) & forged
        for _ in range(draws):
            drawn = random.permutation(genuine)
            rows = reference_rows(embeddings[drawn[:reference_count]], fusion)
            mated.append(_scores(units[drawn[reference_count:]], rows))
            non_mated.append(_scores(units[others], rows))
            skilled.append(_scores(units[imitations], rows))
    empty = [np.empty(0, np.float32)]
    pools = (np.concatenate(part or empty) for part in (mated, non_mated, skilled))
    return ReferenceScores(reference_count, len(enough), draws, *pools)


def measured_points(
    embeddings: Embeddings,
    records: Sequence[Record],
    fusion: Fusion,
    *,
    counts: Sequence[int] = REFERENCE_COUNTS,
    fmrs: Mapping[Attack, Sequence[float]] = FMRS,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[MeasuredPoint, ...]:
    """A point for each attack, number of references and rate that enough comparisons stand behind.

    A threshold is that of all draws' scores together, but a probe against a subject is one comparison
    however often the subject's references are drawn: that is what ``non_mated_count`` counts and what
    the rule of three, 3 / FMR, is held against. ``false_match_count`` is the mean over the draws,
    rounded down. With a single reference a comparison is a pair of images.

    Args:
        embeddings: (N, D) float32 unit rows.
        records: Whose they are, and which are imitations.
        fusion: How several scores become one, as the runtime does it.
        counts: Numbers of references; those for which fewer than five subjects have more genuine
            images than that are left out, except for one.
        fmrs: The rates for each attack, in (0, 1).
        draws: Sets of references a subject.
        seed: Of the draws.

    Returns:
        May be empty. The rate of a point is the one asked for; equal scores match together, so fewer may
        have matched than it allows.
    """
    found = []
    for count in counts:
        scores = draw_scores(embeddings, records, fusion, count, draws=draws, seed=seed)
        if count > 1 and scores.subjects < _LEAST_SUBJECTS:
            continue
        for attack, rates in fmrs.items():
            others = scores.non_mated if attack == "random_forgery" else scores.skilled
            comparisons = others.size // scores.draws
            for fmr in rates:
                if comparisons < 3 / fmr * (1 - 1e-9):
                    continue
                threshold = threshold_at_fmr(others, fmr)
                if not math.isfinite(threshold) or threshold > 1.0:
                    continue  # too many reach the end of the scale: no threshold parts them
                matches = int((others.astype(np.float64) >= threshold).sum()) // scores.draws
                point = OperatingPoint(fmr, threshold, comparisons, matches, attack, count)
                found.append(MeasuredPoint(point, fnmr_at(scores.mated, threshold)))
    return tuple(found)


def _scores(units: Embeddings, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """As :func:`verifykit.scoring.subject_score` to the last bit, for many probes."""
    # The other way round as there: products and their order are the same.
    best: NDArray[np.float32] = np.max([paired_scores(row, units) for row in rows], axis=0)
    return best
