"""Search in any gallery by scores from which the penalties of look-alikes are taken.

A store searches by cosine. A penalty is never below 0, so a subject's score is at most its cosine less half
of the probe's penalty. So a subject that reaches the threshold has a cosine of at least the threshold and
that half, and a subject that was not returned has no better score than the last cosine that was. More and
more candidates are requested until no other can be among the best: the result is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import SubjectNotFoundError
from verifykit.gallery.base import Gallery, GalleryInfo, GallerySnapshot, checked_question
from verifykit.scoring import paired_scores, penalised, penalties, reference_rows, unit_rows
from verifykit.spec import Cohort, Fusion, ModelSpec
from verifykit.types import Candidate, Embeddings

RowsOf = Callable[[str], "NDArray[np.float32] | None"]

_Reference: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float64]]

_FIRST_LIMIT = 32
_LEAST_GROUP = 8  # candidates that are scored at once
_ROUNDING = 1e-6  # a float32 score rounds by less


class Search(Protocol):
    """A gallery's ``search``, or one of the same form."""

    def __call__(
        self, probes: Embeddings, limit: int, threshold: float, /
    ) -> list[list[Candidate]]:
        """See :meth:`Gallery.search`."""


@runtime_checkable
class RowsSnapshot(GallerySnapshot, Protocol):
    """A snapshot that gives the reference rows of a subject."""

    def rows_of(self, subject_id: str) -> NDArray[np.float32] | None:
        """Return the rows that represent a subject, (R, D); None for an unknown one."""


class PenalisedSearch:
    """A search that is exact in scores with penalties; ``rows_of`` gives a subject's reference rows."""

    def __init__(self, search: Search, rows_of: RowsOf, cohort: Cohort) -> None:
        self._search, self._rows_of, self._cohort = search, rows_of, cohort
        self._known: dict[str, _Reference | None] = {}

    def __call__(self, probes: Embeddings, limit: int, threshold: float) -> list[list[Candidate]]:
        """See :meth:`Gallery.search`."""
        limit, threshold = checked_question(limit, threshold)
        self._known.clear()  # the gallery may have changed since
        units = unit_rows(probes)
        halves = penalties(self._cohort, units) / 2
        results: list[list[Candidate]] = [[] for _ in units]
        waiting = np.arange(len(units))
        count = max(4 * limit, _FIRST_LIMIT)
        while len(waiting):
            least = float(halves[waiting].min()) + threshold - _ROUNDING
            found = self._search(probes[waiting], count, _cosine(least, threshold))
            left = []
            for n, candidates in zip(waiting.tolist(), found, strict=True):
                own = float(halves[n])
                results[n], is_sure = self._best(units[n], own, candidates, limit, threshold)
                if not is_sure and len(candidates) == count:
                    left.append(n)
            waiting = np.array(left, np.int64)
            count *= 4
        return results

    def _best(
        self,
        probe: NDArray[np.float32],
        half: float,
        candidates: Sequence[Candidate],
        limit: int,
        threshold: float,
    ) -> tuple[list[Candidate], bool]:
        """Return the best of some candidates, and whether no subject behind them can be among the best.

        They are in the order of their cosines, so the first that cannot be among the best ends it.
        """
        kept: list[tuple[float, str, Candidate]] = []
        start, end, is_sure = 0, max(2 * limit, _LEAST_GROUP), False
        while start < len(candidates):
            most = _most(candidates[start], half)
            is_sure = most < threshold or (len(kept) == limit and -kept[-1][0] > most)
            if is_sure:
                break
            some = candidates[start:end]
            for score, candidate in zip(self._scores(probe, half, some), some, strict=True):
                if score >= threshold:
                    kept.append((-score, candidate.subject_id, candidate))
            kept = sorted(kept)[:limit]
            start, end = end, 2 * end
        if len(kept) == limit:
            is_sure = is_sure or -kept[-1][0] > _most(candidates[-1], half)
        best = [replace(each, score=-score, threshold=threshold) for score, _, each in kept]
        return best, is_sure

    def _scores(
        self, probe: NDArray[np.float32], half: float, candidates: Sequence[Candidate]
    ) -> list[float]:
        """Return the score of each candidate, -inf for one that was removed since."""
        references = self._references([each.subject_id for each in candidates])
        scores = np.full(len(candidates), -np.inf, np.float32)
        present = [n for n, each in enumerate(references) if each is not None]
        if present:
            known = [each for each in references if each is not None]
            rows, theirs = (np.concatenate(each) for each in zip(*known, strict=True))
            of_rows = penalised(paired_scores(probe, rows), 2 * half, theirs)
            firsts = np.cumsum([0, *(len(each) for each, _ in known[:-1])])
            scores[present] = np.maximum.reduceat(of_rows, firsts)
        return [float(score) for score in scores]

    def _references(self, subject_ids: Sequence[str]) -> list[_Reference | None]:
        """Return of each subject the reference rows and their penalties, None for an unknown one."""
        new = [each for each in subject_ids if each not in self._known]
        rows = [self._rows_of(each) for each in new]
        self._known.update(dict.fromkeys(new))
        found = [each for each in rows if each is not None]
        if found:
            all_penalties = penalties(self._cohort, np.concatenate(found))
            ends = np.cumsum([len(each) for each in found])[:-1]
            each_penalties = iter(np.split(all_penalties, ends))
            for subject_id, mine in zip(new, rows, strict=True):
                if mine is not None:
                    self._known[subject_id] = mine, next(each_penalties)
        return [self._known[each] for each in subject_ids]


def _cosine(least: float, threshold: float) -> float:
    # Scores end at -1: a threshold there takes every subject, whatever its penalty.
    return -1.0 if threshold <= -1.0 else max(least, -1.0)


def _most(candidate: Candidate, half: float) -> float:
    """Return what the score of a candidate, and of all behind it, is at most."""
    return max(candidate.score - half, -1.0) + _ROUNDING


def searcher(gallery: Gallery, spec: ModelSpec) -> Search:
    """Return the search of a gallery by the scores of a model.

    Args:
        gallery: Any gallery.
        spec: The model; with a cohort, the scores of look-alikes are lowered.

    Returns:
        A function of probes, limit and threshold, as :meth:`Gallery.search`.
    """
    if spec.cohort is None:
        return gallery.search
    rows_of = partial(_rows_of, gallery, spec.fusion)
    return PenalisedSearch(gallery.search, rows_of, spec.cohort)


def _rows_of(gallery: Gallery, fusion: Fusion, subject_id: str) -> NDArray[np.float32] | None:
    try:
        templates = gallery.get(subject_id).templates
    except SubjectNotFoundError:
        return None
    return reference_rows(np.stack([each.embedding for each in templates]), fusion)


class PenalisedSnapshot:
    """A :class:`~verifykit.gallery.base.GallerySnapshot` searched by scores with penalties."""

    def __init__(self, snapshot: RowsSnapshot, cohort: Cohort) -> None:
        self._snapshot = snapshot
        self._penalised = PenalisedSearch(snapshot.search, snapshot.rows_of, cohort)

    @property
    def info(self) -> GalleryInfo:
        """See :meth:`GallerySnapshot.info`."""
        return self._snapshot.info

    def search(self, probes: Embeddings, limit: int, threshold: float) -> list[list[Candidate]]:
        """See :meth:`GallerySnapshot.search`."""
        return self._penalised(probes, limit, threshold)

    def close(self) -> None:
        """See :meth:`GallerySnapshot.close`."""
        self._snapshot.close()
