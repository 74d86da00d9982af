"""Thresholds at which the worst band of the data keeps a requested rate.

For each rate the bands of a column are taken as they are, if each has enough comparisons for it, three over
the rate. A band of numbers that has too few is joined with its neighbour for that rate; any other makes the
rate one that cannot be stated. Then the threshold is the highest that a band, or all comparisons together,
take. It is that of the measured rate, as for every operating point, not that of the upper end of its
interval; the interval is stated with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import shown
from verifykit.evaluation.bands import Bands
from verifykit.evaluation.one_to_one import supported
from verifykit.metrics import SubjectBootstrap, rate_interval, threshold_at_fmr
from verifykit.spec import Attack, BandRate, OperatingPoint

EVERYONE = "all comparisons"


@dataclass(frozen=True, eq=False)
class BandedScores:
    """Non-mated scores with their subjects, and the bands of both ends by one column.

    Attributes:
        bands: What the codes are of; None without bands, and then there are no codes.
        scores: (P,) scores.
        probe: (P,) numbers of subjects.
        reference: (P,) numbers of subjects.
        left: (P,) the band of the probe, -1 for none.
        right: (P,) the band of the reference.
        draws: How often each comparison is among them.
        title: What all of them are, for the set without bands.
    """

    bands: Bands | None
    scores: NDArray[np.float64]
    probe: NDArray[np.int64]
    reference: NDArray[np.int64]
    left: NDArray[np.int16]
    right: NDArray[np.int16]
    draws: int = 1
    title: str = EVERYONE

    def within(self, group: tuple[int, ...]) -> NDArray[np.bool_]:
        """Return which comparisons are of joined bands; all of them for no band."""
        if not group:
            return np.ones(len(self.scores), bool)
        first, last = group[0], group[-1]
        mine = (self.left >= first) & (self.left <= last)
        return np.asarray(mine & (self.right >= first) & (self.right <= last))

    def name(self, group: tuple[int, ...]) -> str:
        """Return the name of joined bands."""
        return self.title if self.bands is None else self.bands.label(group[0], group[-1])


@dataclass(frozen=True, eq=False)
class WorstBand:
    """The threshold of one rate, and the band that decided it.

    Attributes:
        threshold: At which every band keeps the rate.
        scores: The set of the band that takes the highest threshold.
        group: That band, or those that were joined to it.
        joined: Names of the bands that were joined of several.
    """

    threshold: float
    scores: BandedScores
    group: tuple[int, ...]
    joined: tuple[str, ...]

    @property
    def band(self) -> str:
        """Return the name of the band that decided."""
        return self.scores.name(self.group)

    def measured(self) -> tuple[int, int, tuple[float, float]]:
        """Return its comparisons, those that reach the threshold, and the 95 % interval of their rate."""
        return _measured(self.scores, self.group, self.threshold)

    def operating_point(
        self,
        fmr: float,
        fnmr: float | None,
        fnmr_interval: tuple[float, float] | None,
        *,
        attack: Attack = "random_forgery",
        reference_count: int = 1,
    ) -> OperatingPoint:
        """Return the point of a requested rate, with the counts of this band and a measured FNMR."""
        count, matches, interval = self.measured()
        return OperatingPoint(
            fmr=fmr,
            threshold=self.threshold,
            non_mated_count=count,
            false_match_count=matches,
            attack=attack,
            reference_count=reference_count,
            fmr_interval=interval,
            fnmr=fnmr,
            fnmr_interval=fnmr_interval,
        )


@dataclass(frozen=True)
class Unsupported:
    """Why a rate cannot be stated: a band with too few comparisons."""

    band: str
    non_mated_count: int

    def sentence(self, fmr: float) -> str:
        """Return what is missing for a rate."""
        return (
            f"FMR {fmr:g} takes {math.ceil(round(3 / fmr, 3)):,} non-mated comparisons in each band, and "
            f"{shown(self.band)} has {self.non_mated_count:,}"
        )


def joined_sentences(joined: Mapping[str, float]) -> list[str]:
    """Return a sentence for each name of joined bands and the rate from which they are one."""
    return [
        f"from FMR {fmr:g} down {name} is one band: its parts have too few comparisons"
        for name, fmr in joined.items()
    ]


def worst_band_threshold(
    sets: Sequence[BandedScores],
    fmr: float,
    excluded: Sequence[frozenset[int]] = (),
    *,
    least: float = -math.inf,
) -> WorstBand | Unsupported:
    """Return the threshold at which every band of every set keeps a rate.

    Args:
        sets: Scores, each with the bands of one column or without any.
        fmr: The rate.
        excluded: For each set the bands to leave out; empty for none.
        least: The threshold of the next higher rate, whose bands may be smaller: this one is not below it.
    """
    skipped = excluded or [frozenset[int]()] * len(sets)
    highest: tuple[float, BandedScores, tuple[int, ...]] | None = None
    joined: list[str] = []
    for scores, left_out in zip(sets, skipped, strict=True):
        groups = _groups(scores, fmr, left_out)
        if isinstance(groups, Unsupported):
            return groups
        for group in groups:
            found = threshold_at_fmr(scores.scores[scores.within(group)], fmr)
            joined += [scores.name(group)] if len(group) > 1 else []
            if highest is None or found > highest[0]:
                highest = found, scores, group
    assert highest is not None  # noqa: S101 - there is a set, and each has a group
    threshold, decisive, group = highest
    return WorstBand(max(threshold, least), decisive, group, tuple(joined))


def _groups(
    scores: BandedScores, fmr: float, left_out: frozenset[int]
) -> list[tuple[int, ...]] | Unsupported:
    """Return the bands to hold a rate in, some joined so that each has enough comparisons."""
    if scores.bands is None:
        count = len(scores.scores) // scores.draws
        return [()] if supported(fmr, count) else Unsupported(scores.title, count)
    bands = scores.bands
    groups: list[tuple[int, ...]] = [(code,) for code in range(len(bands)) if code not in left_out]
    counts = _counts(scores, len(bands))

    def pairs(group: tuple[int, ...]) -> int:
        chosen = slice(group[0], group[-1] + 1)
        return int(counts[chosen, chosen].sum()) // scores.draws

    while groups:
        smallest = min(range(len(groups)), key=lambda n: pairs(groups[n]))
        if supported(fmr, pairs(groups[smallest])):
            return groups
        neighbours = [
            n
            for n in (smallest - 1, smallest + 1)
            if 0 <= n < len(groups) and bands.may_join(groups[n][0], groups[smallest][0])
        ]
        # The two last bands are not joined: then there would be none to tell apart.
        if not neighbours or len(groups) == 2:
            return Unsupported(scores.name(groups[smallest]), pairs(groups[smallest]))
        other = min(neighbours, key=lambda n: pairs(groups[n]))
        low, high = sorted((smallest, other))
        groups[low : high + 1] = [groups[low] + groups[high]]
    return Unsupported(bands.column.name, 0)


def _counts(scores: BandedScores, size: int) -> NDArray[np.int64]:
    known = (scores.left >= 0) & (scores.right >= 0)
    cells = scores.left[known].astype(np.int64) * size + scores.right[known]
    return np.bincount(cells, minlength=size * size).reshape(size, size)


def _measured(
    scores: BandedScores, group: tuple[int, ...], threshold: float
) -> tuple[int, int, tuple[float, float]]:
    """Return comparisons, false matches and the interval of their rate."""
    here = scores.within(group)
    events = scores.scores[here] >= threshold
    trials, errors = int(here.sum()) // scores.draws, int(events.sum()) // scores.draws
    drawn = None
    if 0 < errors < trials:
        drawn = SubjectBootstrap(scores.probe[here], scores.reference[here]).rates(events)
    return trials, errors, rate_interval(errors, trials, drawn)


def band_rates(
    sets: Sequence[BandedScores], at: Sequence[tuple[float, float | None, float]]
) -> Iterator[BandRate]:
    """Yield what every band of every column got, by itself, for (rate, usual threshold, threshold)."""
    for scores in sets:
        for code in range(0 if scores.bands is None else len(scores.bands)):
            here = scores.within((code,))
            count = int(here.sum()) // scores.draws
            if not count:
                continue
            people = np.union1d(scores.probe[here], scores.reference[here]).size
            for fmr, usual, threshold in at:
                _, errors, interval = _measured(scores, (code,), threshold)
                before = None if usual is None else _measured(scores, (code,), usual)
                yield BandRate(
                    band=scores.name((code,)),
                    fmr=fmr,
                    subject_count=int(people),
                    non_mated_count=count,
                    usual=None if before is None else before[1] / count,
                    usual_interval=None if before is None else before[2],
                    found=errors / count,
                    found_interval=interval,
                )
