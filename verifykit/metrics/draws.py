"""Draws of subjects, which intervals of rates over their comparisons share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
