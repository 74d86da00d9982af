"""Accuracy over folds, as LFW reports it: each fold is decided at the threshold of the others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import InputError
from verifykit.evaluation.results import Folds


def best_threshold(scores: NDArray[np.float64], mated: NDArray[np.bool_]) -> float:
    """Return the threshold with the most right decisions.

    Halfway between the score that it lets in and the next lower one, so that it is not tied to a single
    comparison; of several best ones the lowest.
    """
    distinct = np.unique(scores[np.isfinite(scores)])
    if not distinct.size:
        return math.inf
    mates, others = np.sort(scores[mated]), np.sort(scores[~mated])
    right = (len(mates) - np.searchsorted(mates, distinct, side="left")) + np.searchsorted(
        others, distinct, side="left"
    )
    right = np.append(right, len(others))
    best = int(np.argmax(right))
    if best == len(distinct):
        return math.inf
    return float(distinct[best] if best == 0 else (distinct[best - 1] + distinct[best]) / 2)


def fold_accuracy(
    scores: NDArray[np.float64], mated: Sequence[bool], folds: Sequence[int]
) -> Folds:
    """Return the share of right decisions in each fold, at the best threshold of the other folds.

    Huang, Ramesh, Berg and Learned-Miller, "Labeled Faces in the Wild", University of Massachusetts
    technical report 07-49, 2007, View 2: the mean accuracy and its standard error, the sample standard
    deviation over the folds divided by the root of their number.
    """
    which, same = np.asarray(folds), np.asarray(mated, bool)
    names = np.unique(which)
    if len(names) < 2:
        raise InputError(f"accuracy over folds takes at least two folds, got {len(names)}")
    failed = np.isnan(scores)
    decided = np.where(failed, -math.inf, scores)
    accuracies, thresholds = [], []
    for name in names:
        here = which == name
        threshold = best_threshold(decided[~here], same[~here])
        thresholds.append(threshold)
        accuracies.append(float(((decided[here] >= threshold) == same[here]).mean()))
    return Folds(
        accuracies=tuple(accuracies),
        thresholds=tuple(thresholds),
        mean=float(np.mean(accuracies)),
        standard_error=float(np.std(accuracies, ddof=1) / math.sqrt(len(names))),
        failed_pairs=int(failed.sum()),
    )
