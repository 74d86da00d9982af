"""Make a cohort from embeddings of people: centres that resemble many of them and none in particular."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from verifykit.errors import InputError
from verifykit.scoring import penalties, unit_rows
from verifykit.spec import Cohort
from verifykit.types import Embeddings

LEAST_PEOPLE = 8
"""Fewest people behind one centre: a mean of fewer could be taken for a template of one of them."""

MOST_CENTRES = 256
NEAREST = 5
TYPICAL_SHARE = 0.75

_ROUNDS = 100


def make_cohort(
    embeddings: Embeddings,
    subjects: Sequence[str],
    *,
    typical_of: Embeddings | None = None,
    seed: int = 0,
) -> Cohort:
    """Return a cohort of people.

    Each subject is one point, the mean of its embeddings. k-means (Lloyd; OpenCV's) groups them in up to 256
    groups; a group of fewer than 8 people joins the group nearest to its own mean, the smallest first.

    Args:
        embeddings: (N, D) float32, rows of unit length.
        subjects: The subject of each row.
        typical_of: (M, D) embeddings of people without penalty, three quarters of them; None takes all.
        seed: Of the first groups.

    Raises:
        InputError: Fewer than 16 subjects.
    """
    names, owner = np.unique(np.asarray(subjects, np.str_), return_inverse=True)
    if len(names) < 2 * LEAST_PEOPLE:
        raise InputError(
            f"a cohort of {len(names)} subjects: it takes {2 * LEAST_PEOPLE} at least, since each of its "
            f"centres is the mean of {LEAST_PEOPLE} people or more"
        )
    sums = np.zeros((len(names), embeddings.shape[1]))
    np.add.at(sums, owner, embeddings)
    people = unit_rows(sums)
    groups = _groups(people, seed)
    centres = unit_rows([people[groups == group].mean(axis=0) for group in np.unique(groups)])
    nearest = min(NEAREST, len(centres))
    resemblance = penalties(
        Cohort.of(centres, nearest, -1.0), embeddings if typical_of is None else typical_of
    )
    typical = float(np.quantile(resemblance, TYPICAL_SHARE)) - 1.0
    return Cohort.of(centres, nearest, round(typical, 6))


def _groups(people: Embeddings, seed: int) -> NDArray[np.int64]:
    """Return the group of each person, each group of at least 8."""
    count = min(MOST_CENTRES, len(people) // 2)
    # First groups of our own: those that OpenCV draws depend on what was drawn in this process before.
    drawn = np.random.default_rng(seed).permutation(len(people))[:count]
    first = np.argmax(people @ people[drawn].T, axis=1).astype(np.int32)
    criteria = (cv2.TERM_CRITERIA_MAX_ITER + cv2.TERM_CRITERIA_EPS, _ROUNDS, 1e-6)
    _, labels, _ = cv2.kmeans(people, count, first, criteria, 1, cv2.KMEANS_USE_INITIAL_LABELS)
    groups = labels.reshape(-1).astype(np.int64)  # OpenCV 4 gives (N, 1)
    while True:
        found, sizes = np.unique(groups, return_counts=True)
        if sizes.min() >= LEAST_PEOPLE:
            return groups
        smallest = found[np.argmin(sizes)]
        others = found[found != smallest]
        means = unit_rows([people[groups == group].mean(axis=0) for group in others])
        mine = groups == smallest
        groups[mine] = others[np.argmax(means @ people[mine].mean(axis=0))]
