"""A service that requires an API key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.service import make_key, served
from tests.e2e.browser.visit import FakeCamera, Visit

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def locked(
    face_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str, str]]:
    """An address, a key for everything, a key that only verifies."""
    gallery = tmp_path_factory.mktemp("locked") / "staff.db"
    keys = make_key(gallery, "admin"), make_key(gallery, "verify")
    with served(gallery, "--no-signatures") as base:
        yield (base, *keys)


def test_the_key_is_asked_for_and_kept_for_this_tab_alone(
    visitor: Callable[..., Visit], locked: tuple[str, str, str]
) -> None:
    base, admin, _ = locked
    visit = visitor(base)
    visit.page.goto(f"{base}/#people")
    dialog = visit.page.get_by_role("dialog", name="API key")
    dialog.wait_for()
    assert "This service requires a key" in dialog.inner_text()
    dialog.get_by_label("Key", exact=True).fill("vk_wrong_key")
    dialog.get_by_role("button", name="Use this key").click()
    dialog.get_by_text("missing, wrong or expired").wait_for()
    dialog.get_by_label("Key", exact=True).fill(admin)
    dialog.get_by_role("button", name="Use this key").click()
    visit.panel("People").get_by_text("No one is enrolled yet.").wait_for()
    assert visit.page.get_by_role("radio").count() == 0, "there is one model only"
    kept = visit.page.evaluate("() => [Object.values(sessionStorage), localStorage.length]")
    assert kept == [[admin], 0]
    visit.page.reload()
    visit.panel("People").get_by_text("No one is enrolled yet.").wait_for()
    assert {status for status, _ in visit.refusals} == {401}


def test_a_key_that_only_verifies_works_and_says_what_it_may_not(
    visitor: Callable[..., Visit], locked: tuple[str, str, str], camera: FakeCamera
) -> None:
    base, admin, weak = locked
    visit = visitor(base)
    visit.page.add_init_script(f"sessionStorage.setItem('verifykit.key', '{admin}')")
    camera.show("person_a_1")
    panel = visit.open("Enrol")
    visit.film(panel)
    panel.get_by_label("Name or number").fill("Alice")
    visit.press(panel, "Enrol")

    visit = visitor(base)
    visit.page.add_init_script(f"sessionStorage.setItem('verifykit.key', '{weak}')")
    panel = visit.open("Verify")
    visit.film(panel)
    panel.get_by_label("Name or number").fill("Alice")
    assert "This is Alice." in visit.press(panel, "Verify").inner_text()
    panel = visit.go("Enrol")
    panel.locator(".hint").wait_for()
    panel.get_by_label("Name or number").fill("Mallory")
    assert "This key does not allow this action." in visit.press(panel, "Enrol").inner_text()
    panel.get_by_role("button", name="Enter a key").click()
    dialog = visit.page.get_by_role("dialog", name="API key")
    assert "its scopes do not allow this" in dialog.inner_text()
    assert {status for status, _ in visit.refusals} == {403}
