"""Operating points and evidence of single references over every pair of images, in flat memory.

Thresholds, counts and intervals are those of all scores, to the last pair. Log-likelihood ratios are fitted
to the mean score of each of 262,144 bins: a score is moved by less than 1e-5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from verifykit.evaluation.one_to_one import supported
from verifykit.evaluation.pair_tiles import PairTiles
from verifykit.evaluation.tiled_scores import TiledScores
from verifykit.evaluation.tiles import PairCounts
from verifykit.metrics import cllr, fit_log_likelihood_ratio
from verifykit.metrics.draws import draw_subjects
from verifykit.spec import Attack, Evidence, OperatingPoint


@dataclass(frozen=True, eq=False)
class Weighted:
    """Scores, and how often each occurs; None for once."""

    scores: NDArray[np.floating]
    counts: NDArray[np.float64] | None = None


def evidence_of(
    attack: Attack,
    reference_count: int,
    mated: Weighted,
    non_mated: Weighted,
    *,
    sizes: tuple[int, int],
    median: float,
) -> Evidence:
    """Fit evidence to scores; `sizes` are the comparisons behind them, mated and non-mated."""
    fit = fit_log_likelihood_ratio(
        mated.scores,
        non_mated.scores,
        mated_counts=mated.counts,
        non_mated_counts=non_mated.counts,
    )
    found = Evidence(
        attack=attack,
        reference_count=reference_count,
        slope=fit.slope,
        intercept=fit.intercept,
        cllr=0.0,
        mated_count=max(1, sizes[0]),
        non_mated_count=sizes[1],
        non_mated_median=median,
    )
    low, high = -math.log1p(found.mated_count), math.log1p(found.non_mated_count)
    ours, theirs = (
        np.clip(fit.slope * each.scores.astype(np.float64) + fit.intercept, low, high)
        for each in (mated, non_mated)
    )
    bits = cllr(ours, theirs, mated_counts=mated.counts, non_mated_counts=non_mated.counts)
    return replace(found, cllr=bits)


def points_of_every_pair(
    pairs: PairTiles, fmrs: Mapping[Attack, Sequence[float]], weights: NDArray[np.float64]
) -> tuple[list[OperatingPoint], list[Evidence]]:
    """Return a point for each attack and rate with enough comparisons, and evidence for these attacks."""
    counts = PairCounts(pairs)
    points: list[OperatingPoint] = []
    evidence: list[Evidence] = []
    for attack, rates in fmrs.items():
        kind = "random" if attack == "random_forgery" else "skilled"
        found = _points(counts, attack, kind, rates, weights)
        points += found
        if found and counts.size("mated"):
            evidence.append(_evidence(counts, attack, kind))
    return points, evidence


def group_draws(
    labels: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return draws of subjects, and the group of each image's subject."""
    weights, group_of = draw_subjects(int(labels.max()) + 1, seed=seed)
    return weights, group_of[labels]


def _points(
    counts: PairCounts,
    attack: Attack,
    kind: str,
    rates: Sequence[float],
    weights: NDArray[np.float64],
) -> list[OperatingPoint]:
    size = counts.size(kind)
    possible = [fmr for fmr in rates if supported(fmr, size)]
    if not possible:
        return []
    kept = counts.keep(counts.fmr_bins(kind, possible), (kind,))
    at = {fmr: kept.threshold_at(kind, fmr) for fmr in possible}
    # Above the end of the scale: too many reach it, and no threshold parts them.
    at = {fmr: threshold for fmr, threshold in at.items() if -math.inf < threshold <= 1.0}
    if not at:
        return []
    thresholds = np.unique(list(at.values())).tolist()
    scores = TiledScores(counts, kind, weights, ())
    false = scores.false_matches(thresholds)
    missed = scores.false_non_matches(thresholds) if counts.size("mated") else None
    found = []
    for fmr, threshold in at.items():
        place = thresholds.index(threshold)
        match = false.rate(place)
        miss = missed.rate(place) if missed else None
        found.append(
            OperatingPoint(
                fmr,
                threshold,
                size,
                match.errors,
                attack,
                1,
                fmr_interval=(match.low, match.high),
                fnmr=miss.value if miss else None,
                fnmr_interval=(miss.low, miss.high) if miss else None,
            )
        )
    return found


def _evidence(counts: PairCounts, attack: Attack, kind: str) -> Evidence:
    size = counts.size(kind)
    middle = np.array([(size - 1) // 2, size // 2], np.int64)
    kept = counts.keep(counts.bin_at(kind, middle), (kind,))
    return evidence_of(
        attack,
        1,
        Weighted(*counts.means("mated")),
        Weighted(*counts.means(kind)),
        sizes=(counts.size("mated"), size),
        median=float(np.median(kept.at(kind, middle))),
    )
