"""One colour and one kind of line for each model, the same everywhere on the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from verifykit.evaluation.report.formats import plain_text
from verifykit.evaluation.results import ModelResult

GREY = "#5f6670"
# After Okabe and Ito (2008), distinct with any colour vision; all have 3:1 on white (WCAG 1.4.11).
_COLOURS = ("#0072b2", "#d55e00", "#008060", "#b0468c", "#1d2128", "#8a6d00")
# Lengths of dashes and gaps in line widths; distinct without any colour.
_DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (5, 1.6),
    (1.2, 1.3),
    (6, 1.5, 1.2, 1.5),
    (9, 2),
    (3, 1.2, 1.2, 1.2, 1.2, 1.2),
    (2.6, 2.6),
)
# Marks of single points as Matplotlib calls them, and as outlines around (0, 0) for the legend.
_MARKS = {
    "o": "M-4.4 0a4.4 4.4 0 1 0 8.8 0a4.4 4.4 0 1 0-8.8 0z",
    "s": "M-4-4h8v8h-8z",
    "D": "M0-5.4L5.4 0L0 5.4L-5.4 0z",
    "^": "M0-5L5 4h-10z",
    "v": "M0 5L5-4h-10z",
    "P": "M-1.8-5h3.6v3.2h3.2v3.6h-3.2v3.2h-3.6v-3.2h-3.2v-3.6h3.2z",
}


@dataclass(frozen=True)
class Line:
    """How a curve is drawn.

    Attributes:
        colour: ``#rrggbb``.
        dashes: Lengths of dashes and gaps in line widths; none for a solid line.
        marker: Of a single point, as Matplotlib calls it.
    """

    colour: str
    dashes: tuple[float, ...] = ()
    marker: str = "o"

    @property
    def style(self) -> tuple[float, tuple[float, ...] | None]:
        """Return what Matplotlib takes for ``linestyle``."""
        return (0, self.dashes or None)

    @property
    def svg_dashes(self) -> str:
        """Return the ``stroke-dasharray`` for a line that is 3 wide."""
        return " ".join(f"{3 * part:g}" for part in self.dashes)

    @property
    def outline(self) -> str:
        """Return the mark as the data of an SVG path around (0, 0)."""
        return _MARKS[self.marker]


@dataclass(frozen=True)
class Series:
    """A model with its place on the page.

    Attributes:
        key: Unique on the page; part of the identifiers of its charts.
        label: Its name, with more where two models have the same name.
        line: How its curves are drawn.
        result: What was measured.
    """

    key: str
    label: str
    line: Line
    result: ModelResult


def series_of(models: Sequence[ModelResult]) -> tuple[Series, ...]:
    """Return the models with their colours and labels."""
    shared = Counter(model.name for model in models)
    labels: list[str] = []
    for number, model in enumerate(models, 1):
        label = plain_text(model.name)
        if shared[model.name] > 1:
            label += f" ({model.digest[:8]})"
        labels.append(label if label not in labels else f"{label}, no. {number}")
    return tuple(
        Series(f"m{index + 1}", labels[index], _line(index), model)
        for index, model in enumerate(models)
    )


def shades(line: Line, total: int) -> tuple[Line, ...]:
    """Return lines for several curves of one model: its colour, from darker to full, and other dashes.

    Not lighter ones, which would be too faint on white.
    """
    return tuple(
        Line(
            _darkened(line.colour, 0.5 * (total - 1 - index) / max(1, total - 1)),
            _DASHES[(total - 1 - index) % len(_DASHES)],
            line.marker,
        )
        for index in range(total)
    )


def _line(index: int) -> Line:
    return Line(
        _COLOURS[index % len(_COLOURS)],
        _DASHES[index % len(_DASHES)],  # seven, so that six colours meet others in the next round
        list(_MARKS)[index % len(_MARKS)],
    )


def _darkened(colour: str, part: float) -> str:
    values = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(value * (1 - part)):02x}" for value in values)
