"""Every pair of images, scored as the runtime scores it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verifykit.scoring import paired_scores, unit_rows
from verifykit.types import Embeddings

__all__ = ["MOST_NON_MATED", "Comparisons", "EveryPair", "count_pairs", "every_pair"]

MOST_NON_MATED = 30_000_000
"""More non-mated pairs than this are not all compared: each is drawn with the same chance."""


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Scored comparisons of one kind.

    Attributes:
        probe: (P,) int32 index of an image.
        reference: (P,) int32 index of the other.
        scores: (P,) float32 cosine similarity in [-1, 1].
    """

    probe: NDArray[np.int32]
    reference: NDArray[np.int32]
    scores: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class EveryPair:
    """Every pair of some images, by kind.

    Attributes:
        mated: Genuine images of one subject.
        random: Genuine images of two subjects (random forgeries).
        skilled: A genuine image and an imitation of the same subject.
        drawn_share: Share of the random pairs that were compared, 1.0 for all.
    """

    mated: Comparisons
    random: Comparisons
    skilled: Comparisons
    drawn_share: float


def every_pair(
    embeddings: Embeddings,
    subjects: Sequence[str],
    forged: Sequence[bool],
    populations: Sequence[str] | None = None,
    *,
    most: int = MOST_NON_MATED,
    seed: int = 0,
) -> EveryPair:
    """Score each pair once.

    Args:
        embeddings: (N, D) float32 unit rows.
        subjects: (N,) whose they are; of an imitation, who is imitated.
        forged: (N,) which are imitations.
        populations: (N,) names; strangers are compared within theirs, for one who writes in another
            script is too easily told to count. None is one population.
        most: At most about so many random pairs.
        seed: Of their draw.

    Returns:
        The pairs, as indices of rows; a kind may be empty.
    """
    labels, sets, fake = _coded(subjects, forged, populations)
    share = min(1.0, most / max(1, count_pairs(subjects, forged, populations)["random"]))
    random = np.random.default_rng(seed)
    units = unit_rows(embeddings)
    genuine, imitations = np.flatnonzero(~fake), np.flatnonzero(fake)
    parts: dict[str, list[Comparisons]] = {"mated": [], "random": [], "skilled": []}
    for n, image in enumerate(genuine.tolist()):
        later = genuine[n + 1 :]
        same = labels[later] == labels[image]
        other = ~same & (sets[later] == sets[image])
        if share < 1.0:
            other &= random.random(len(later)) < share
        mine = imitations[labels[imitations] == labels[image]]
        for kind, met in (("mated", later[same]), ("random", later[other]), ("skilled", mine)):
            scores = paired_scores(units[image], units[met])
            probes = np.full(len(met), image, np.int32)
            parts[kind].append(Comparisons(probes, met.astype(np.int32), scores))
    mated, strange, copied = (_joined(parts[kind]) for kind in ("mated", "random", "skilled"))
    return EveryPair(mated, strange, copied, share)


def count_pairs(
    subjects: Sequence[str], forged: Sequence[bool], populations: Sequence[str] | None = None
) -> dict[str, int]:
    """How many pairs of each kind :func:`every_pair` would score without a draw.

    Args:
        subjects: (N,) whose they are; of an imitation, who is imitated.
        forged: (N,) which are imitations.
        populations: (N,) as there.

    Returns:
        Counts of ``"mated"``, ``"random"`` and ``"skilled"``.
    """
    labels, sets, fake = _coded(subjects, forged, populations)
    genuine, imitations = Counter(labels[~fake].tolist()), Counter(labels[fake].tolist())
    mated = _pairs(genuine.values())
    within = _pairs(Counter(sets[~fake].tolist()).values())
    # Two images of one subject may be of two populations, and are mated nevertheless.
    within_mated = _pairs(Counter(zip(labels[~fake], sets[~fake], strict=True)).values())
    skilled = sum(genuine[subject] * count for subject, count in imitations.items())
    return {"mated": mated, "random": within - within_mated, "skilled": skilled}


def _coded(
    subjects: Sequence[str], forged: Sequence[bool], populations: Sequence[str] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    labels = np.unique(np.asarray(subjects, np.str_), return_inverse=True)[1]
    sets = np.zeros(len(labels), np.int64)
    if populations is not None:
        sets = np.unique(np.asarray(populations, np.str_), return_inverse=True)[1]
    return labels, sets, np.asarray(forged, bool)


def _pairs(sizes: Iterable[int]) -> int:
    return sum(size * (size - 1) // 2 for size in sizes)


def _joined(parts: Sequence[Comparisons]) -> Comparisons:
    empty = Comparisons(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))
    every = [*parts, empty]
    return Comparisons(
        np.concatenate([part.probe for part in every]),
        np.concatenate([part.reference for part in every]),
        np.concatenate([part.scores for part in every]),
    )
