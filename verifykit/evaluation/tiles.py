"""Exact error rates over every pair of images in memory that does not grow with the pairs.

Scores are computed in tiles and counted in fine bins. The threshold of a rate is in one of a few bins, which
a second pass counts value by value; so the rates are those of all scores, to the last pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verifykit.metrics import DetCurve, EqualErrorRate
from verifykit.metrics.inputs import allowed_matches
from verifykit.scoring import unit_rows
from verifykit.types import Embeddings

_BINS = 1 << 18
_TILE = 1024

KINDS = ("mated", "random", "skilled")


@dataclass(frozen=True, eq=False)
class _Values:
    """Distinct scores in some bins, and how often each occurs."""

    scores: NDArray[np.float32]
    counts: NDArray[np.int64]


class ScoreBins:
    """Counts of scores in fine bins, by kind: enough to draw, whatever the number of scores."""

    def __init__(self, bins: int = _BINS) -> None:
        """Begin with nothing counted."""
        self._bin_count = bins
        self._bins = {kind: np.zeros(bins, np.int64) for kind in KINDS}

    @classmethod
    def of(cls, scores: Mapping[str, NDArray[np.float32]]) -> ScoreBins:
        """Count scores that are at hand."""
        found = cls()
        for kind, values in scores.items():
            found.add(kind, np.clip(values, -1.0, 1.0))
        return found

    def add(self, kind: str, scores: NDArray[np.float32]) -> None:
        """Count further scores in [-1, 1] of a kind."""
        self._bins[kind] += np.bincount(self._bin_of(scores), minlength=self._bin_count)

    def size(self, kind: str) -> int:
        """Return the number of scores of a kind."""
        return int(self._bins[kind].sum())

    def lowest(self) -> float:
        """Return the lower edge of the lowest bin that holds a score."""
        filled = [np.flatnonzero(counts)[:1] for counts in self._bins.values()]
        return float(self._edges(np.concatenate(filled)).min())

    def histogram(self, kind: str, edges: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return counts between ascending edges: a bin counts where its middle is."""
        middles = self._edges(np.arange(self._bin_count) + 0.5)
        return np.histogram(middles, edges, weights=self._bins[kind])[0].astype(np.int64)

    def det_curve(self, non_mated: str) -> DetCurve:
        """Return both rates at the lower edges of the bins that hold scores, and above all of them.

        They are those of every score; between two thresholds of the exact curve some are left out.
        """
        mates, others = self._bins["mated"], self._bins[non_mated]
        filled = np.flatnonzero(mates + others)
        missed = np.append(_below(mates)[filled], mates.sum())
        held = np.append(_below(others)[filled], others.sum())
        return DetCurve(
            np.append(self._edges(filled), np.inf),
            (others.sum() - held) / others.sum(),
            missed / mates.sum(),
        )

    def _edges(self, places: NDArray[Any]) -> NDArray[np.float64]:
        edges: NDArray[np.float64] = places * (2.0 / self._bin_count) - 1.0
        return edges

    def _bin_of(self, scores: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the bin of each score in [-1, 1]; a higher score is never in a lower bin."""
        places = (scores.astype(np.float64) + 1.0) * (self._bin_count / 2)
        return np.minimum(places.astype(np.int64), self._bin_count - 1)


class PairCounts(ScoreBins):
    """Counts of the scores of every pair of N unit rows, by kind.

    ``mated`` are two genuine images of one subject, ``random`` of two, ``skilled`` a genuine image and an
    imitation of its subject.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        subjects: Sequence[str],
        forged: Sequence[bool],
        *,
        bins: int = _BINS,
        tile: int = _TILE,
    ) -> None:
        """Score every pair once; `bins` and `tile` change memory and time, and no rate."""
        super().__init__(bins)
        self._tile = tile
        labels = np.unique(np.asarray(subjects, np.str_), return_inverse=True)[1]
        fake = np.asarray(forged, bool)
        order = np.argsort(fake, kind="stable")
        self._rows = unit_rows(embeddings)[order]
        self._labels = labels[order]
        self._genuine = int((~fake).sum())
        for kind, scores in self._tiles():
            self.add(kind, scores)

    def equal_error_rate(self, non_mated: str) -> EqualErrorRate:
        """Return the EER of mated against a kind, as `verifykit.metrics.equal_error_rate` of all scores."""
        mates, others = self._bins["mated"], self._bins[non_mated]
        # Rates at the lower edge of each bin are those at its lowest score.
        fnmr = _below(mates) * others.sum()
        fmr = (others.sum() - _below(others)) * mates.sum()
        filled = np.flatnonzero(mates + others)
        first = int(filled[fnmr[filled] < fmr[filled]][-1])
        later = filled[fnmr[filled] > fmr[filled]]
        last = int(later[0]) if later.size else int(filled[-1])
        found = self._values((first, last), ("mated", non_mated))
        ours, theirs = found["mated"], found[non_mated]
        thresholds = np.unique(np.concatenate([ours.scores, theirs.scores])).astype(np.float64)
        if not later.size:
            thresholds = np.append(thresholds, np.inf)
        missed = _below(mates)[first] + _count_below(ours, thresholds)
        held = _below(others)[first] + _count_below(theirs, thresholds)
        sizes = int(mates.sum()), int(others.sum())
        return DetCurve(thresholds, (sizes[1] - held) / sizes[1], missed / sizes[0]).crossing()

    def fnmr_at_fmr(self, non_mated: str, fmr: float) -> tuple[float, float]:
        """Return FNMR and threshold, as `verifykit.metrics.fnmr_at_fmr` of all scores."""
        others, mates = self._bins[non_mated], self._bins["mated"]
        allowed = allowed_matches(int(others.sum()), fmr)
        if allowed >= others.sum():
            return 0.0, -np.inf
        # The largest score that may not match, counted from below.
        rank = int(others.sum()) - allowed
        place = int(np.searchsorted(np.cumsum(others), rank))
        found = self._values((place, place), ("mated", non_mated))
        theirs = found[non_mated]
        at = int(np.searchsorted(_below(others)[place] + np.cumsum(theirs.counts), rank))
        threshold = float(np.nextafter(np.float64(theirs.scores[at]), np.inf))
        missed = _below(mates)[place] + _count_below(found["mated"], np.array([threshold]))[0]
        return float(missed / mates.sum()), threshold

    def _values(self, bins: tuple[int, int], kinds: Sequence[str]) -> dict[str, _Values]:
        """Count the scores in a range of bins value by value."""
        empty = _Values(np.empty(0, np.float32), np.empty(0, np.int64))
        found = dict.fromkeys(kinds, empty)
        for kind, scores in self._tiles():
            if kind not in found:
                continue
            places = self._bin_of(scores)
            inside = scores[(places >= bins[0]) & (places <= bins[1])]
            if inside.size:
                found[kind] = _merged(found[kind], inside)
        return found

    def _tiles(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield scores by kind, a tile at a time."""
        total = len(self._rows)
        for start in range(0, self._genuine, self._tile):
            mine = slice(start, min(start + self._tile, self._genuine))
            wide = self._rows[mine].astype(np.float64)
            for other in range(start, total, self._tile):
                theirs = slice(other, min(other + self._tile, total))
                scores = wide @ self._rows[theirs].astype(np.float64).T
                tile = np.clip(scores, -1.0, 1.0).astype(np.float32)
                yield from self._by_kind(tile, mine, theirs)

    def _by_kind(
        self, scores: NDArray[np.float32], mine: slice, theirs: slice
    ) -> Iterator[tuple[str, NDArray[np.float32]]]:
        rows = np.arange(mine.start, mine.stop)[:, None]
        columns = np.arange(theirs.start, theirs.stop)[None, :]
        same = self._labels[mine][:, None] == self._labels[theirs][None, :]
        later, genuine = columns > rows, columns < self._genuine
        yield "mated", scores[same & later & genuine]
        yield "random", scores[~same & later & genuine]
        yield "skilled", scores[same & ~genuine]


def _below(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many are in lower bins."""
    return np.cumsum(counts) - counts


def _count_below(values: _Values, thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    sums = np.concatenate([[0], np.cumsum(values.counts)])
    return sums[np.searchsorted(values.scores.astype(np.float64), thresholds, side="left")]


def _merged(values: _Values, scores: NDArray[np.float32]) -> _Values:
    found, counts = np.unique(scores, return_counts=True)
    every, places = np.unique(np.concatenate([values.scores, found]), return_inverse=True)
    sums = np.zeros(len(every), np.int64)
    np.add.at(sums, places, np.concatenate([values.counts, counts]))
    return _Values(every, sums)
