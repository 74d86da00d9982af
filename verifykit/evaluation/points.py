"""Operating points and evidence, for each attack and number of references that the data support."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from verifykit.evaluation.one_to_one import supported
from verifykit.evaluation.reference_counts import (
    DRAWS,
    REFERENCE_COUNTS,
    Pool,
    ReferenceScores,
    draw_scores,
)
from verifykit.metrics import (
    SubjectBootstrap,
    cllr,
    fit_log_likelihood_ratio,
    rate_interval,
    threshold_at_fmr,
)
from verifykit.spec import Attack, Cohort, Evidence, Fusion, OperatingPoint
from verifykit.types import Embeddings

__all__ = ["FMRS", "Measured", "measured_points", "points_of"]

# 1, 5 and 2 of every decade, so that a rate between two decades is not answered by one ten times lower.
_DECADES = (1e-1, *(digit * 10.0**-power for power in range(2, 8) for digit in (5, 2, 1)))
_FMRS = tuple(float(f"{fmr:.0e}") for fmr in _DECADES)
FMRS: Mapping[Attack, tuple[float, ...]] = {"random_forgery": _FMRS, "skilled_forgery": _FMRS}
"""The rates that are looked for; those that the data do not support are left out."""

_LEAST_SUBJECTS = 5  # fewer say how these people write, and nothing about others


@dataclass(frozen=True)
class Measured:
    """What a calibration consists of.

    Attributes:
        points: Operating points, by number of references, attack and falling rate.
        evidence: For the same numbers of references and attacks.
    """

    points: tuple[OperatingPoint, ...]
    evidence: tuple[Evidence, ...]


def measured_points(
    embeddings: Embeddings,
    subjects: Sequence[str],
    forged: Sequence[bool],
    fusion: Fusion,
    *,
    populations: Sequence[str] | None = None,
    cohort: Cohort | None = None,
    counts: Sequence[int] = REFERENCE_COUNTS,
    fmrs: Mapping[Attack, Sequence[float]] = FMRS,
    draws: int = DRAWS,
    seed: int = 0,
) -> Measured:
    """A point for each attack, number of references and rate that enough comparisons stand behind.

    A threshold is that of all draws' scores together, but a probe against a subject is one comparison
    however often the subject's references are drawn: that is what ``non_mated_count`` counts and what
    the rule of three, 3 / FMR, is held against. ``false_match_count`` is the mean over the draws,
    rounded down. With a single reference a comparison is a pair of images.

    Args:
        embeddings: (N, D) float32 unit rows.
        subjects: (N,) whose they are; of an imitation, who is imitated.
        forged: (N,) which are imitations.
        fusion: How several scores become one, as the runtime does it.
        populations: (N,) names; strangers are those of the subject's own. None is one population.
        cohort: What scores are normalised by; its subjects are not among these. None for bare cosines.
        counts: Numbers of references; those for which fewer than five subjects have more genuine
            images than that are left out, except for one.
        fmrs: The rates for each attack, in (0, 1).
        draws: Sets of references a subject.
        seed: Of the draws.

    Returns:
        May be empty. The rate of a point is the one asked for; equal scores match together, so fewer may
        have matched than it allows.
    """
    points: list[OperatingPoint] = []
    evidence: list[Evidence] = []
    for count in counts:
        scores = draw_scores(
            embeddings,
            subjects,
            forged,
            fusion,
            count,
            populations=populations,
            cohort=cohort,
            draws=draws,
            seed=seed,
        )
        if count > 1 and scores.subjects < _LEAST_SUBJECTS:
            continue
        found = points_of(scores, fmrs, highest=1.0 if cohort is None else math.inf, seed=seed)
        points += found.points
        evidence += found.evidence
    return Measured(tuple(points), tuple(evidence))


def points_of(
    scores: ReferenceScores,
    fmrs: Mapping[Attack, Sequence[float]] = FMRS,
    *,
    highest: float = 1.0,
    seed: int = 0,
) -> Measured:
    """The points of one number of references: see :func:`measured_points`.

    Args:
        scores: Mated, random and skilled.
        fmrs: The rates for each attack, in (0, 1).
        highest: The end of the scale of scores.
        seed: Of the bootstrap.
    """
    labels = [
        pool.probe.max(initial=0) for pool in (scores.mated, scores.non_mated, scores.skilled)
    ]
    labels += [scores.non_mated.reference.max(initial=0)]
    subjects = int(max(labels)) + 1
    points: list[OperatingPoint] = []
    evidence: list[Evidence] = []
    ours = _bootstrap(scores.mated, subjects, seed)
    for attack, rates in fmrs.items():
        others = scores.non_mated if attack == "random_forgery" else scores.skilled
        comparisons = others.scores.size // scores.draws
        found = [
            point
            for fmr in rates
            if supported(fmr, comparisons)
            and (point := _point(scores, attack, others, fmr, comparisons)) is not None
            # Above the end of the scale: too many reach it, and no threshold parts them.
            and point.threshold <= highest
        ]
        if not found:
            continue
        theirs = _bootstrap(others, subjects, seed)
        points += [_with_intervals(point, scores, others, ours, theirs) for point in found]
        if scores.mated.scores.size:
            evidence.append(_evidence(scores, attack, others, comparisons))
    return Measured(tuple(points), tuple(evidence))


def _point(
    scores: ReferenceScores, attack: Attack, others: Pool, fmr: float, comparisons: int
) -> OperatingPoint | None:
    threshold = threshold_at_fmr(others.scores, fmr)
    if not math.isfinite(threshold):
        return None
    matches = int((others.scores.astype(np.float64) >= threshold).sum()) // scores.draws
    return OperatingPoint(fmr, threshold, comparisons, matches, attack, scores.reference_count)


def _bootstrap(pool: Pool, subjects: int, seed: int) -> SubjectBootstrap | None:
    if not pool.scores.size:
        return None
    return SubjectBootstrap(pool.probe, pool.reference, subjects=subjects, seed=seed)


def _with_intervals(
    point: OperatingPoint,
    scores: ReferenceScores,
    others: Pool,
    ours: SubjectBootstrap | None,
    theirs: SubjectBootstrap | None,
) -> OperatingPoint:
    matched = others.scores.astype(np.float64) >= point.threshold
    missed = scores.mated.scores.astype(np.float64) < point.threshold
    return replace(
        point,
        fmr_interval=_interval(matched, theirs, scores.draws),
        fnmr=float(missed.mean()) if missed.size else None,
        fnmr_interval=_interval(missed, ours, scores.draws),
    )


def _interval(
    events: NDArray[np.bool_], bootstrap: SubjectBootstrap | None, draws: int
) -> tuple[float, float] | None:
    """Of the counts of one draw: repeated draws of a subject's references are no further comparisons."""
    if bootstrap is None:
        return None
    errors, trials = int(events.sum()) // draws, events.size // draws
    drawn = bootstrap.rates(events) if 0 < errors < trials else None
    return rate_interval(errors, trials, drawn)


def _evidence(scores: ReferenceScores, attack: Attack, others: Pool, comparisons: int) -> Evidence:
    mated = scores.mated.scores
    fit = fit_log_likelihood_ratio(mated, others.scores)
    found = Evidence(
        attack=attack,
        reference_count=scores.reference_count,
        slope=fit.slope,
        intercept=fit.intercept,
        cllr=0.0,
        mated_count=max(1, mated.size // scores.draws),
        non_mated_count=comparisons,
        non_mated_median=float(np.median(others.scores)),
    )
    low, high = -math.log1p(found.mated_count), math.log1p(found.non_mated_count)
    llrs = [
        np.clip(fit.slope * each.astype(np.float64) + fit.intercept, low, high)
        for each in (mated, others.scores)
    ]
    return replace(found, cllr=cllr(*llrs))
