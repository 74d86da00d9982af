"""The whole way by keyboard alone: no mouse, nothing focused by the test."""

from __future__ import annotations

import pytest

from tests.e2e.browser.visit import FakeCamera, Visit

pytestmark = pytest.mark.browser


def tab_to(visit: Visit, name: str, *, back: bool = False) -> None:
    """Press Tab until this has the focus, as a person would who hears each name."""
    heard = []
    for _ in range(25):
        visit.page.keyboard.press("Shift+Tab" if back else "Tab")
        heard.append(visit.focused())
        if heard[-1].startswith(name):
            return
    pytest.fail(f"{name!r} was not reached, only {heard}")


def test_enrol_verify_and_delete_by_keyboard(visit: Visit, camera: FakeCamera) -> None:
    keyboard = visit.page.keyboard
    camera.show("person_a_1")
    panel = visit.open("Enrol")

    keyboard.press("Tab")
    assert visit.focused() == "Skip to content"
    tab_to(visit, "Enrol")
    tab_to(visit, "Start the camera")
    keyboard.press("Enter")
    panel.locator(".hint").wait_for()
    assert visit.focused() == "Take photo", (
        "the button pressed has gone, the next step has the focus"
    )
    keyboard.press("Space")
    panel.get_by_role("button", name="Remove image 1").wait_for()
    tab_to(visit, "Name or number")
    keyboard.type("Änne")
    keyboard.press("Enter")
    panel.get_by_text("Änne is enrolled.").wait_for()

    tab_to(visit, "Enrol", back=True)
    while visit.focused() != "Enrol" or not at_a_tab(visit):
        keyboard.press("Shift+Tab")
    keyboard.press("ArrowRight")
    assert visit.focused() == "Verify"
    panel = visit.panel("Verify")
    panel.locator(".hint").wait_for()  # the camera was on, and goes on here
    assert visit.focused() == "Verify", "the camera does not take the focus from the tab"
    tab_to(visit, "Name or number")
    keyboard.type("Änne")
    keyboard.press("Enter")  # takes the picture, too
    panel.get_by_text("This is Änne.").wait_for()
    tab_to(visit, "Details")
    keyboard.press("Enter")
    assert panel.get_by_text("The score is a cosine similarity").is_visible()

    while not at_a_tab(visit):
        keyboard.press("Shift+Tab")
    keyboard.press("End")
    assert visit.focused() == "People"
    panel = visit.panel("People")
    panel.get_by_role("listitem").wait_for()
    tab_to(visit, "Delete Änne")
    keyboard.press("Enter")
    assert visit.focused() == "Cancel"
    for _ in range(4):  # stays in the dialog (or the browser's own bar)
        keyboard.press("Tab")
        assert visit.focused() in {"Cancel", "Delete", "BODY"}
    keyboard.press("Escape")
    assert visit.focused() == "Delete Änne"
    keyboard.press("Enter")
    keyboard.press("Tab")
    assert visit.focused() == "Delete"
    keyboard.press("Enter")
    panel.get_by_text("Änne is deleted.").wait_for()
    assert visit.focused() == "Find by the beginning of the name"
    assert visit.refusals == []


def test_arrow_keys_go_round_the_tabs_and_the_address_keeps_the_place(visit: Visit) -> None:
    visit.open("Enrol")
    visit.page.get_by_role("tab", name="Enrol").focus()
    for key, name in (
        ("ArrowLeft", "People"),
        ("ArrowRight", "Enrol"),
        ("End", "People"),
        ("Home", "Enrol"),
        ("ArrowRight", "Verify"),
    ):
        visit.page.keyboard.press(key)
        assert visit.focused() == name
        assert visit.page.get_by_role("tab", selected=True).inner_text() == name
        assert visit.page.get_by_role("tabpanel").count() == 1
    visit.page.reload()
    assert visit.page.get_by_role("tab", selected=True).inner_text() == "Verify"


def test_what_has_the_focus_is_seen(visit: Visit) -> None:
    visit.open("Verify")
    for _ in range(14):
        visit.page.keyboard.press("Tab")
        outlined = visit.page.evaluate(
            """() => {
              const node = document.activeElement;
              const drawn = (one) => one && parseFloat(getComputedStyle(one).outlineWidth) >= 2;
              return node === document.body || drawn(node) || drawn(node.nextElementSibling);
            }"""
        )
        assert outlined, visit.focused()


def at_a_tab(visit: Visit) -> bool:
    return bool(visit.page.evaluate("() => document.activeElement.role === 'tab'"))
