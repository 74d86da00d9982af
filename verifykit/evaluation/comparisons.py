"""Every comparison of single images that the data ask for, with the score that the runtime gives it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from verifykit.evaluation.data import EvaluationData, EvaluationImage
from verifykit.evaluation.embedding import Embedded
from verifykit.evaluation.pairing import MOST_NON_MATED, Comparisons, count_pairs, every_pair
from verifykit.scoring import paired_scores, unit_rows

__all__ = ["ScoredComparisons", "columns", "score_comparisons"]


@dataclass(frozen=True, eq=False)
class ScoredComparisons:
    """All comparisons of the data, by kind, as indices of its images.

    Attributes:
        mated: Genuine images of one subject.
        random: Genuine images of two subjects (random forgeries).
        skilled: A genuine image and an imitation of the same subject.
        lost_mated: Mated comparisons without a score, because an image gave no template.
        lost_non_mated: Non-mated ones, random and skilled.
        drawn_share: Share of the random comparisons that were made, 1.0 for all.
    """

    mated: Comparisons
    random: Comparisons
    skilled: Comparisons
    lost_mated: int
    lost_non_mated: int
    drawn_share: float = 1.0


def columns(
    images: Sequence[EvaluationImage],
) -> tuple[list[str], list[bool], list[str]]:
    """Subjects, which are imitations, and populations: the group column of that name, if there is one.

    Args:
        images: N of them.
    """
    return (
        [image.subject for image in images],
        [image.is_forgery for image in images],
        [image.groups.get("population", "") for image in images],
    )


def score_comparisons(
    data: EvaluationData, embedded: Embedded, *, most: int = MOST_NON_MATED
) -> ScoredComparisons:
    """Score the listed pairs, or every pair of images that is mated or non-mated.

    Args:
        data: Images, subjects, and pairs if they are listed.
        embedded: Their embeddings.
        most: At most about so many random comparisons, where they are not listed.

    Returns:
        The comparisons; a kind may be empty.
    """
    return _every(data, embedded, most) if data.pairs is None else _listed(data, embedded)


def _listed(data: EvaluationData, embedded: Embedded) -> ScoredComparisons:
    pairs = data.pairs or ()
    ends = np.array([(p.probe, p.reference) for p in pairs], np.int32).reshape(-1, 2)
    mated = np.array([p.mated for p in pairs], bool)
    skilled = np.array([p.is_skilled for p in pairs], bool)
    rows = embedded.row_of[ends]
    usable = (rows >= 0).all(axis=1)
    units = unit_rows(embedded.rows)
    scores = np.zeros(len(pairs), np.float32)
    for n in np.flatnonzero(usable).tolist():
        scores[n] = paired_scores(units[rows[n, 0]], units[rows[n, 1]][None])[0]
    found = [
        Comparisons(ends[k & usable, 0], ends[k & usable, 1], scores[k & usable])
        for k in (mated, ~mated & ~skilled, ~mated & skilled)
    ]
    return ScoredComparisons(
        mated=found[0],
        random=found[1],
        skilled=found[2],
        lost_mated=int((mated & ~usable).sum()),
        lost_non_mated=int((~mated & ~usable).sum()),
    )


def _every(data: EvaluationData, embedded: Embedded, most: int) -> ScoredComparisons:
    seen = np.flatnonzero(embedded.row_of >= 0)
    images = [data.images[n] for n in seen.tolist()]
    rows = embedded.rows[embedded.row_of[seen]]
    found = every_pair(rows, *columns(images), most=most)
    whole, here = count_pairs(*columns(data.images)), count_pairs(*columns(images))
    lost = {kind: whole[kind] - here[kind] for kind in whole}
    at = seen.astype(np.int32)
    kinds = [
        Comparisons(at[kind.probe], at[kind.reference], kind.scores)
        for kind in (found.mated, found.random, found.skilled)
    ]
    return ScoredComparisons(
        mated=kinds[0],
        random=kinds[1],
        skilled=kinds[2],
        lost_mated=lost["mated"],
        lost_non_mated=lost["random"] + lost["skilled"],
        drawn_share=found.drawn_share,
    )
