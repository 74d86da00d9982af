"""Scores against several references: the same threshold means another rate when more are fused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verifykit.evaluation.pairing import Comparisons, EveryPair, every_pair
from verifykit.normalisation import Statistics, cohort_statistics, normalise
from verifykit.scoring import paired_scores, reference_rows, unit_rows
from verifykit.spec import Cohort, Fusion
from verifykit.types import Embeddings

__all__ = ["DRAWS", "REFERENCE_COUNTS", "Pool", "ReferenceScores", "draw_scores"]

REFERENCE_COUNTS = (*range(1, 11), 15, 20)

DRAWS = 20
"""How often a subject's references are drawn. More make a threshold steadier, and no rate lower."""

# Large data need no repeated draws, and one draw of every comparison would take hours.
_MOST_SCORES = 4_000_000


@dataclass(frozen=True, eq=False)
class Pool:
    """Scores of one kind, and whose they are.

    Attributes:
        scores: (P,) float32.
        probe: (P,) int64, the probe's subject; of an imitation, who is imitated.
        reference: (P,) int64, the references' subject.
    """

    scores: NDArray[np.float32]
    probe: NDArray[np.int64]
    reference: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ReferenceScores:
    """Scores of probes against the fused references of a subject, every draw's.

    Attributes:
        reference_count: K, how many references are fused.
        subjects: How many subjects had enough genuine images.
        draws: How often the same comparison is among the non-mated and the skilled scores.
        mated: A subject's genuine images that are no references of the draw.
        non_mated: Genuine images of other subjects (random forgeries).
        skilled: Imitations of the subject; empty without any.
    """

    reference_count: int
    subjects: int
    draws: int
    mated: Pool
    non_mated: Pool
    skilled: Pool


def draw_scores(
    embeddings: Embeddings,
    subjects: Sequence[str],
    forged: Sequence[bool],
    fusion: Fusion,
    reference_count: int,
    *,
    populations: Sequence[str] | None = None,
    cohort: Cohort | None = None,
    draws: int = DRAWS,
    most: int = _MOST_SCORES,
    seed: int = 0,
) -> ReferenceScores:
    """Enrol K genuine images of each subject, again and again, and score everything else against them.

    A single reference needs no draws: every pair of images is scored once, by :func:`every_pair`.

    Args:
        embeddings: (N, D) float32 unit rows.
        subjects: (N,) whose they are; of an imitation, who is imitated.
        forged: (N,) which are imitations.
        fusion: How K scores become one, as the runtime does it.
        reference_count: K, at least 1; only subjects with more than K genuine images are enrolled.
        populations: (N,) names; strangers are those of the subject's own. None is one population.
        cohort: What scores are normalised by; None for bare cosines.
        draws: Sets of references a subject, at least 1; they may overlap or, where there are few
            images, repeat.
        most: Non-mated scores to stay below: first with fewer draws, then with fewer probes, which are
            drawn too. Not for a single reference.
        seed: Of the draws; the same seed gives the same scores.

    Returns:
        The scores; empty pools where nobody has enough images.
    """
    names, owner = np.unique(np.asarray(subjects, np.str_), return_inverse=True)
    place = np.zeros(len(owner), np.int64)
    if populations is not None:
        place = np.unique(np.asarray(populations, np.str_), return_inverse=True)[1]
    fake = np.asarray(forged, bool)
    counts = np.bincount(owner[~fake], minlength=len(names))
    enough = np.flatnonzero(counts > reference_count)
    scorer = _Scorer(embeddings, cohort)
    if reference_count == 1:
        pairs = every_pair(embeddings, subjects, forged, populations, seed=seed)
        return _single(pairs, owner, len(enough), scorer)
    # A subject's population is that of its first image.
    home = {who: place[np.flatnonzero((owner == who) & ~fake)[0]] for who in enough.tolist()}
    sizes = np.bincount(place[~fake], minlength=int(place.max(initial=0)) + 1)
    strangers = sum(int(sizes[home[who]] - counts[who]) for who in home)
    draws = max(1, min(draws, most // max(1, strangers)))
    share = min(1.0, most / max(1, strangers))
    random = np.random.default_rng((seed, reference_count))
    pools = _Pools(scorer, owner)
    for who in enough.tolist():
        genuine = np.flatnonzero((owner == who) & ~fake)
        others = np.flatnonzero((owner != who) & ~fake & (place == home[who]))
        imitations = np.flatnonzero((owner == who) & fake)
        for _ in range(draws):
            drawn = random.permutation(genuine)
            met = others
            if share < 1.0:
                met = others[random.random(len(others)) < share]
            rows = reference_rows(embeddings[drawn[:reference_count]], fusion)
            pools.add("mated", drawn[reference_count:], who, rows)
            pools.add("non_mated", met, who, rows)
            pools.add("skilled", imitations, who, rows)
    return ReferenceScores(
        reference_count,
        len(enough),
        draws,
        pools.joined("mated"),
        pools.joined("non_mated"),
        pools.joined("skilled"),
    )


def _single(
    found: EveryPair, owner: NDArray[np.int64], enough: int, scorer: _Scorer
) -> ReferenceScores:
    mated, random, skilled = (
        Pool(scorer.pairs(kind), owner[kind.probe], owner[kind.reference])
        for kind in (found.mated, found.random, found.skilled)
    )
    return ReferenceScores(1, enough, 1, mated, random, skilled)


class _Scorer:
    """Scores as the runtime gives them, normalised if there is a cohort."""

    def __init__(self, embeddings: Embeddings, cohort: Cohort | None) -> None:
        self._units, self._cohort = unit_rows(embeddings), cohort
        self._own = None if cohort is None else cohort_statistics(cohort, self._units)

    def pairs(self, kind: Comparisons) -> NDArray[np.float32]:
        if self._own is None:
            return kind.scores
        return normalise(
            kind.scores, _taken(self._own, kind.probe), _taken(self._own, kind.reference)
        )

    def fused(self, probes: NDArray[np.int64], rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """As :func:`verifykit.scoring.subject_score` to the last bit, for many probes."""
        if not len(probes):
            return np.empty(0, np.float32)
        # The other way round as there: products and their order are the same.
        scores = np.stack([paired_scores(row, self._units[probes]) for row in rows])
        best: NDArray[np.float32] = scores.max(axis=0)
        if self._cohort is None or self._own is None:
            return best
        theirs = _taken(cohort_statistics(self._cohort, rows), scores.argmax(axis=0))
        return normalise(best, _taken(self._own, probes), theirs)


def _taken(statistics: Statistics, at: NDArray[np.integer]) -> Statistics:
    return Statistics(statistics.mean[at], statistics.deviation[at])


class _Pools:
    def __init__(self, scorer: _Scorer, owner: NDArray[np.int64]) -> None:
        self._scorer, self._owner = scorer, owner
        self._parts: dict[str, list[Pool]] = {"mated": [], "non_mated": [], "skilled": []}

    def add(
        self, kind: str, probes: NDArray[np.int64], who: int, rows: NDArray[np.float32]
    ) -> None:
        scores = self._scorer.fused(probes, rows)
        reference = np.full(len(probes), who, np.int64)
        self._parts[kind].append(Pool(scores, self._owner[probes], reference))

    def joined(self, kind: str) -> Pool:
        labels = np.empty(0, np.int64)
        every = [*self._parts[kind], Pool(np.empty(0, np.float32), labels, labels)]
        return Pool(
            np.concatenate([part.scores for part in every]),
            np.concatenate([part.probe for part in every]),
            np.concatenate([part.reference for part in every]),
        )
