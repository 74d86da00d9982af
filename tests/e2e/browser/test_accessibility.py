"""axe-core finds nothing serious, on every tab and in every state, in light and dark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.e2e.browser.visit import TABS, FakeCamera, Visit

pytestmark = pytest.mark.browser
SMALLEST_PX = 44


def violations(visit: Visit) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(visit.page).response["violations"]
    return [
        f"{one['impact']} {one['id']}: {node['html'][:120]}: {node['failureSummary']}"
        for one in found
        if one["impact"] in {"serious", "critical", "moderate"}
        for node in one["nodes"]
    ]


@pytest.fixture
def calm(visitor: Callable[..., Visit], service: str) -> Callable[[str], Visit]:
    """A visit without animation: a card that is still fading in has no contrast to measure."""
    return lambda scheme: visitor(service, color_scheme=scheme, reduced_motion="reduce")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("modality", ["Faces", "Signatures"])
def test_every_tab(calm: Callable[[str], Visit], scheme: str, modality: str) -> None:
    visit = calm(scheme)
    visit.open()
    visit.page.get_by_role("radio", name=modality).check()
    for tab in TABS:
        visit.go(tab)
        visit.page.wait_for_load_state("networkidle")
        assert violations(visit) == [], tab


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_answer(
    calm: Callable[[str], Visit],
    camera: FakeCamera,
    portraits: Mapping[str, Path],
    scheme: str,
) -> None:
    visit = calm(scheme)
    camera.show("person_a_1")
    panel = visit.open("Enrol")
    visit.film(panel)
    assert violations(visit) == [], "live"
    panel.get_by_label("Name or number").fill(f"Alice {scheme}")
    panel.get_by_label("Note").fill("Team blue")
    visit.press(panel, "Enrol")
    assert violations(visit) == [], "enrolled"
    visit.press(panel, "Enrol")
    panel.get_by_text("already enrolled").first.wait_for()
    assert violations(visit) == [], "there already"

    panel = visit.go("Verify")
    panel.get_by_label("Name or number").fill(f"Alice {scheme}")
    for film in ("person_a_2", "person_b_1"):
        panel.locator("input[type=file]").set_input_files(portraits[film])
        panel.locator(".card").wait_for(state="detached")
        visit.press(panel, "Verify").get_by_text("Details").click()
        assert violations(visit) == [], film
    panel = visit.go("Identify")
    panel.locator("input[type=file]").set_input_files(portraits["person_a_2"])
    visit.press(panel, "Identify")
    assert violations(visit) == [], "identified"

    panel = visit.go("People")
    panel.get_by_role("button", name=f"Delete Alice {scheme}").click()
    assert violations(visit) == [], "dialog"
    visit.page.keyboard.press("Escape")
    visit.page.get_by_role("button", name="API key").click()
    assert violations(visit) == [], "key"


@pytest.mark.parametrize("tab", TABS)
def test_what_is_touched_is_large_enough(
    visitor: Callable[..., Visit], service: str, tab: str
) -> None:
    visit = visitor(service, viewport={"width": 360, "height": 780}, has_touch=True)
    visit.open(tab)
    for modality in ("Faces", "Signatures"):
        visit.page.get_by_role("radio", name=modality).check()
        small = visit.page.evaluate(
            """(smallest) => [...document.querySelectorAll("button, input, select, label.check")]
              .filter((node) => node.checkVisibility() && !node.closest("label.check input"))
              .filter((node) => node.type !== "checkbox")
              .map((node) => [node.outerHTML.slice(0, 90), node.getBoundingClientRect()])
              .filter(([, box]) => box.width < smallest || box.height < smallest)
              .map(([html, box]) => `${html} ${box.width}x${box.height}`)""",
            SMALLEST_PX,
        )
        assert small == []


def test_nothing_moves_when_a_person_asks_for_that(calm: Callable[[str], Visit]) -> None:
    visit = calm("light")
    panel = visit.open("Verify")
    card = visit.press(panel, "Verify")  # refuses: no name was given
    assert card.evaluate("(node) => node.getAnimations().length") == 0


def test_the_layout_stays_where_it_is(visit: Visit, camera: FakeCamera) -> None:
    camera.show("person_a_1")
    panel = visit.open("Verify")
    button = panel.get_by_role("button", name="Verify", exact=True)
    before = button.bounding_box()
    visit.film(panel)
    assert button.bounding_box() == before
    panel.get_by_label("Name or number").fill("nobody of this name")
    visit.press(panel, "Verify")
    visit.page.evaluate("scrollTo(0, 0)")
    assert button.bounding_box() == before
    assert visit.refusals == [(404, "POST /v1/subjects/nobody%20of%20this%20name/verify")]
