"""Error rates of parts of the data, at one threshold for all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from verifykit.datasets import Dataset
from verifykit.errors import shown
from verifykit.evaluation.one_to_one import rate_of
from verifykit.evaluation.pairs import Comparisons, ScoredComparisons
from verifykit.evaluation.results import Rate, RateAtFmr, Subgroup
from verifykit.evaluation.tiled_scores import TiledComparisons
from verifykit.metrics import SubjectBootstrap

_MOST_VALUES = 20  # a column with more is a date or a number, not a group


def measure_subgroups(
    data: Dataset,
    scored: ScoredComparisons | TiledComparisons,
    labels: NDArray[np.int64],
    at: RateAtFmr,
) -> tuple[tuple[Subgroup, ...], tuple[str, ...]]:
    """Measure rates by the values of the data's further columns, against random forgeries.

    A column of an images CSV groups the comparisons in which both images have the value; one of a pairs
    CSV groups the pairs that have it.
    """
    groups, notes = [], []
    for column, values in _columns(data).items():
        known = sorted(set(values) - {""})
        if len(known) > _MOST_VALUES:
            notes.append(
                f"Column {shown(column)} has {len(known)} values and makes no groups; at most "
                f"{_MOST_VALUES} do."
            )
            continue
        codes = np.array([known.index(value) if value else -1 for value in values])
        for value, fnmr, fmr in zip(
            known, *_rates(data, scored, labels, codes, at.threshold), strict=True
        ):
            groups.append(
                Subgroup(
                    column=column,
                    value=value,
                    mated_count=fnmr.trials if fnmr else 0,
                    non_mated_count=fmr.trials if fmr else 0,
                    asked_fmr=at.asked_fmr,
                    threshold=at.threshold,
                    fmr=fmr,
                    fnmr=fnmr,
                )
            )
    return tuple(groups), tuple(notes)


def _rates(
    data: Dataset,
    scored: ScoredComparisons | TiledComparisons,
    labels: NDArray[np.int64],
    codes: NDArray[np.int64],
    threshold: float,
) -> tuple[list[Rate | None], list[Rate | None]]:
    """Return FNMR and FMR of each value of a column."""
    values = range(int(codes.max(initial=-1)) + 1)
    if isinstance(scored, TiledComparisons):
        found = [scored.rates_within(codes == number, [threshold])[0] for number in values]
        return [fnmr for fnmr, _ in found], [fmr for _, fmr in found]
    mated, random = (_coded(data, codes, kind) for kind in (scored.mated, scored.random))
    return (
        [_rate(scored.mated, mated == n, labels, threshold, is_mated=True) for n in values],
        [_rate(scored.random, random == n, labels, threshold, is_mated=False) for n in values],
    )


def _columns(data: Dataset) -> dict[str, list[str]]:
    """Return each column with the value of each image, or of each listed pair."""
    rows: Iterable[dict[str, str]]
    rows = [dict(each.groups) for each in (data.images if data.pairs is None else data.pairs)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [row.get(name, "") for row in rows] for name in names}


def _coded(data: Dataset, codes: NDArray[np.int64], kind: Comparisons) -> NDArray[np.int64]:
    """Return (P,) the value of each comparison, -1 for none."""
    if data.pairs is None:
        left, right = codes[kind.probe], codes[kind.reference]
        return np.where(left == right, left, -1)
    # The same two images may be listed twice; the first row's groups count then.
    listed: dict[tuple[int, int], int] = {}
    for pair, code in zip(data.pairs, codes.tolist(), strict=True):
        listed.setdefault((pair.probe, pair.reference), code)
    ends: Sequence[tuple[int, int]] = list(
        zip(kind.probe.tolist(), kind.reference.tolist(), strict=True)
    )
    return np.array([listed[end] for end in ends], np.int64)


def _rate(
    kind: Comparisons,
    here: NDArray[np.bool_],
    labels: NDArray[np.int64],
    threshold: float,
    *,
    is_mated: bool,
) -> Rate | None:
    if not here.any():
        return None
    scores = kind.scores[here].astype(np.float64)
    bootstrap = SubjectBootstrap(
        labels[kind.probe[here]], labels[kind.reference[here]], subjects=int(labels.max()) + 1
    )
    return rate_of(scores < threshold if is_mated else scores >= threshold, bootstrap)
