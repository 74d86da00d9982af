"""Exact error rates over every pair of images in memory that does not grow with the pairs.

Scores are computed in tiles and counted in fine bins. The threshold of a rate is in one of a few bins, which
a second pass counts value by value; so the rates are those of all scores, to the last pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verifykit.evaluation.pair_tiles import KINDS, PairTiles
from verifykit.metrics import DetCurve, EqualErrorRate
from verifykit.metrics.inputs import allowed_matches

_BINS = 1 << 18
_MERGED = 1 << 20  # scores that are gathered before equal ones are counted together


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
            found.add(kind, values)
        return found

    def add(self, kind: str, scores: NDArray[np.float32]) -> None:
        """Count further scores of a kind; those outside [-1, 1] are in the first and last bins."""
        self._bins[kind] += np.bincount(self.bin_of(scores), minlength=self._bin_count)

    def size(self, kind: str) -> int:
        """Return the number of scores of a kind."""
        return int(self._bins[kind].sum())

    def counts(self, kind: str) -> NDArray[np.int64]:
        """Return the number of scores of a kind in each bin."""
        return self._bins[kind]

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
        missed = np.append(below(mates)[filled], mates.sum())
        held = np.append(below(others)[filled], others.sum())
        return DetCurve(
            np.append(self._edges(filled), np.inf),
            (others.sum() - held) / others.sum(),
            missed / mates.sum(),
        )

    def bin_of(self, scores: NDArray[Any]) -> NDArray[np.int64]:
        """Return the bin of each score; a higher score is never in a lower bin."""
        places = (scores.astype(np.float64) + 1.0) * (self._bin_count / 2)
        return np.clip(places, 0, self._bin_count - 1).astype(np.int64)

    def bin_at(self, kind: str, ranks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the bins of the scores at ranks from 0, the lowest first."""
        return np.searchsorted(np.cumsum(self._bins[kind]), ranks, side="right")

    def edges_at(self, kind: str, rank: int) -> tuple[float, float]:
        """Return the edges of the bin of the score at a rank from 0, the lowest first."""
        place = self.bin_at(kind, np.array([rank]))
        return float(self._edges(place)[0]), float(self._edges(place + 1)[0])

    def _edges(self, places: NDArray[Any]) -> NDArray[np.float64]:
        edges: NDArray[np.float64] = places * (2.0 / self._bin_count) - 1.0
        return edges


class PairCounts(ScoreBins):
    """Counts of the scores of every pair, by kind: see :class:`PairTiles`."""

    def __init__(self, pairs: PairTiles, *, bins: int = _BINS) -> None:
        """Score every pair once; the number of bins changes memory and time, and no rate."""
        super().__init__(bins)
        self.pairs = pairs
        self._moments = {kind: _Moments() for kind in KINDS}
        for kind in KINDS:
            for tile in pairs.tiles(kind):
                scores = tile.picked()
                self.add(kind, scores)
                self._moments[kind].add(scores)

    def equal_error_rate(self, non_mated: str) -> EqualErrorRate:
        """Return the EER of mated against a kind, as `verifykit.metrics.equal_error_rate` of all scores."""
        return self.keep(self.crossing_bins(non_mated), ("mated", non_mated)).crossing(non_mated)

    def fnmr_at_fmr(self, non_mated: str, fmr: float) -> tuple[float, float]:
        """Return FNMR and threshold, as `verifykit.metrics.fnmr_at_fmr` of all scores."""
        bins = self.fmr_bins(non_mated, [fmr])
        kept = self.keep(bins, ("mated", non_mated))
        threshold = kept.threshold_at(non_mated, fmr)
        missed = kept.below("mated", np.array([threshold]))[0]
        return float(missed / self.size("mated")), threshold

    def moments(self, kind: str) -> tuple[float, float]:
        """Return mean and population variance of the scores of a kind."""
        return self._moments[kind].values()

    def extremes(self, kind: str) -> tuple[float, float, int]:
        """Return the lowest and the highest score of a kind, and how often the highest occurs."""
        found = self._moments[kind]
        return found.lowest, found.highest, found.highest_count

    def means(self, kind: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the mean score of each bin that holds scores of a kind, and their number."""
        sums = np.zeros(self._bin_count)
        for tile in self.pairs.tiles(kind):
            scores = tile.picked()
            sums += np.bincount(self.bin_of(scores), weights=scores, minlength=self._bin_count)
        counts = self._bins[kind]
        filled = counts > 0
        return sums[filled] / counts[filled], counts[filled].astype(np.float64)

    def crossing_bins(self, non_mated: str) -> NDArray[np.int64]:
        """Return the bins in which FMR and FNMR cross."""
        mates, others = self._bins["mated"], self._bins[non_mated]
        # Rates at the lower edge of each bin are those at its lowest score.
        fnmr = below(mates) / mates.sum()
        fmr = (others.sum() - below(others)) / others.sum()
        filled = np.flatnonzero(mates + others)
        first = int(filled[fnmr[filled] < fmr[filled]][-1])
        later = filled[fnmr[filled] > fmr[filled]]
        last = int(later[0]) if later.size else int(filled[-1])
        return np.arange(first, last + 1)

    def fmr_bins(self, non_mated: str, fmrs: Sequence[float]) -> NDArray[np.int64]:
        """Return the bins of the largest scores that may not match at false match rates."""
        ranks = [self.size(non_mated) - 1 - self.allowed(non_mated, fmr) for fmr in fmrs]
        return self.bin_at(non_mated, np.array([rank for rank in ranks if rank >= 0], np.int64))

    def allowed(self, non_mated: str, fmr: float) -> int:
        """Return how many scores of a kind may match at a false match rate."""
        return allowed_matches(self.size(non_mated), fmr)

    def keep(self, bins: NDArray[np.int64], kinds: Iterable[str]) -> KeptValues:
        """Count the scores of some kinds in some bins value by value, in a pass over all pairs."""
        chosen = np.zeros(self._bin_count, bool)
        chosen[bins] = True
        found = {}
        for kind in kinds:
            values = _Values()
            for tile in self.pairs.tiles(kind):
                scores = tile.picked()
                values.add(scores[chosen[self.bin_of(scores)]])
            values.merge()
            found[kind] = values
        return KeptValues(self, found)


class KeptValues:
    """The scores in some of the bins, value by value, and so exact counts at thresholds in them."""

    def __init__(self, counts: PairCounts, values: Mapping[str, _Values]) -> None:
        """Take what was gathered."""
        self._counts, self._values = counts, values

    def distinct(self, kinds: Iterable[str]) -> NDArray[np.float64]:
        """Return the distinct scores of some kinds together, ascending."""
        return np.unique(np.concatenate([self._values[kind].scores for kind in kinds])).astype(
            np.float64
        )

    def below(self, kind: str, thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return how many scores of a kind are below thresholds, which are in kept bins or infinite."""
        bins, values = self._counts.counts(kind), self._values[kind]
        places = self._counts.bin_of(np.clip(thresholds, -2.0, 2.0))
        sums = np.concatenate([[0], np.cumsum(values.counts)])
        firsts = np.searchsorted(self._counts.bin_of(values.scores), places, side="left")
        ends = np.searchsorted(values.scores.astype(np.float64), thresholds, side="left")
        found: NDArray[np.int64] = below(bins)[places] + sums[ends] - sums[firsts]
        found[thresholds == np.inf] = bins.sum()
        return found

    def at(self, kind: str, ranks: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the scores of a kind at ranks from 0, the lowest first, which are in kept bins."""
        places = self._counts.bin_at(kind, ranks)
        values = self._values[kind]
        sums = np.concatenate([[0], np.cumsum(values.counts)])
        firsts = np.searchsorted(self._counts.bin_of(values.scores), places, side="left")
        within = ranks - below(self._counts.counts(kind))[places] + sums[firsts]
        found: NDArray[np.float32] = values.scores[np.searchsorted(sums[1:], within, side="right")]
        return found

    def threshold_at(self, non_mated: str, fmr: float) -> float:
        """Return `verifykit.metrics.threshold_at_fmr` of all scores."""
        rank = self._counts.size(non_mated) - 1 - self._counts.allowed(non_mated, fmr)
        if rank < 0:
            return -np.inf
        refused = float(self.at(non_mated, np.array([rank]))[0])
        return float(np.nextafter(refused, np.inf))

    def crossing(self, non_mated: str) -> EqualErrorRate:
        """Return where FMR and FNMR cross: the bins of `PairCounts.crossing_bins` are kept."""
        places = self._counts.crossing_bins(non_mated)
        thresholds = self.distinct(("mated", non_mated))
        bins = self._counts.bin_of(thresholds)
        thresholds = thresholds[(bins >= places[0]) & (bins <= places[-1])]
        # Above all scores, where the rates cross at the highest of them.
        thresholds = np.append(thresholds, np.inf)
        sizes = self._counts.size("mated"), self._counts.size(non_mated)
        missed, held = self.below("mated", thresholds), self.below(non_mated, thresholds)
        return DetCurve(thresholds, (sizes[1] - held) / sizes[1], missed / sizes[0]).crossing()


class _Values:
    """Distinct scores, and how often each occurs."""

    def __init__(self) -> None:
        self.scores = np.empty(0, np.float32)
        self.counts = np.empty(0, np.int64)
        self._gathered: list[NDArray[np.float32]] = []

    def add(self, scores: NDArray[np.float32]) -> None:
        self._gathered.append(scores)
        if sum(len(part) for part in self._gathered) > _MERGED:
            self.merge()

    def merge(self) -> None:
        if not self._gathered:
            return
        found, counts = np.unique(np.concatenate(self._gathered), return_counts=True)
        self._gathered = []
        every, places = np.unique(np.concatenate([self.scores, found]), return_inverse=True)
        sums = np.zeros(len(every), np.int64)
        np.add.at(sums, places, np.concatenate([self.counts, counts]))
        self.scores, self.counts = every, sums


@dataclass
class _Moments:
    """Sums of scores around the first of them, so that equal ones have a variance of exactly 0."""

    count: int = 0
    pivot: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    lowest: float = np.inf
    highest: float = -np.inf
    highest_count: int = 0

    def add(self, scores: NDArray[np.float32]) -> None:
        if not self.count:
            self.pivot = float(scores[0])
        centred = scores.astype(np.float64) - self.pivot
        self.count += len(scores)
        self.total += float(centred.sum())
        self.squares += float(np.square(centred).sum())
        self.lowest = min(self.lowest, float(scores.min()))
        highest = float(scores.max())
        if highest >= self.highest:
            ties = int(np.count_nonzero(scores == highest))
            self.highest_count = ties + (self.highest_count if highest == self.highest else 0)
            self.highest = highest

    def values(self) -> tuple[float, float]:
        mean = self.total / self.count
        return self.pivot + mean, max(0.0, self.squares / self.count - mean * mean)


def below(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many are in lower bins."""
    return np.cumsum(counts) - counts
