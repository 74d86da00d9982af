"""Bands: parts of the data by the values of a column, such as age cut at 7, 13 and 18 years.

A comparison is of a band if both of its images are. One between two bands of a column is of neither: it
counts among all comparisons, and is reported as ``"across bands"``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from verifykit.datasets import Dataset
from verifykit.errors import InputError, shown
from verifykit.evaluation.one_to_one import rate_of, supported
from verifykit.evaluation.pairs import Comparisons, ScoredComparisons
from verifykit.evaluation.results import Band, BandAtFmr, Interval, Rate, RateAtFmr
from verifykit.evaluation.tiled_scores import TiledComparisons
from verifykit.metrics import SubjectBootstrap

_MOST_BANDS = 50
ACROSS = "across bands"


@dataclass(frozen=True)
class BandColumn:
    """What to cut the data by: ``"sex"``, ``"age=0,7,13,18"``, or a combination, ``"sex+age=0,7,13,18"``.

    Attributes:
        columns: Names of columns; every combination of their values is a band.
        edges: The last column is a number that is cut here, each edge the first value of a band; empty for
            a column whose values are taken as they are.
    """

    columns: tuple[str, ...]
    edges: tuple[float, ...] = ()

    @classmethod
    def parse(cls, text: str) -> BandColumn:
        """Return the column and the edges that a text names.

        Raises:
            InputError: No column, or the edges are not ascending numbers.
        """
        names, has_edges, numbers = text.partition("=")
        columns = tuple(name.strip() for name in names.split("+"))
        try:
            edges = tuple(float(number) for number in numbers.split(",")) if has_edges else ()
        except ValueError:
            edges = (math.nan,)
        ascending = all(low < high for low, high in pairwise(edges))
        if not all(columns) or not ascending or not all(map(math.isfinite, edges)):
            raise InputError(
                f"a band is a column, such as sex, or a column of numbers with ascending edges, such as "
                f"age=0,7,13,18, got {shown(text)}"
            )
        return cls(columns, edges)

    @property
    def name(self) -> str:
        """Return the columns' names joined by ``+``."""
        return "+".join(self.columns)

    def __str__(self) -> str:
        edges = ", ".join(f"{edge:g}" for edge in self.edges)
        return f"{self.name} (cut at {edges})" if edges else self.name


@dataclass(frozen=True)
class _Part:
    """One band: the values before the last column's, and the interval of that; None without edges."""

    prefix: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, eq=False)
class Bands:
    """The bands of one column, and the band of each image, or of each listed pair.

    Attributes:
        column: The column.
        codes: (N,) int16 numbers of bands, -1 without a value.
    """

    column: BandColumn
    parts: tuple[_Part, ...]
    codes: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.parts)

    def label(self, first: int, last: int | None = None) -> str:
        """Return the name of a band, or of neighbours that are joined."""
        one, two = self.parts[first], self.parts[first if last is None else last]
        if not self.column.edges:
            return one.prefix
        name = self.column.columns[-1]
        cut = f"{name} {_interval(one.low, two.high)}"
        return f"{one.prefix}, {cut}" if one.prefix else cut

    def may_join(self, first: int, second: int) -> bool:
        """Return whether two neighbours are parts of one range of numbers."""
        return bool(self.column.edges) and self.parts[first].prefix == self.parts[second].prefix

    def ranges(self) -> list[tuple[int, ...]]:
        """Return the bands that may be joined with one another, neighbours next to each other."""
        found: list[tuple[int, ...]] = []
        for code in range(len(self)):
            if found and self.may_join(found[-1][-1], code):
                found[-1] += (code,)
            else:
                found.append((code,))
        return found

    def only(self, chosen: Sequence[int]) -> Bands:
        """Return the same bands of some of the images."""
        return Bands(self.column, self.parts, self.codes[list(chosen)])


def _interval(low: float | None, high: float | None) -> str:
    if low is None:
        return "any" if high is None else f"<{high:g}"
    return f">={low:g}" if high is None else f"{low:g} to <{high:g}"


def read_bands(data: Dataset, texts: Sequence[str]) -> tuple[Bands, ...]:
    """Return the bands of each image of the data, or of each listed pair.

    Raises:
        InputError: A text names no column of the data, a value is not a number, or there are too many bands.
    """
    rows = [each.groups for each in (data.images if data.pairs is None else data.pairs)]
    known = list(dict.fromkeys(name for row in rows for name in row))
    return tuple(_bands(BandColumn.parse(text), rows, known) for text in texts)


def _bands(column: BandColumn, rows: Sequence[Mapping[str, str]], known: Sequence[str]) -> Bands:
    for name in column.columns:
        if name not in known:
            raise InputError(
                f"the data have no column {shown(name)} to make bands of; they have: "
                f"{', '.join(map(shown, known)) or 'none; give a CSV with one'}"
            )
    keys = [_key(column, row) for row in rows]
    parts = sorted(
        {key for key in keys if key is not None},
        key=lambda part: (part.prefix, -math.inf if part.low is None else part.low),
    )
    if len(parts) > _MOST_BANDS:
        raise InputError(
            f"column {shown(column.name)} makes {len(parts)} bands, at most {_MOST_BANDS} can be measured: "
            "cut a column of numbers at edges, such as age=0,7,13,18"
        )
    number = {part: n for n, part in enumerate(parts)}
    codes = np.array([-1 if key is None else number[key] for key in keys], np.int16)
    return Bands(column, tuple(parts), codes)


def _key(column: BandColumn, row: Mapping[str, str]) -> _Part | None:
    values = [row.get(name, "").strip() for name in column.columns]
    if not all(values):
        return None
    labels = [f"{name} {value}" for name, value in zip(column.columns, values, strict=True)]
    if not column.edges:
        return _Part(", ".join(labels))
    try:
        value = float(values[-1])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(
            f"column {shown(column.columns[-1])} is cut at numbers, and {shown(values[-1])} is not one: "
            "leave the cell empty where the value is not known"
        )
    place = int(np.searchsorted(column.edges, value, side="right"))
    low = column.edges[place - 1] if place else None
    high = column.edges[place] if place < len(column.edges) else None
    return _Part(", ".join(labels[:-1]), low, high)


def ends_of(
    data: Dataset, bands: Sequence[Bands], kind: Comparisons
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Return (C, P) and (C, P), for each column the bands of both ends of each comparison.

    A listed pair has one value for both. Two rows for the same pair: the first counts.
    """
    empty = np.empty((0, len(kind.scores)), np.int16)
    if not bands:
        return empty, empty
    if data.pairs is None:
        left, right = (
            np.stack([each.codes[ends] for each in bands]) for ends in (kind.probe, kind.reference)
        )
        return left, right
    listed: dict[tuple[int, int], int] = {}
    for n, pair in enumerate(data.pairs):
        listed.setdefault((pair.probe, pair.reference), n)
    ends = zip(kind.probe.tolist(), kind.reference.tolist(), strict=True)
    rows = np.array([listed[end] for end in ends], np.int64)
    both = np.stack([each.codes[rows] for each in bands])
    return both, both


def measure_bands(
    data: Dataset,
    scored: ScoredComparisons | TiledComparisons,
    labels: NDArray[np.int64],
    rates: Sequence[RateAtFmr],
    bands: Sequence[Bands],
) -> tuple[Band, ...]:
    """Measure rates by band, against random forgeries, at given thresholds.

    Where there are too many comparisons to hold, those of two bands are not among the rows.
    """
    if isinstance(scored, TiledComparisons):
        return tuple(_tiled_bands(scored, labels, rates, bands))
    ends = [ends_of(data, bands, kind) for kind in (scored.mated, scored.random)]
    found: list[Band] = []
    for number, each in enumerate(bands):
        (ours, theirs) = [(left[number], right[number]) for left, right in ends]
        for code in (*range(len(each)), None):
            mated, random = _within(ours, code), _within(theirs, code)
            if code is None and not (mated.any() or random.any()):
                continue
            people = _people(scored.mated, mated, labels) | _people(scored.random, random, labels)
            found.append(
                Band(
                    column=each.column.name,
                    band=ACROSS if code is None else each.label(code),
                    subject_count=len(people),
                    mated_count=int(mated.sum()),
                    non_mated_count=int(random.sum()),
                    rates=tuple(_band_rates(scored, (mated, random), labels, rates)),
                )
            )
    return tuple(found)


def _tiled_bands(
    scored: TiledComparisons,
    labels: NDArray[np.int64],
    rates: Sequence[RateAtFmr],
    bands: Sequence[Bands],
) -> Iterator[Band]:
    """Yield the bands of images whose comparisons are too many to hold."""
    for each in bands:
        for code in range(len(each)):
            here = each.codes == code
            found = scored.rates_within(here, [at.threshold for at in rates])
            mated, non_mated = (
                next((rate.trials for rate in kind if rate is not None), 0)
                for kind in zip(*found, strict=True)
            )
            yield Band(
                column=each.column.name,
                band=each.label(code),
                subject_count=len(np.unique(labels[here & scored.seen])),
                mated_count=mated,
                non_mated_count=non_mated,
                rates=tuple(
                    _at(row, fmr=fmr, fnmr=fnmr, count=non_mated)
                    for row, (fnmr, fmr) in zip(rates, found, strict=True)
                ),
            )


def _at(row: RateAtFmr, *, fmr: Rate | None, fnmr: Rate | None, count: int) -> BandAtFmr:
    return BandAtFmr(
        requested_fmr=row.requested,
        threshold=row.threshold,
        fmr=fmr,
        fnmr=fnmr,
        got_over_requested=None if fmr is None else _over(fmr, row.requested),
        is_supported=supported(row.requested, count),
    )


def _within(
    ends: tuple[NDArray[np.int16], NDArray[np.int16]], code: int | None
) -> NDArray[np.bool_]:
    """Return which comparisons are of one band, or, for None, of two."""
    left, right = ends
    if code is None:
        return np.asarray((left >= 0) & (right >= 0) & (left != right))
    return np.asarray((left == code) & (right == code))


def _people(kind: Comparisons, here: NDArray[np.bool_], labels: NDArray[np.int64]) -> set[int]:
    return set(labels[kind.probe[here]].tolist()) | set(labels[kind.reference[here]].tolist())


def _band_rates(
    scored: ScoredComparisons,
    here: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    labels: NDArray[np.int64],
    rates: Sequence[RateAtFmr],
) -> Iterator[BandAtFmr]:
    kinds = []
    for kind, chosen in zip((scored.mated, scored.random), here, strict=True):
        scores = kind.scores[chosen].astype(np.float64)
        sides = (labels[kind.probe[chosen]], labels[kind.reference[chosen]])
        kinds.append((scores, SubjectBootstrap(*sides) if scores.size else None))
    (mates, ours), (others, theirs) = kinds
    for at in rates:
        fmr = rate_of(others >= at.threshold, theirs) if others.size else None
        fnmr = rate_of(mates < at.threshold, ours) if mates.size else None
        yield _at(at, fmr=fmr, fnmr=fnmr, count=others.size)


def _over(rate: Rate, requested: float) -> Interval:
    return Interval(rate.value / requested, rate.low / requested, rate.high / requested)
