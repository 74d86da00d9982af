"""Charts of error rates: DET curves, scores, and searches in a gallery."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from verifykit.evaluation.report.formats import number, percent, share
from verifykit.evaluation.report.palette import GREY, Line, Series
from verifykit.evaluation.report.svg import draw
from verifykit.evaluation.results import AttackResult, OpenSetResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_MOST_LABELS = 7
_NAN = math.nan
_LEAST = 1e-7


def det_chart(key: str, measured: Sequence[tuple[Series, AttackResult]]) -> str:
    """Draw DET curves of all models with their intervals, both axes logarithmic."""
    floor = _decade_below(
        value
        for _, attack in measured
        for value in (*attack.det.fnmr, 1 / max(1, attack.mated_count))
    )
    left = _decade_below(value for _, attack in measured for value in attack.det.fmr)

    def paint(axes: Axes) -> None:
        # Equal rates first, so that the curves are drawn over the line.
        axes.plot((_LEAST, 1), (_LEAST, 1), color=GREY, linewidth=1, dashes=(1, 2), zorder=1)
        start = max(floor, left)
        axes.annotate(
            "FNMR = FMR",
            (start, start),
            (18, 3),
            textcoords="offset points",
            color=GREY,
            fontsize=9,
        )
        for series, attack in measured:
            _det_curve(axes, series.line, attack, floor)
        log_percent(axes.xaxis, left, 1)
        log_percent(axes.yaxis, floor, 1)
        axes.set(xlabel="FMR: different people who match", ylabel="FNMR: right people refused")

    label = f"DET curves, FNMR over FMR. {_spoken(measured)}"
    return draw(key, label, 4.0, paint)


def score_chart(key: str, series: Series, attack: AttackResult) -> str:
    """Draw the histogram of mated and non-mated scores, with the thresholds of the table."""
    scores = attack.histogram
    marks = [(row.threshold, share(row.asked_fmr)) for row in attack.rates]

    def paint(axes: Axes) -> None:
        # A grey area and a coloured outline differ without colour, too.
        non_mated, mated = (
            [100 * value / max(1, sum(counts)) for value in counts]
            for counts in (scores.non_mated, scores.mated)
        )
        axes.stairs(non_mated, scores.edges, fill=True, color="#c3c7cc")
        axes.stairs(mated, scores.edges, fill=True, color=series.line.colour, alpha=0.12)
        axes.stairs(mated, scores.edges, color=series.line.colour, linewidth=1.8)
        axes.set_xlim(scores.edges[0], scores.edges[-1])
        axes.set_ylim(bottom=0)
        axes.grid(visible=False, axis="x")
        axes.yaxis.set_major_formatter(lambda value, _: share(value / 100))
        axes.set(xlabel="score", ylabel="share of comparisons in a bin")
        _mark_thresholds(axes, [mark for mark in marks if math.isfinite(mark[0])])

    thresholds = "; ".join(
        f"{number(threshold)} for FMR {requested}" for threshold, requested in marks
    )
    label = (
        f"Scores of {series.label}: {attack.mated_count:,} mated and {attack.non_mated_count:,} "
        f"non-mated comparisons. Thresholds: {thresholds or 'none'}."
    )
    return draw(key, label, 4.0, paint)


def open_set_chart(
    key: str,
    series: Series,
    results: Sequence[tuple[Line, OpenSetResult]],
    everything: Sequence[OpenSetResult],
) -> str:
    """Draw FNIR over FPIR, a curve for each size of the gallery."""
    seen = [point for result in everything for point in _searches(result)]
    left = _decade_below(x for x, _ in seen)
    highest = max((y for _, y in seen), default=1.0)

    def paint(axes: Axes) -> None:
        for line, result in results:
            points = _searches(result)
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                color=line.colour,
                linestyle=line.style,
            )
        log_percent(axes.xaxis, left, 1)
        axes.set_ylim(0, min(1.0, max(0.01, 1.08 * highest)))
        axes.yaxis.set_major_formatter(lambda value, _: share(value))
        axes.set(xlabel="FPIR: unknown people who are named", ylabel="FNIR: enrolled people missed")

    sizes = ", ".join(f"{result.gallery_size:,}" for _, result in results)
    label = f"FNIR over FPIR of {series.label} with galleries of {sizes} subjects"
    return draw(key, label, 3.7, paint)


def _searches(result: OpenSetResult) -> list[tuple[float, float]]:
    """Return the points of the curve that a logarithmic axis of FPIR can show."""
    return [(x, y) for x, y in zip(result.fpir, result.fnir, strict=True) if x > 0]


def log_percent(axis: Axis, low: float, high: float) -> None:
    """Make an axis logarithmic, from `low` (a power of ten) to `high`, its decades labelled in percent."""
    axes = axis.axes
    decades = [10.0**power for power in range(round(math.log10(low)), 1)]
    minor = [digit * decade for decade in decades for digit in range(2, 10)]
    if axis is axes.xaxis:
        axes.set_xscale("log")
        axes.set_xlim(low, high)
    else:
        axes.set_yscale("log")
        axes.set_ylim(low, high)
    # A tick beyond the end would move the end.
    shown = [decade for decade in decades if decade <= high]
    # Labels of small rates are long: with many decades side by side, every second has one.
    step = 2 if axis is axes.xaxis and len(shown) > _MOST_LABELS else 1
    labels = [share(decade) if n % step == 0 else "" for n, decade in enumerate(shown[::-1])]
    axis.set_ticks(shown, labels[::-1])
    axis.set_ticks([place for place in minor if place <= high], minor=True)
    axis.set_minor_formatter(lambda _value, _place: "")


def _det_curve(axes: Axes, line: Line, attack: AttackResult, floor: float) -> None:
    det = attack.det
    fmr = [value if value > 0 else _NAN for value in det.fmr]
    # A rate of 0 has no place on a logarithmic axis: the curve ends, the band goes on.
    fnmr = [value if value > 0 else _NAN for value in det.fnmr]
    low = [max(value, floor / 10) for value in det.fnmr_low]
    high = [max(value, floor / 10) for value in det.fnmr_high]
    axes.fill_between(fmr, low, high, color=line.colour, alpha=0.14, linewidth=0)
    axes.plot(fmr, fnmr, color=line.colour, linestyle=line.style)
    rows = [row for row in attack.rates if row.fmr.value > 0 and row.fnmr.value > 0]
    axes.plot(
        [row.fmr.value for row in rows],
        [row.fnmr.value for row in rows],
        color=line.colour,
        linestyle="none",
        marker=line.marker,
        markersize=6,
        markeredgecolor="white",
        zorder=3,
    )


def _mark_thresholds(axes: Axes, marks: Sequence[tuple[float, str]]) -> None:
    """Draw vertical lines with their rates above the axes, pushed apart where they are close."""
    left, right = axes.get_xlim()
    marks = sorted(mark for mark in marks if left <= mark[0] <= right)
    places = _spread([(mark[0] - left) / (right - left) for mark in marks], 0.05)
    for (threshold, text), place in zip(marks, places, strict=True):
        axes.axvline(threshold, color="#1d2128", linewidth=0.9, dashes=(3, 2))
        axes.annotate(
            text,
            (threshold, 1),
            (place, 1.07),
            xycoords=("data", "axes fraction"),
            textcoords="axes fraction",
            rotation=90,
            horizontalalignment="center",
            verticalalignment="bottom",
            fontsize=9,
            color="#30353c",
            arrowprops={"arrowstyle": "-", "color": "#8b929b", "linewidth": 0.8, "shrinkB": 0},
        )


def _spread(places: Sequence[float], gap: float) -> list[float]:
    """Return the places, ascending, moved no more than needed to be ``gap`` apart and below 1."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap) if moved else place)
    ceiling = 1.0
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - gap
    return moved


def _decade_below(values: Iterable[float]) -> float:
    """Return the power of ten at or below the least value above 0, at most 0.1."""
    least = min((value for value in values if value > 0), default=0.1)
    return float(10.0 ** math.floor(math.log10(min(0.1, max(_LEAST, least))) + 1e-9))


def _spoken(measured: Sequence[tuple[Series, AttackResult]]) -> str:
    texts = []
    for series, attack in measured:
        rates = [
            f"FNMR {percent(row.fnmr.value)} at FMR {share(row.asked_fmr)}" for row in attack.rates
        ]
        texts.append(f"{series.label}: EER {percent(attack.eer.value)}, {', '.join(rates)}.")
    return " ".join(texts)
