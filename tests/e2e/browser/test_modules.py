"""What the page's modules compute, asked of them in the browser that runs them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from demo.browsing import sign
from tests.e2e.browser.visit import Visit

pytestmark = pytest.mark.browser


def ask(visit: Visit, module: str, call: str, *arguments: Any) -> Any:
    visit.open("People")
    code = f"async (a) => (await import('/static/{module}.js')).{call}(...a)"
    return visit.page.evaluate(code, list(arguments))


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (1e-4, "1 in 10,000"),
        (5e-7, "1 in 2,000,000"),
        (0.1, "1 in 10"),
        (0.53, "53 in 100"),
        (3.04e-4, "1 in 3,300"),
    ],
)
def test_a_rate_in_words(visit: Visit, rate: float, words: str) -> None:
    assert ask(visit, "labels", "oneIn", rate) == words


@pytest.mark.parametrize("prefix", ["Al", "z", "Ä", "e\U0001f600", "\ue000", " x", "a "])
def test_a_page_that_begins_before_a_prefix_holds_all_of_it(visit: Visit, prefix: str) -> None:
    before = ask(visit, "prefix", "justBefore", prefix)
    assert before < prefix
    smaller = chr(0xD7FF) if prefix[-1] == "\ue000" else chr(ord(prefix[-1]) - 1)
    assert before >= prefix[:-1] + (smaller if ord(smaller) >= 0x20 else "")


def report(**changed: Any) -> dict[str, Any]:
    quality = {"brightness": 120.0, "yaw_deg": 2.0}
    quality |= {name: value for name, value in changed.items() if name in quality}
    box = changed.get("box_px", [200, 100, 120, 150])
    sample = {"detection": {"box_px": box}, "quality": quality, "reasons": []}
    reasons = changed.get("reasons", [])
    return {"height_px": 360, "width_px": 480, "reasons": reasons, "samples": [sample]}


@pytest.mark.parametrize(
    ("changed", "level", "text"),
    [
        ({}, "good", "Good: take the photo"),
        ({"reasons": ["several_faces"]}, "bad", "One person only"),
        ({"reasons": ["too_dark"]}, "bad", "More light"),
        ({"brightness": 50.0}, "advice", "More light"),
        ({"yaw_deg": -35.0}, "advice", "Look straight"),
        ({"box_px": [200, 100, 40, 50]}, "advice", "Come closer"),
        ({"box_px": [240, 100, 120, 150]}, "advice", "Hold still"),
        ({"reasons": ["something_new"]}, "bad", "something_new"),
    ],
)
def test_hints(visit: Visit, changed: dict[str, Any], level: str, text: str) -> None:
    hint = ask(visit, "labels", "liveHint", report(**changed), [200, 100, 120, 150])
    assert hint == {"level": level, "text": text}


@pytest.mark.parametrize("name", [".", ".."])
def test_a_name_that_is_a_folder_in_an_address_is_refused(visit: Visit, name: str) -> None:
    panel = visit.open("Verify")
    visit.page.get_by_role("radio", name="Signatures").check()
    sign(panel.locator("canvas"))
    panel.get_by_label("Name or number").fill(name)
    assert "cannot be used in a web address" in visit.press(panel, "Verify").inner_text()
    assert visit.refusals == []


def test_what_a_rate_becomes_in_a_search(visit: Visit) -> None:
    visit.open("Identify")
    said = visit.page.evaluate(
        """async () => {
          const {model} = await import("/static/models.js");
          const {searchMeaning} = await import("/static/result.js");
          model().gallery.subject_count = 1200;
          return searchMeaning(1e-4);
        }"""
    )
    rate = 1 - (1 - 1e-4) ** 1200
    assert math.isclose(rate, 0.113, abs_tol=1e-3)
    assert (
        said
        == "With 1,200 enrolled, about 11 in 100 searches for a person not enrolled returns a candidate."
    )
