"""Rates of several networks on the same pairs, and their differences in the same draws of people.

Two intervals that overlap say little about two networks: both rates move together with the people who are
drawn. The difference of two networks in one draw does not, so its interval is far narrower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.distillation.data import HeldOut
from verifykit.evaluation.one_to_one import supported
from verifykit.metrics import SubjectBootstrap, equal_error_rate, fnmr_at_fmr
from verifykit.metrics.draws import eer_draws

Rows: TypeAlias = Mapping[Path, NDArray[np.float32]]

FMR = 1e-3

_RESAMPLES = 1000
_GROUPS = 200  # of people, where there are more: a table of all would take minutes
_THRESHOLDS = 150


@dataclass(frozen=True, eq=False)
class Figure:
    """A rate of one network, and what it is in draws of people.

    Attributes:
        value: Of all pairs.
        draws: (B,) of each draw; NaN where it holds too little.
    """

    value: float
    draws: NDArray[np.float64]

    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval."""
        low, high = np.nanquantile(self.draws, (0.025, 0.975))
        return float(low), float(high)

    def less(self, other: Figure) -> Figure:
        """Return the difference to another network's rate, in each draw."""
        return Figure(self.value - other.value, self.draws - other.draws)


def measure(
    found: NDArray[np.float64], pairs: HeldOut, used: NDArray[np.bool_]
) -> tuple[Figure, Figure | None]:
    """Return EER, and FNMR at FMR 1e-3 if the pairs support it; the draws are equal for equal pairs.

    In a draw the threshold is that of the draw: the highest of 150 around the EER and the FMR whose FMR is
    not above 1e-3.
    """
    mated, non_mated = found[used & pairs.mated], found[used & ~pairs.mated]
    eer = equal_error_rate(mated, non_mated).eer
    thresholds = _thresholds(mated, non_mated, eer)
    names, places = np.unique(pairs.subjects, return_inverse=True)
    places = places.reshape(pairs.subjects.shape)
    draws = []
    for kind, happened in ((False, np.greater_equal), (True, np.less)):
        chosen = used & (pairs.mated == kind)
        bootstrap = SubjectBootstrap(
            places[0][chosen],
            places[1][chosen],
            subjects=len(names),
            resamples=_RESAMPLES,
            groups=_GROUPS,
        )
        draws.append(np.stack([bootstrap.rates(happened(found[chosen], t)) for t in thresholds]))
    fmr, fnmr = draws
    figure = Figure(eer, eer_draws(fmr, fnmr))
    if not supported(FMR, non_mated.size):
        return figure, None
    # FMR falls along the thresholds: the first that is low enough. Above all scores it is 0.
    first = np.argmax(fmr <= FMR, axis=0)
    at = np.where(np.isnan(fmr[0]), np.nan, fnmr[first, np.arange(fmr.shape[1])])
    return figure, Figure(fnmr_at_fmr(mated, non_mated, FMR)[0], at)


def _thresholds(
    mated: NDArray[np.float64], non_mated: NDArray[np.float64], eer: float
) -> NDArray[np.float64]:
    around = np.geomspace(max(eer / 8, 1e-9), min(1.0, max(eer * 8, 1e-2)), _THRESHOLDS // 3)
    low = np.geomspace(FMR / 8, FMR * 8, _THRESHOLDS // 3)
    scores = [np.quantile(non_mated, 1 - around), np.quantile(mated, around)]
    scores.append(np.quantile(non_mated, 1 - low))
    return np.concatenate([[-np.inf], np.unique(np.concatenate(scores)), [np.inf]])


def scores(rows: Rows, pairs: HeldOut) -> NDArray[np.float64]:
    """Return the cosine of each pair; NaN where an image gave no crop."""
    return np.array(
        [
            float(rows[a] @ rows[b]) if a in rows and b in rows else np.nan
            for a, b in zip(pairs.first, pairs.second, strict=True)
        ]
    )


def tables(
    embedded: Mapping[str, Rows],
    held_out: Sequence[HeldOut],
    differences: Sequence[tuple[str, str]],
) -> list[Table]:
    """Return a table of rates for each set, of the pairs that all could embed, with differences below."""
    found = []
    for pairs in held_out:
        of_network = {name: scores(rows, pairs) for name, rows in embedded.items()}
        used = np.asarray(np.isfinite(np.stack(list(of_network.values()))).all(axis=0))
        people = len(np.unique(pairs.subjects[:, used]))
        table = Table(
            title=f"{pairs.name}: {used.sum():,} of {used.size:,} pairs, "
            f"{(used & pairs.mated).sum():,} mated, {people} people; 95 % intervals over people"
        )
        for column in ("network", "EER", f"FNMR at FMR {FMR:g}"):
            table.add_column(column)
        figures = {name: measure(values, pairs, used) for name, values in of_network.items()}
        for name, of_name in figures.items():
            table.add_row(name, *map(_cell, of_name))
        table.add_section()
        for one, other in differences:
            less = [
                a.less(b) if a is not None and b is not None else None
                for a, b in zip(figures[one], figures[other], strict=True)
            ]
            table.add_row(f"{one} less {other}", *(_cell(each, signed=True) for each in less))
        found.append(table)
    return found


def _cell(figure: Figure | None, *, signed: bool = False) -> str:
    if figure is None:
        return "too few pairs"
    sign = "+" if signed else ""
    low, high = figure.interval()
    return f"{figure.value:{sign}.2%} ({low:{sign}.2%} to {high:{sign}.2%})"
