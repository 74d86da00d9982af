"""The page: safe with any name, complete in itself, and with the sections that the data have."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from tests.unit.evaluation.report.reading import Page
from tests.unit.evaluation.report.reports import (
    NASTY,
    crops_of,
    model_result,
    picture,
    rate,
    report,
)
from verifykit.evaluation.report.writing import render_page
from verifykit.evaluation.results import Interval

OPTIONAL = ("skilled_forgery", "open-set", "folds", "subgroups", "worst", "notes")
ALWAYS = ("models", "random_forgery", "failures", "reading")


@pytest.fixture(scope="module")
def three() -> str:
    found = report(model_result("one"), model_result("two", 2), model_result(NASTY, 3))
    return render_page(found, crops_of(found))


@pytest.fixture(scope="module")
def page(three: str) -> Page:
    return Page(three)


def test_every_element_is_closed(page: Page) -> None:
    assert page.unbalanced == page.open == []


def test_names_from_the_data_are_text(page: Page, three: str) -> None:
    assert not page.all("script")
    assert "<script" not in three
    assert NASTY in page.text
    assert "faces/employees & <guests>" in page.text
    assert not [name for _, values in page.tags for name in values if name.startswith("on")]


def test_nothing_is_loaded(page: Page, three: str) -> None:
    assert not {"link", "script", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    sources = [*page.values("src"), *page.values("href"), *page.values("xlink:href")]
    assert sources
    assert all(source.startswith(("data:image/jpeg;base64,", "#")) for source in sources)
    assert not page.values("srcset")
    assert not re.search(r"url\((?!#)|@import|https?://", three)
    policy = next(meta for meta in page.all("meta") if "http-equiv" in meta)
    assert "default-src 'none'" in str(policy["content"])


def test_identifiers_are_unique_and_references_lead_somewhere(page: Page, three: str) -> None:
    names = page.values("id")
    assert len(names) == len(set(names))
    targets = [*page.values("href"), *page.values("xlink:href")]
    targets = [target[1:] for target in targets if target.startswith("#")]
    targets += re.findall(r"url\(#([^)]+)\)", three)
    targets += page.values("aria-labelledby")
    assert set(targets) <= set(names)


def test_it_can_be_read_without_eyes(page: Page) -> None:
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("title")) == 1
    for svg in page.all("svg"):
        is_chart = svg.get("role") == "img" and len(svg.get("aria-label") or "") > 20
        assert is_chart or svg.get("aria-hidden") == "true"
    assert all(image["alt"] for image in page.all("img"))
    assert all("scope" in header for header in page.all("th"))
    assert all(region["aria-label"] for region in page.all("div") if "role" in region)


def test_all_sections_are_there_and_the_way_to_them(page: Page) -> None:
    assert {*OPTIONAL, *ALWAYS} <= set(page.values("id"))
    assert {f"#{name}" for name in (*OPTIONAL, *ALWAYS)} <= set(page.values("href"))


def test_a_section_without_data_is_not_there() -> None:
    bare = replace(model_result("one", skilled=False, people=False), worst=())
    page = Page(render_page(report(bare), {}))
    names = {*page.values("id"), *(link.removeprefix("#") for link in page.values("href"))}
    assert not set(OPTIONAL) & names
    assert set(ALWAYS) <= names
    assert not page.all("img")


def test_the_sentence_at_the_head_is_about_the_lowest_rate_down_to_one_in_10000(page: Page) -> None:
    row = next(
        row for row in model_result("one").attacks[0].rates if row.asked_fmr == pytest.approx(1e-4)
    )
    low, high = (f"{100 * value:.1f}" for value in (row.fnmr.low, row.fnmr.high))
    assert (
        f"At the threshold {row.threshold:.3f} one in 10,000 comparisons of different people would "
        f"match; {100 * row.fnmr.value:.1f}\u202f% [{low}, {high}] of the right ones would be refused."
    ) in page.text


def test_unsupported_rates_say_what_they_would_take(page: Page) -> None:
    assert "which takes 300,000 non-mated comparisons" in page.text
    assert "which takes 3,000,000 non-mated comparisons. There are 40,000." in page.text


def test_a_rate_that_no_threshold_reaches_is_not_put_down_to_the_counts() -> None:
    one = model_result("one", skilled=False, people=False)
    attack = replace(one.attacks[0], rates=one.attacks[0].rates[:1], unsupported=(1e-2,))
    page = Page(render_page(report(replace(one, attacks=(attack,))), {}))
    assert "1\u202f%, which no threshold reaches. There are 40,000." in page.text


def test_counts_stand_beside_the_rates(page: Page) -> None:
    for row in model_result("two", 2).attacks[0].rates:
        assert f"{row.fnmr.errors:,} of {row.fnmr.trials:,}" in page.text
        assert f"{row.fmr.errors:,} of {row.fmr.trials:,}" in page.text
        assert f"{row.threshold:.4f}" in page.text


def test_a_missing_crop_is_a_box_that_says_so() -> None:
    one = model_result("one", skilled=False, people=False)
    some = Page(render_page(report(one), {one.worst[0].probe: picture(1)}))
    images = 2 * len(one.worst)
    uses = [*(pair.probe for pair in one.worst), *(pair.reference for pair in one.worst)]
    shown = uses.count(one.worst[0].probe)
    assert shown == len(some.all("img"))
    assert some.text.count("image missing") == images - shown
    assert {image["alt"] for image in some.all("img")} == {one.worst[0].probe}


def test_models_of_one_name_are_told_apart() -> None:
    one = replace(model_result("same", skilled=False, people=False), worst=())
    page = Page(render_page(report(one, replace(one, digest="ff" * 32), one), {}))
    assert "same (003b9f3b)" in page.text
    assert "same (ffffffff)" in page.text
    assert "same (003b9f3b), no. 3" in page.text


def test_values_that_are_not_finite_and_rates_of_zero_leave_a_readable_page() -> None:
    one = model_result("one", skilled=False, people=False)
    found = one.attacks[0]
    zero = tuple(0.0 for _ in found.det.fnmr)
    perfect = replace(
        found,
        d_prime=math.inf,
        eer=Interval(0.0, 0.0, math.nan),
        eer_threshold=math.nan,
        rates=tuple(replace(row, threshold=math.inf, fnmr=rate(0, 6000)) for row in found.rates),
        det=replace(found.det, fnmr=zero, fnmr_low=zero, fnmr_high=tuple(5e-4 for _ in zero)),
    )
    nothing = replace(one, name="nothing", attacks=(), worst=(), failures=(), notes=("Why.",))
    text = render_page(report(replace(one, attacks=(perfect,)), nothing), {})
    assert not re.search(r"[\" >(-](nan|inf|NaN|None)[\" <,;)]", text)
    assert "\u221e" in text
    assert "No comparison had a score." in text


def test_a_report_without_models_is_a_page() -> None:
    page = Page(render_page(report(), {}))
    assert page.unbalanced == page.open == []
    assert "reading" in page.values("id")
