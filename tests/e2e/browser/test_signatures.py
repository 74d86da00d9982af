"""Signatures: written on the canvas, scanned, enrolled and verified."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from PIL import Image

from demo.browsing import sign
from demo.signature_files import write_signatures
from tests.e2e.browser.visit import Visit

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = pytest.mark.browser


def test_enrol_by_pen_and_verify(visit: Visit) -> None:
    panel = visit.open("Enrol")
    visit.page.get_by_role("radio", name="Signatures").check()
    assert visit.page.get_by_text("A copy of a signature is compared").is_visible()
    canvas = panel.locator("canvas")
    add = panel.get_by_role("button", name="Add signature")
    for hand in (0.0, 0.02, 0.04):
        sign(canvas, hand)
        add.click()
    sign(canvas, 0.03)  # the one still on the paper is sent too
    panel.get_by_label("Name or number").fill("Ada")
    text = visit.press(panel, "Enrol").inner_text()
    assert "Ada is enrolled." in text
    assert "4 signatures were accepted; 4 templates are stored." in text

    panel = visit.go("Verify")
    panel.get_by_label("Name or number").fill("Ada")
    sign(panel.locator("canvas"), 0.01)
    text = visit.press(panel, "Verify").inner_text()
    assert "This was signed by Ada." in text
    assert "practised forgeries reaches it." in text
    panel.get_by_role("button", name="Clear").click()
    sign(panel.locator("canvas"), 2.5)
    assert "not signed by the person enrolled as Ada" in visit.press(panel, "Verify").inner_text()
    assert visit.refusals == []


def test_undo_clear_and_nothing_written(visit: Visit) -> None:
    panel = visit.open("Verify")
    visit.page.get_by_role("radio", name="Signatures").check()
    undo = panel.get_by_role("button", name="Undo stroke")
    canvas = panel.locator("canvas")
    assert undo.is_disabled()
    sign(canvas)
    inked = [ink(panel.locator("canvas"))]
    for _ in range(3):
        undo.click()
        inked.append(ink(canvas))
    assert inked == sorted(inked, reverse=True)
    assert len(set(inked)) == 4
    assert inked[-1] == 0
    assert undo.is_disabled()
    panel.get_by_label("Name or number").fill("Ada")
    assert "Take or choose a signature first." in visit.press(panel, "Verify").inner_text()


def ink(canvas: Locator) -> int:
    """Pixels of the canvas that are not blank."""
    pixels = canvas.evaluate("(canvas) => canvas.toDataURL()")
    encoded = b64decode(pixels.partition(",")[2])
    return int((np.asarray(Image.open(BytesIO(encoded)))[..., 3] > 0).sum())


# Playwright does not see the body of a request that sends files.
KEEP_WHAT_IS_SENT = """
  const send = window.fetch;
  window.fetch = async (address, options) => {
    const file = options?.body?.get("image");
    if (file && address.includes("/verify")) {
      window.sent = Array.from(new Uint8Array(await file.arrayBuffer()));
    }
    return send(address, options);
  };
"""


@pytest.mark.parametrize("viewport", [(360, 780, 3), (1280, 900, 1)])
def test_what_is_sent_is_black_ink_of_one_width_on_white(
    visitor: Callable[..., Visit], service: str, viewport: tuple[int, int, int]
) -> None:
    width, height, ratio = viewport
    size = {"width": width, "height": height}
    visit = visitor(service, viewport=size, device_scale_factor=ratio, color_scheme="dark")
    visit.page.add_init_script(KEEP_WHAT_IS_SENT)
    panel = visit.open("Verify")
    visit.page.get_by_role("radio", name="Signatures").check()
    panel.locator("canvas").scroll_into_view_if_needed()
    sign(panel.locator("canvas"))
    panel.get_by_label("Name or number").fill("nobody")
    visit.press(panel, "Verify")
    assert visit.refusals == [(404, "POST /v1/subjects/nobody/verify")]

    image = np.asarray(Image.open(BytesIO(bytes(visit.page.evaluate("() => window.sent")))))
    assert 800 <= image.shape[1] <= 1320
    white = (image[..., :3] == 255).all(axis=2)
    assert white[:50].all(), "a margin all around"
    assert white[:, -50:].all()
    assert image[..., :3].min() <= 20
    depth = cv2.distanceTransform((image[..., 0] < 128).astype(np.uint8), cv2.DIST_L2, 5)
    ridge = depth[(depth > 1) & (depth == cv2.dilate(depth, np.ones((3, 3))))]
    assert 4.5 <= 2 * float(np.median(ridge)) <= 6.5, "5.4 px whatever the screen"


def test_scans_are_taken_and_a_blank_one_is_marked(visit: Visit, tmp_path: Path) -> None:
    scans = {path.name: path for path in write_signatures(tmp_path)}
    panel = visit.open("Enrol")
    visit.page.get_by_role("radio", name="Signatures").check()
    chosen = [scans["ada_1.png"], scans["ada_2.png"], scans["blank.png"]]
    panel.locator("input[type=file]").set_input_files(chosen)
    panel.get_by_role("listitem").nth(2).get_by_text("There is nothing on the paper").wait_for()
    panel.get_by_label("Name or number").fill("Grace")
    text = visit.press(panel, "Enrol").inner_text()
    assert "2 signatures were accepted" in text
    assert "Signature 3: There is nothing on the paper." in text
    visit.page.get_by_role("tab", name="People").click()
    listed = visit.panel("People").get_by_role("list", name="People enrolled")
    listed.get_by_text("Grace").wait_for()
    visit.page.get_by_role("radio", name="Faces").check()
    listed.get_by_text("Grace").wait_for(state="detached")
