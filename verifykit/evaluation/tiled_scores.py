"""1:1 error rates of every pair of images, with their intervals, in memory that does not grow with the pairs.

The same numbers as those of lists of comparisons, to the last pair and the last draw of subjects. What a list
would hold is computed again, in further passes over tiles of the scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from verifykit.datasets import Dataset
from verifykit.evaluation.embedding import Embedded
from verifykit.evaluation.one_to_one import DET_POINTS, HISTOGRAM_BINS, Counted
from verifykit.evaluation.pair_tiles import KINDS, PairTiles, Tile
from verifykit.evaluation.pairs import Comparisons, ScoredComparisons, columns, count_pairs
from verifykit.evaluation.results import Rate
from verifykit.evaluation.tiles import KeptValues, PairCounts
from verifykit.metrics import EqualErrorRate, ScoreHistogram, score_histogram
from verifykit.metrics.draws import draw_subjects
from verifykit.scoring import penalties, unit_rows
from verifykit.spec import Cohort

MOST_HELD = 2_000_000
"""The scores of more comparisons are counted in tiles and not held."""


class TiledScores:
    """Scores of every mated and every non-mated pair: `verifykit.evaluation.one_to_one.AttackScores`."""

    def __init__(
        self,
        counts: PairCounts,
        non_mated: str,
        weights: NDArray[np.float64],
        fmrs: Sequence[float],
    ) -> None:
        """Take counted pairs; `weights` are the draws of their groups, `fmrs` the rates to come."""
        self._counts, self._kind, self._weights = counts, non_mated, weights
        self._fmrs = fmrs

    @property
    def mated_count(self) -> int:
        """Return the number of mated scores."""
        return self._counts.size("mated")

    @property
    def non_mated_count(self) -> int:
        """Return the number of non-mated scores."""
        return self._counts.size(self._kind)

    def crossing(self) -> EqualErrorRate:
        """Return the equal error rate."""
        return self._kept.crossing(self._kind)

    def d_prime(self) -> float:
        """Return the distance of the two distributions."""
        (mean, variance), (other, varies) = map(self._counts.moments, ("mated", self._kind))
        deviation = math.sqrt((variance + varies) / 2.0)
        if deviation == 0.0:
            return math.inf if mean != other else 0.0
        return abs(mean - other) / deviation

    def histogram(self) -> ScoreHistogram:
        """Return counts in equal bins."""
        edges = self._edges()
        found = []
        for kind in ("mated", self._kind):
            sums = self._kept.below(kind, edges)
            sums[-1] = self._counts.size(kind)  # the last bin holds its upper edge
            found.append(np.diff(sums))
        return ScoreHistogram(edges, *found)

    def thresholds_at(self, fmrs: Sequence[float]) -> list[float]:
        """Return the smallest threshold whose FMR is not above each rate."""
        return [self._kept.threshold_at(self._kind, fmr) for fmr in fmrs]

    def quantiles(self, rates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return thresholds at which FMR, and at which FNMR, is about each rate."""
        parts = {self._kind: 1 - rates, "mated": rates}
        ranks = {}
        for kind, shares in parts.items():
            places = shares * (self._counts.size(kind) - 1)
            lower = np.floor(places).astype(np.int64)
            ranks[kind] = (
                lower,
                np.minimum(lower + 1, self._counts.size(kind) - 1),
                places - lower,
            )
        bins = [self._counts.bin_at(kind, np.concatenate(r[:2])) for kind, r in ranks.items()]
        kept = self._counts.keep(np.concatenate(bins), parts)
        return np.concatenate(
            [
                _between(kept.at(kind, low), kept.at(kind, high), share)
                for kind, (low, high, share) in ranks.items()
            ]
        )

    def det_points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return thresholds of the exact curve, and FMRs: these are evenly spaced in their logarithm."""
        refused = self._refused()
        every = self._kept.distinct(("mated", self._kind))
        highest_refused = self._kept.at(self._kind, refused[refused >= 0]).astype(np.float64)
        places = np.searchsorted(every, np.unique(highest_refused), side="right")
        thresholds = np.unique(every[np.concatenate([places, [0] * bool((refused < 0).any())])])
        total = self.non_mated_count
        return thresholds, (total - self._kept.below(self._kind, thresholds)) / total

    def false_matches(self, thresholds: Sequence[float]) -> Counted:
        """Count non-mated scores at or above ascending thresholds."""
        matched, sums, trials = self._at_or_above(self._kind, thresholds)
        return Counted(matched, self.non_mated_count, _rates(sums, trials))

    def false_non_matches(self, thresholds: Sequence[float]) -> Counted:
        """Count mated scores below ascending thresholds."""
        matched, sums, trials = self._at_or_above("mated", thresholds)
        missed = self.mated_count - matched
        return Counted(missed, self.mated_count, _rates(trials - sums, trials))

    @cached_property
    def _kept(self) -> KeptValues:
        """Hold the scores around every threshold that is known beforehand."""
        counts, kind = self._counts, self._kind
        filled = np.flatnonzero(counts.counts("mated") + counts.counts(kind))
        refused = self._refused()
        at = counts.bin_at(kind, refused[refused >= 0])
        # The next higher score of either kind is in the same bin, or the lowest of the next that holds one.
        following = filled[np.minimum(np.searchsorted(filled, at, side="right"), len(filled) - 1)]
        bins = [
            counts.crossing_bins(kind),
            counts.fmr_bins(kind, self._fmrs),
            at,
            following,
            filled[:1],
            counts.bin_of(self._edges()),
        ]
        return counts.keep(np.concatenate(bins), ("mated", kind))

    def _refused(self) -> NDArray[np.int64]:
        """Return the ranks of the highest scores that may not match at the points of the DET curve."""
        total, ties = self.non_mated_count, self._counts.extremes(self._kind)[2]
        targets = np.geomspace(1.0, ties / total, DET_POINTS) * (1 + 1e-12)
        allowed = [self._counts.allowed(self._kind, float(fmr)) for fmr in targets]
        return np.array([total - 1 - min(count, total) for count in allowed], np.int64)

    def _edges(self) -> NDArray[np.float64]:
        ends = [self._counts.extremes(kind)[:2] for kind in ("mated", self._kind)]
        both = [min(low for low, _ in ends), max(high for _, high in ends)]
        return score_histogram(both, both, HISTOGRAM_BINS).edges

    def _at_or_above(
        self, kind: str, thresholds: Sequence[float]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Return how many scores match at T thresholds, (T, B) weighed sums of them, and (B,) of all."""
        limits = np.asarray(thresholds, np.float64)
        weigh = _Weighed(self._weights, self._counts.pairs.groups, len(limits))
        for tile in self._counts.pairs.tiles(kind):
            weigh.add(tile, limits)
        # A score between two thresholds matches at all that are not above it.
        counts = np.cumsum(weigh.counts[::-1])[::-1]
        sums = np.cumsum(weigh.sums[::-1], axis=0)[::-1]
        return counts[1:], sums[1:], sums[0]


class TiledComparisons:
    """Every comparison of labelled images with a template, of which there may be too many to hold.

    Attributes:
        lost_mated: Mated comparisons without a score, because an image gave no template.
        lost_non_mated: Non-mated ones, random and skilled.
    """

    def __init__(
        self, data: Dataset, embedded: Embedded, cohort: Cohort | None = None, *, seed: int = 0
    ) -> None:
        """Count all scores once; `seed` is of the draws of subjects."""
        self._is_seen = embedded.row_of >= 0
        self._seen = np.flatnonzero(self._is_seen)
        images = [data.images[n] for n in self._seen.tolist()]
        labels = data.subject_numbers()
        self._weights, group_of = draw_subjects(int(labels.max()) + 1, seed=seed)
        _, forged, populations = columns(images)
        rows, mine = embedded.rows[embedded.row_of[self._seen]], labels[self._seen]
        taken = None if cohort is None else penalties(cohort, unit_rows(rows))
        sets = np.unique(np.asarray(populations, np.str_), return_inverse=True)[1]
        self._counts = PairCounts(
            PairTiles(
                rows,
                mine,
                np.array(forged, bool),
                sets=sets,
                penalties=taken,
                groups=group_of[mine],
            )
        )
        whole = count_pairs(*columns(data.images))
        lost = {kind: count - self.size(kind) for kind, count in whole.items()}
        self.lost_mated, self.lost_non_mated = lost["mated"], lost["random"] + lost["skilled"]

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Return for each image whether it gave a template."""
        return self._is_seen

    def size(self, kind: str) -> int:
        """Return the number of comparisons of a kind."""
        return self._counts.size(kind)

    def scores(self, non_mated: str, fmrs: Sequence[float]) -> TiledScores:
        """Return mated and non-mated scores, to be measured at these and other rates."""
        return TiledScores(self._counts, non_mated, self._weights, fmrs)

    def rates_within(
        self, images: NDArray[np.bool_], thresholds: Sequence[float]
    ) -> list[tuple[Rate | None, Rate | None]]:
        """Return FNMR and FMR at each threshold of the comparisons among some images; None without any."""
        counts = PairCounts(self._counts.pairs.part(images[self._seen]))
        part = TiledScores(counts, "random", self._weights, ())
        ascending, places = np.unique(np.asarray(thresholds, np.float64), return_inverse=True)
        # One question for all thresholds: each is a pass over all pairs.
        missed = part.false_non_matches(ascending.tolist()) if part.mated_count else None
        false = part.false_matches(ascending.tolist()) if part.non_mated_count else None
        return [
            (missed.rate(place) if missed else None, false.rate(place) if false else None)
            for place in places.tolist()
        ]

    def hardest(self, most: int) -> ScoredComparisons:
        """Return the mated comparisons of the lowest scores and the non-mated ones of the highest."""
        mated, random, skilled = (self._extreme(kind, most) for kind in KINDS)
        return ScoredComparisons(mated, random, skilled)

    def _extreme(self, kind: str, most: int) -> Comparisons:
        size, pairs = self.size(kind), self._counts.pairs
        sign = 1 if kind == "mated" else -1
        count = min(most, size)
        limit = math.inf
        if count:
            rank = count - 1 if kind == "mated" else size - count
            limit = sign * self._counts.edges_at(kind, rank)[0 if sign < 0 else 1]
        found = _Extremes(count)
        for tile in pairs.tiles(kind) if count else ():
            rows, other = tile.places(sign * tile.scores <= limit)
            ends = pairs.ends(kind, tile.rows[rows], tile.columns[other])
            found.add(*ends, sign * tile.scores[rows, other])
        probe, reference, keys = found.best()
        at = self._seen.astype(np.int32)
        return Comparisons(at[probe], at[reference], sign * keys)


class _Extremes:
    """The comparisons with the lowest keys of those that were added."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []

    def add(
        self, probe: NDArray[np.int64], reference: NDArray[np.int64], keys: NDArray[np.float32]
    ) -> None:
        self._parts.append((probe, reference, keys))
        if sum(len(part[0]) for part in self._parts) > 1 << 20:
            self._parts = [self.best()]

    def best(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        nothing = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
        parts = [*self._parts, nothing]
        probe, reference, keys = (np.concatenate([part[n] for part in parts]) for n in range(3))
        order = np.lexsort((reference, probe, keys))[: self._count]
        return probe[order], reference[order], keys[order]


class _Weighed:
    """Scores between T ascending thresholds: their number, and their sum of weights in every draw.

    All are sums of integers in float64, and so exact.
    """

    def __init__(
        self, weights: NDArray[np.float64], groups: NDArray[np.int64], thresholds: int
    ) -> None:
        self._weights, self._groups = weights, groups
        self.counts = np.zeros(thresholds + 1, np.int64)
        self.sums = np.zeros((thresholds + 1, len(weights)))

    def add(self, tile: Tile, thresholds: NDArray[np.float64]) -> None:
        finite = thresholds[np.isfinite(thresholds)]
        lowest = finite[0] if finite.size else math.inf
        ours, mine = np.unique(self._groups[tile.rows], return_inverse=True)
        theirs, other = np.unique(self._groups[tile.columns], return_inverse=True)
        shape = len(thresholds) + 1, len(ours), len(theirs)
        rows, columns = tile.places(tile.scores >= lowest)
        scores = tile.scores[rows, columns].astype(np.float64)
        between = np.searchsorted(thresholds, scores, side="right")
        cells = (between * shape[1] + mine[rows]) * shape[2] + other[columns]
        tables = np.bincount(cells, minlength=math.prod(shape)).reshape(shape)
        # Those below are not looked at one by one.
        place = int(np.searchsorted(thresholds, -math.inf, side="right"))
        tables[place] += _pairs(tile, mine, other, shape[1:]) - tables.sum(axis=0)
        within = np.nonzero(ours[:, None] == theirs[None, :])
        found = tables.sum(axis=(1, 2))
        self.counts += found
        left, right = self._weights[:, ours], self._weights[:, theirs]
        for n in np.flatnonzero(found).tolist():
            table = tables[n].astype(np.float64)
            same = table[within]
            table[within] = 0.0
            self.sums[n] += left[:, within[0]] @ same
            if table.any():
                self.sums[n] += ((left @ table) * right).sum(axis=1)


def _pairs(
    tile: Tile, mine: NDArray[np.int64], other: NDArray[np.int64], shape: Sequence[int]
) -> NDArray[np.int64]:
    """Return how many comparisons of a tile there are between each two groups."""
    rows, columns = np.bincount(mine, minlength=shape[0]), np.bincount(other, minlength=shape[1])
    if tile.valid is None:
        return np.multiply.outer(rows, columns)
    # Images of a group are neighbours.
    by_row = np.add.reduceat(tile.valid, np.cumsum(rows) - rows, axis=0, dtype=np.int64)
    return np.add.reduceat(by_row, np.cumsum(columns) - columns, axis=1)


def _rates(sums: NDArray[np.float64], trials: NDArray[np.float64]) -> NDArray[np.float64]:
    found = np.full(sums.shape, np.nan)
    np.divide(sums, trials, out=found, where=trials > 0)
    return found


def _between(
    lower: NDArray[np.float32], higher: NDArray[np.float32], share: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what is at a share of the way, rounded as `numpy.quantile` rounds it."""
    low, high = lower.astype(np.float64), higher.astype(np.float64)
    way = high - low
    return np.where(share >= 0.5, high - way * (1 - share), low + way * share)
