"""The charts, read back from their SVG."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise

import matplotlib as mpl
import pytest

from tests.unit.evaluation.report.reports import NASTY, model_result, rate
from verifykit.evaluation.report import charts
from verifykit.evaluation.report.charts import det_chart, open_set_chart, score_chart
from verifykit.evaluation.report.palette import GREY, Line, series_of, shades
from verifykit.evaluation.report.whiskers import Whisker, whisker_chart
from verifykit.evaluation.results import Det

MODELS = (model_result("one"), model_result("two", 2), model_result(NASTY, 3))
SERIES = series_of(MODELS)
XLINK = 'xmlns:xlink="http://www.w3.org/1999/xlink"'


def tree(svg: str) -> ET.Element:
    return ET.fromstring(svg.replace("<svg ", f"<svg {XLINK} ", 1))  # well formed, or it raises


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in tree(svg).iter("text")]


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(colour: str) -> float:
    return 1.05 / (luminance(colour) + 0.05)


def curves(svg: str, colour: str) -> list[list[tuple[float, float]]]:
    """The points of every unfilled path of a colour, in the order of drawing."""
    found = []
    for path in tree(svg).iter("path"):
        style = path.get("style") or ""
        if f"stroke: {colour}" in style and "fill: none" in style:
            numbers = [float(part) for part in re.findall(r"-?\d+\.?\d*", path.get("d") or "")]
            found.append(list(zip(numbers[::2], numbers[1::2], strict=True)))
    return [points for points in found if points]


def tick(svg: str, label: str) -> float:
    """Where the label of a tick of x stands."""
    element = next(e for e in tree(svg).iter("text") if e.text == f"{label}\u202f%")
    return float(element.get("x") or re.findall(r"[\d.]+", element.get("transform") or "")[0])


def test_det_axes_are_in_percent_and_points_lie_at_their_rates() -> None:
    attack = MODELS[0].attacks[0]
    points = (1e-3, 1e-2, 1e-1)
    det = Det((0.3, 0.2, 0.1), points[::-1], (0.001, 0.01, 0.1), (0.0005,) * 3, (0.2,) * 3)
    svg = det_chart("d", [(SERIES[0], replace(attack, det=det, rates=()))])
    assert {"0.1\u202f%", "1\u202f%", "10\u202f%", "100\u202f%", "FNMR = FMR"} <= set(texts(svg))
    (curve,) = curves(svg, SERIES[0].line.colour)
    found = sorted({round(x, 1) for x, _ in curve})
    assert found == pytest.approx([tick(svg, name) for name in ("0.1", "1", "10")], abs=0.2)
    heights = [y for _, y in sorted(curve)]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.2)


def test_a_curve_ends_where_no_miss_was_seen() -> None:
    attack = MODELS[0].attacks[0]
    fmr, fnmr = (1.0, 0.1, 0.01, 0.001), (0.0, 0.0, 0.02, 0.1)
    det = Det((0.0, 0.1, 0.2, 0.3), fmr, fnmr, (0.0, 0.0, 0.01, 0.05), (5e-4, 5e-4, 0.05, 0.2))
    svg = det_chart("d", [(SERIES[0], replace(attack, det=det, rates=()))])
    (curve,) = curves(svg, SERIES[0].line.colour)
    assert max(x for x, _ in curve) == pytest.approx(tick(svg, "1"), abs=0.2)
    assert not re.search(r"nan|inf", svg)


@pytest.mark.parametrize("fnmr", [(), (0.0, 0.0)])
def test_a_det_chart_without_a_curve_can_be_drawn(fnmr: tuple[float, ...]) -> None:
    attack = MODELS[0].attacks[0]
    det = Det(fnmr, tuple(0.1 for _ in fnmr), fnmr, fnmr, tuple(0.01 for _ in fnmr))
    svg = det_chart("d", [(SERIES[0], replace(attack, det=det, rates=(), mated_count=0))])
    assert curves(svg, SERIES[0].line.colour) == []


def test_thresholds_that_lie_together_have_labels_apart() -> None:
    attack = MODELS[0].attacks[0]
    rows = tuple(
        replace(row, threshold=0.4 + 0.001 * number) for number, row in enumerate(attack.rates)
    )
    svg = score_chart("s", SERIES[0], replace(attack, rates=rows))
    places = sorted(
        float(re.findall(r"translate\(([\d.]+)", element.get("transform") or "")[0])
        for element in tree(svg).iter("text")
        if "rotate(-90)" in (element.get("transform") or "") and "%" in (element.text or "")
    )
    assert len(places) == len(rows)
    assert all(after - before > 9 for before, after in pairwise(places))


def test_labels_are_moved_no_more_than_needed_and_stay_inside() -> None:
    assert charts._spread([0.1, 0.5], 0.05) == [0.1, 0.5]
    assert charts._spread([0.1, 0.1], 0.05) == pytest.approx([0.1, 0.15])
    assert charts._spread([0.99, 1.0], 0.05) == pytest.approx([0.95, 1.0])
    assert charts._spread([], 0.05) == []


def test_charts_of_several_models_of_searches_have_the_same_axes() -> None:
    everything = [result for model in MODELS for result in model.open_set]
    charted = [
        open_set_chart(
            one.key, one, [(one.line, result) for result in one.result.open_set], everything
        )
        for one in SERIES
    ]
    ticks = [[text for text in texts(svg) if "%" in text] for svg in charted]
    assert ticks[0] == ticks[1] == ticks[2]


def test_a_group_without_comparisons_says_so_and_one_without_errors_has_an_open_mark() -> None:
    line = SERIES[0].line
    whiskers = [
        Whisker("young", "one", line, rate(3, 900)),
        Whisker("old", "one", line, rate(0, 300)),
        Whisker(NASTY + " \U0001f600 \u0915\u094d\u0937", "one", line, None),
    ]
    svg = whisker_chart("w", "FMR", whiskers, 1e-3)
    assert "no comparisons" in texts(svg)
    assert "old, one: 0\u202f% [0, 1.0]" in (tree(svg).get("aria-label") or "")
    marks = [use.get("style") or "" for use in tree(svg).iter("use")]
    opened = [mark for mark in marks if f"fill: #ffffff; stroke: {line.colour}" in mark]
    assert len(opened) == 1


def test_colours_are_distinct_and_stand_out_from_white() -> None:
    lines = [one.line for one in series_of([MODELS[0]] * 8)]
    assert len({(line.colour, line.dashes) for line in lines}) == 8
    assert len({line.colour for line in lines[:6]}) == len({line.dashes for line in lines[:6]}) == 6
    assert len({line.outline for line in lines[:6]}) == 6
    for line in (*lines, *shades(lines[0], 7), *shades(lines[1], 7), Line(GREY)):
        assert contrast(line.colour) >= 3
    assert contrast(GREY) >= 4.5  # it is the colour of text, too


def test_seven_sizes_of_one_model_have_lines_of_their_own() -> None:
    assert len({line.dashes for line in shades(SERIES[1].line, 7)}) == 7
    assert shades(SERIES[1].line, 3)[-1].colour == SERIES[1].line.colour
    assert shades(SERIES[1].line, 1)[0].dashes == ()


def test_the_readers_settings_change_nothing_and_are_left_alone() -> None:
    plain = score_chart("s", SERIES[0], MODELS[0].attacks[0])
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path", "xtick.direction": "in"}):
        before = dict(mpl.rcParams)
        assert score_chart("s", SERIES[0], MODELS[0].attacks[0]) == plain
        assert dict(mpl.rcParams) == before
