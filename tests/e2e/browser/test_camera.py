"""The camera itself: refused, chosen among several, pulled out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.browser.visit import FakeCamera, Visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


def test_a_refused_camera_is_explained(visitor: Callable[..., Visit], service: str) -> None:
    visit = visitor(service, allowed=False)
    panel = visit.open("Verify")
    panel.get_by_role("button", name="Start the camera").click()
    panel.get_by_text("Camera access was not allowed").wait_for()
    assert "address bar" in panel.get_by_role("alert").inner_text()
    assert panel.get_by_role("button", name="Choose an image").is_visible()


def test_a_camera_that_is_pulled_out_leaves_the_other_ways(
    visit: Visit, camera: FakeCamera
) -> None:
    camera.show("person_a_1")
    panel = visit.open("Verify")
    visit.film(panel)
    panel.locator("video").evaluate(
        """(video) => {
          const [track] = video.srcObject.getVideoTracks();
          track.dispatchEvent(new Event("ended"));
        }"""
    )
    panel.get_by_role("button", name="Start the camera").wait_for()
    assert panel.get_by_role("button", name="Choose an image").is_visible()


def test_another_camera_is_chosen_and_kept_for_the_next_tab(
    chromium: Callable[[Path | None], Browser], service: str
) -> None:
    with chromium(None) as browser:
        visit = Visit(browser.new_page(permissions=["camera"]), service)
        panel = visit.open("Verify")
        visit.film(panel)
        choice = panel.get_by_role("combobox", name="Camera")
        assert choice.locator("option").all_inner_texts() == ["fake_device_0", "fake_device_1"]
        choice.select_option(label="fake_device_1")
        shown = "(video) => video.srcObject?.getTracks()[0].label"
        for _ in range(50):
            if panel.locator("video").evaluate(shown) == "fake_device_1":
                break
            visit.page.wait_for_timeout(100)
        else:
            pytest.fail("the other camera is not shown")
        visit.go("Identify").locator(".hint").wait_for()
        choice = visit.panel("Identify").get_by_role("combobox", name="Camera")
        assert choice.locator("option:checked").inner_text() == "fake_device_1"
        assert visit.troubles == []
