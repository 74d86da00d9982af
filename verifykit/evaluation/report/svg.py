"""Draw a Matplotlib chart as an SVG element for a page with others."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_IN = 5.2

_STYLE: Any = {
    # Text stays text, in the font of the page: sharp at any size, and found by a search.
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 10.5,
    "axes.labelsize": 10.5,
    "axes.labelcolor": "#30353c",
    "axes.edgecolor": "#8b929b",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.8,
    "xtick.color": "#8b929b",
    "ytick.color": "#8b929b",
    "xtick.labelcolor": "#30353c",
    "ytick.labelcolor": "#30353c",
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "lines.linewidth": 1.8,
}
_TAG = re.compile(r"<[^>]+>")
_REFERENCE = re.compile(r"(href=\"#|url\(#)([^\")]+)")
_ID = re.compile(r" id=\"([^\"]*)\"")
_NAMESPACE = re.compile(r" xmlns(:\w+)?=\"[^\"]*\"")
_DROPPED = re.compile(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", re.DOTALL)
_VIEW_BOX = re.compile(r"viewBox=\"[^\"]*\"")


def draw(key: str, label: str, height_in: float, paint: Callable[[Axes], None]) -> str:
    """Draw one pair of axes as an ``<svg>`` element whose identifiers begin with `key`.

    Equal input gives equal text.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with _style(key):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained", facecolor="none")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot(facecolor="none")
        paint(axes)
        buffer = io.StringIO()
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=metadata)
    return _inline(buffer.getvalue(), key, label)


@contextmanager
def _style(key: str) -> Iterator[None]:
    """Set our style only, whatever the user's matplotlibrc says, and restore theirs afterwards."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update({**_STYLE, "svg.hashsalt": key})
        # A name in letters that Matplotlib's font lacks is drawn by the browser, which has them.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        warnings.filterwarnings("ignore", "Matplotlib currently does not support", UserWarning)
        yield


def _inline(document: str, key: str, label: str) -> str:
    svg = _DROPPED.sub("", document[document.index("<svg") :])
    tags = _TAG.findall(svg)
    used = {name for tag in tags for _, name in _REFERENCE.findall(tag)}

    def rename(found: re.Match[str]) -> str:
        tag = _NAMESPACE.sub("", found.group())
        tag = _REFERENCE.sub(rf"\g<1>{key}-\g<2>", tag)
        return _ID.sub(lambda m: f' id="{key}-{m.group(1)}"' if m.group(1) in used else "", tag)

    body = _TAG.sub(rename, svg)
    view_box = _VIEW_BOX.search(tags[0])
    head = f'<svg {view_box.group() if view_box else ""} role="img" aria-label="{escape(label)}">'
    # The size is that of its place in the page.
    lines = [line for line in body[body.index(">") + 1 :].splitlines() if line.strip()]
    return "\n".join([head, *lines])
