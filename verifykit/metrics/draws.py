"""Draws of subjects, which intervals of rates over their comparisons share."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from verifykit.errors import InputError
from verifykit.metrics.inputs import checked_count


def draw_subjects(
    total: int, *, resamples: int = 1000, seed: int = 0, groups: int = 2000
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the draws of :class:`SubjectBootstrap`: weights (B, G), and the group of each subject."""
    rng = np.random.default_rng(checked_count("seed", seed))
    limit, count = checked_count("groups", groups, 2), checked_count("resamples", resamples, 1)
    group_of = np.arange(total)
    if total > limit:
        group_of = rng.permutation(total) % limit
    size = min(total, limit)
    draws = rng.multinomial(size, np.full(size, 1 / size), size=count)
    return draws.astype(np.float64), group_of


def eer_draws(fmr_draws: ArrayLike, fnmr_draws: ArrayLike) -> NDArray[np.float64]:
    """Return the equal error rate in each draw; see :func:`verifykit.metrics.eer_interval`."""
    fmr, fnmr = np.asarray(fmr_draws, np.float64), np.asarray(fnmr_draws, np.float64)
    if fmr.ndim != 2 or fmr.shape != fnmr.shape or not fmr.size:
        raise InputError(
            f"draws are two arrays of one shape (T, B), got {fmr.shape} and {fnmr.shape}"
        )
    usable = ~np.isnan(fmr + fnmr).any(axis=0)
    found = np.full(usable.size, np.nan)
    fmr, fnmr = fmr[:, usable], fnmr[:, usable]
    if (np.diff(fmr, axis=0) > 0).any() or (np.diff(fnmr, axis=0) < 0).any():
        raise InputError(
            "fmr_draws rises or fnmr_draws falls along the thresholds: sort these ascending"
        )
    ahead = fmr - fnmr
    apart = int(((ahead[0] < 0) | (ahead[-1] > 0)).sum())
    if apart:
        raise InputError(
            f"in {apart} of {ahead.shape[1]} draws FMR and FNMR do not cross within the {len(ahead)} "
            "thresholds: add lower and higher ones, -inf and inf at the ends always do"
        )
    after = np.argmax(ahead <= 0, axis=0)
    before = np.maximum(after - 1, 0)
    draw = np.arange(after.size)
    fall = ahead[before, draw] - ahead[after, draw]
    share = np.divide(ahead[before, draw], fall, out=np.zeros_like(fall), where=fall > 0)
    found[usable] = (1.0 - share) * fmr[before, draw] + share * fmr[after, draw]
    return found
