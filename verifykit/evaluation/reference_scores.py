"""Draw references of each subject, and score everything else against them as the runtime scores it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from verifykit.evaluation.pairs import Comparisons, ScoredComparisons, every_pair
from verifykit.scoring import paired_scores, penalised, penalties, reference_rows, unit_rows
from verifykit.spec import Cohort, Fusion
from verifykit.types import Embeddings

DRAWS = 20
"""How often a subject's references are drawn. More make a threshold steadier, and no rate lower."""

# Large data need no repeated draws, and one draw of every comparison would take hours.
_MOST_SCORES = 4_000_000


@dataclass(frozen=True, eq=False)
class Pool:
    """Scores of one kind, and their subjects.

    Attributes:
        scores: (P,) float32.
        probe: (P,) int64, the probe's subject; of an imitation, who is imitated.
        reference: (P,) int64, the references' subject.
        probe_bands: (C, P) int16, the probe's band by each column of bands, -1 for none.
        reference_bands: (C, P) int16, that of the reference; of several, the one that they share.
    """

    scores: NDArray[np.float32]
    probe: NDArray[np.int64]
    reference: NDArray[np.int64]
    probe_bands: NDArray[np.int16] = field(default_factory=lambda: _no_bands(0))
    reference_bands: NDArray[np.int16] = field(default_factory=lambda: _no_bands(0))


def _no_bands(count: int) -> NDArray[np.int16]:
    return np.empty((0, count), np.int16)


@dataclass(frozen=True, eq=False)
class ReferenceScores:
    """Scores of probes against the fused references of a subject, of every draw.

    Attributes:
        reference_count: K, how many references are fused.
        subjects: How many subjects had enough genuine images.
        draws: How often the same comparison is among the non-mated and the skilled scores.
        mated: A subject's genuine images that are not references of the draw.
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
    bands: Sequence[NDArray[np.int16]] = (),
    draws: int = DRAWS,
    most: int = _MOST_SCORES,
    seed: int = 0,
) -> ReferenceScores:
    """Enroll K genuine images of each subject, again and again, and score everything else against them.

    ``bands`` are numbers of each image's band, for each column of bands.

    A single reference needs no draws: every pair of images is scored once, by :func:`every_pair`.
    """
    names, owner = np.unique(np.asarray(subjects, np.str_), return_inverse=True)
    place = np.zeros(len(owner), np.int64)
    if populations is not None:
        place = np.unique(np.asarray(populations, np.str_), return_inverse=True)[1]
    fake = np.asarray(forged, bool)
    counts = np.bincount(owner[~fake], minlength=len(names))
    enough = np.flatnonzero(counts > reference_count)
    scorer = _Scorer(embeddings, cohort)
    codes = np.stack(bands) if bands else _no_bands(len(owner))
    if reference_count == 1:
        pairs = every_pair(embeddings, subjects, forged, populations)
        return _single(pairs, owner, len(enough), scorer, codes)
    # A subject's population is that of its first image.
    home = {who: place[np.flatnonzero((owner == who) & ~fake)[0]] for who in enough.tolist()}
    sizes = np.bincount(place[~fake], minlength=int(place.max(initial=0)) + 1)
    strangers = sum(int(sizes[home[who]] - counts[who]) for who in home)
    draws = max(1, min(draws, most // max(1, strangers)))
    share = min(1.0, most / max(1, strangers))
    random = np.random.default_rng((seed, reference_count))
    pools = _Pools(scorer, owner, codes)
    for who in enough.tolist():
        genuine = np.flatnonzero((owner == who) & ~fake)
        shared = _shared(codes[:, genuine])
        others = np.flatnonzero((owner != who) & ~fake & (place == home[who]))
        imitations = np.flatnonzero((owner == who) & fake)
        for _ in range(draws):
            drawn = random.permutation(genuine)
            met = others
            if share < 1.0:
                met = others[random.random(len(others)) < share]
            rows = reference_rows(embeddings[drawn[:reference_count]], fusion)
            for kind, probes in (
                ("mated", drawn[reference_count:]),
                ("non_mated", met),
                ("skilled", imitations),
            ):
                pools.add(kind, probes, who, rows, shared)
    return ReferenceScores(
        reference_count,
        len(enough),
        draws,
        pools.joined("mated"),
        pools.joined("non_mated"),
        pools.joined("skilled"),
    )


def _shared(codes: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return (C,) the band that all images of a subject have, -1 where they differ."""
    return np.where((codes == codes[:, :1]).all(axis=1), codes[:, 0], -1).astype(np.int16)


def _single(
    found: ScoredComparisons,
    owner: NDArray[np.int64],
    enough: int,
    scorer: _Scorer,
    codes: NDArray[np.int16],
) -> ReferenceScores:
    mated, random, skilled = (
        Pool(
            scorer.pairs(kind),
            owner[kind.probe],
            owner[kind.reference],
            codes[:, kind.probe],
            codes[:, kind.reference],
        )
        for kind in (found.mated, found.random, found.skilled)
    )
    return ReferenceScores(1, enough, 1, mated, random, skilled)


class _Scorer:
    """Scores as the runtime computes them, with penalties if there is a cohort."""

    def __init__(self, embeddings: Embeddings, cohort: Cohort | None) -> None:
        self._units, self._cohort = unit_rows(embeddings), cohort
        self._own = penalties(cohort, self._units)

    def pairs(self, kind: Comparisons) -> NDArray[np.float32]:
        if self._cohort is None:
            return kind.scores
        return penalised(kind.scores, self._own[kind.probe], self._own[kind.reference])

    def fused(self, probes: NDArray[np.int64], rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return :func:`verifykit.scoring.subject_score` to the last bit, for many probes."""
        if not len(probes):
            return np.empty(0, np.float32)
        # Compared the other way round: products and their order are the same.
        scores = np.stack([paired_scores(row, self._units[probes]) for row in rows])
        if self._cohort is not None:
            theirs = penalties(self._cohort, rows)
            scores = penalised(scores, self._own[probes], theirs[:, None])
        best: NDArray[np.float32] = scores.max(axis=0)
        return best


class _Pools:
    def __init__(self, scorer: _Scorer, owner: NDArray[np.int64], codes: NDArray[np.int16]) -> None:
        self._scorer, self._owner, self._codes = scorer, owner, codes
        self._parts: dict[str, list[Pool]] = {"mated": [], "non_mated": [], "skilled": []}

    def add(
        self,
        kind: str,
        probes: NDArray[np.int64],
        who: int,
        rows: NDArray[np.float32],
        shared: NDArray[np.int16],
    ) -> None:
        """Add the scores of probes against the references of one subject, all in the bands ``shared``."""
        scores = self._scorer.fused(probes, rows)
        reference = np.full(len(probes), who, np.int64)
        theirs = np.repeat(shared[:, None], len(probes), axis=1)
        self._parts[kind].append(
            Pool(scores, self._owner[probes], reference, self._codes[:, probes], theirs)
        )

    def joined(self, kind: str) -> Pool:
        labels = np.empty(0, np.int64)
        none = self._codes[:, :0]
        every = [*self._parts[kind], Pool(np.empty(0, np.float32), labels, labels, none, none)]
        return Pool(
            np.concatenate([part.scores for part in every]),
            np.concatenate([part.probe for part in every]),
            np.concatenate([part.reference for part in every]),
            np.concatenate([part.probe_bands for part in every], axis=1),
            np.concatenate([part.reference_bands for part in every], axis=1),
        )
