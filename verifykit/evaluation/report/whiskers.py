"""Charts of one error rate in each group of subjects, with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verifykit.evaluation.report.charts import log_percent
from verifykit.evaluation.report.formats import bounds, percent, plain_text, share
from verifykit.evaluation.report.palette import GREY, Line
from verifykit.evaluation.report.svg import draw
from verifykit.evaluation.results import Rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LONGEST = 20


@dataclass(frozen=True)
class Whisker:
    """One model's rate in one group.

    Attributes:
        group: The value of the column.
        label: The model.
        line: How the model is drawn.
        rate: The rate; None where the group has no such comparisons.
    """

    group: str
    label: str
    line: Line
    rate: Rate | None


def whisker_chart(
    key: str, rate_name: str, whiskers: Sequence[Whisker], requested: float | None = None
) -> str:
    """Draw a row for each group, in it a point with its interval for each model."""
    groups = list(dict.fromkeys(whisker.group for whisker in whiskers))
    labels = list(dict.fromkeys(whisker.label for whisker in whiskers))
    rates = [whisker.rate for whisker in whiskers if whisker.rate is not None]
    floor = _floor(rates, requested)

    def paint(axes: Axes) -> None:
        for row in range(1, len(groups)):
            axes.axhline(row - 0.5, color="#e3e6ea", linewidth=0.8)
        for whisker in whiskers:
            place = (labels.index(whisker.label) + 0.5) / len(labels) - 0.5
            height = groups.index(whisker.group) + 0.76 * place
            if whisker.rate is not None:
                _point(axes, height, whisker.line, whisker.rate, floor if requested else None)
        for row, group in enumerate(groups):
            if all(whisker.rate is None for whisker in whiskers if whisker.group == group):
                axes.annotate(
                    "no comparisons", (0.03, row), xycoords=axes.get_yaxis_transform(),
                    verticalalignment="center", color=GREY, fontsize=9.5,
                )  # fmt: skip
        axes.set_yticks(range(len(groups)), [_short(group) for group in groups])
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        if requested is None:
            axes.set_xlim(0, min(1.0, 1.05 * max((rate.high for rate in rates), default=1.0)))
            axes.xaxis.set_major_formatter(lambda value, _: share(value))
        else:
            axes.axvline(requested, color="#1d2128", linewidth=0.9, dashes=(3, 2), zorder=1)
            highest = max((rate.high for rate in rates), default=1.0)
            log_percent(axes.xaxis, floor, min(1.0, max(3 * requested, 1.3 * highest)))
        axes.set_xlabel(rate_name)

    spoken = "; ".join(
        f"{whisker.group}, {whisker.label}: {percent(whisker.rate.value)} {bounds(whisker.rate)}"
        for whisker in whiskers
        if whisker.rate is not None
    )
    height = 0.75 + len(groups) * max(0.32, 0.2 * len(labels) + 0.08)
    aim = f", requested: {share(requested)}" if requested else ""
    return draw(key, plain_text(f"{rate_name}{aim}. {spoken}"), height, paint)


def _point(axes: Axes, row: float, line: Line, rate: Rate, floor: float | None) -> None:
    """Draw a filled mark with its interval; an open one at the upper bound where no error was seen."""
    low = rate.low if floor is None else max(rate.low, floor / 10)
    axes.plot((low, rate.high), (row, row), color=line.colour, linewidth=1.8)
    is_bound = floor is not None and rate.value <= 0
    axes.plot(
        [rate.high if is_bound else rate.value],
        [row],
        color=line.colour,
        linestyle="none",
        marker="<" if is_bound else line.marker,
        markersize=6,
        markerfacecolor="white" if is_bound else line.colour,
        markeredgecolor=line.colour if is_bound else "white",
        zorder=3,
        clip_on=False,  # a mark at 0 is half outside
    )


def _floor(rates: Sequence[Rate], requested: float | None) -> float:
    """Return the left end of the axis, a power of ten; intervals may run out of the chart there."""
    shown = [requested or 1.0, *(rate.value or rate.high for rate in rates)]
    least = min((value for value in shown if value > 0), default=0.1)
    return float(10.0 ** math.floor(math.log10(min(0.1, max(1e-7, 0.6 * least)))))


def _short(group: str) -> str:
    text = plain_text(group) or "(empty)"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
