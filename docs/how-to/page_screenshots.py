"""Take the screenshots of the web page: ``python docs/how-to/page_screenshots.py``."""  # noqa: INP001

from __future__ import annotations

import sys
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from demo.browsing import CHROMIUM, chromium_flags, sign  # noqa: E402
from demo.film import write_film  # noqa: E402
from demo.portraits import OFFICIAL, portraits  # noqa: E402
from demo.service import served  # noqa: E402

COLOURS = 256
DESK: ViewportSize = {"width": 1120, "height": 940}
PHONE: ViewportSize = {"width": 390, "height": 844}


def main() -> None:
    """Write ``serve-page-*.png`` next to this file."""
    images = portraits(carriers=[OFFICIAL])
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        film = write_film(images["obama"], folder / "camera.mjpeg", share=1.0)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=chromium_flags(film))
        with served(folder / "staff.db") as base:
            page = visit(browser, base, "light", DESK)
            faces(page, images)
            signatures(page)
            page = visit(browser, base, "dark", PHONE)
            page.get_by_role("tab", name="Verify").click()
            answered(page, "verify", images["obama3"], "Barack")
            page.locator("#panel-verify").scroll_into_view_if_needed()
            page.evaluate("document.querySelector('#panel-verify .stage').scrollIntoView()")
            keep(page, "phone")
        browser.close()


def visit(
    browser: Browser, base: str, scheme: Literal["light", "dark"], size: ViewportSize
) -> Page:
    """Open the page."""
    context = browser.new_context(
        viewport=size,
        color_scheme=scheme,
        permissions=["camera"],
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(base)
    page.locator("#facts div").first.wait_for()
    return page


def faces(page: Page, images: dict[str, Path]) -> None:
    """Enroll two people, verify, identify, list."""
    panel = page.locator("#panel-enrol")
    panel.locator("input[type=file]").set_input_files(images["biden"])
    enrol(page, "Joe", "Former president")
    panel.get_by_role("button", name="Enrol another person").click()
    panel.get_by_role("button", name="Start the camera").click()
    panel.locator(".boxes rect.good").wait_for()
    panel.get_by_role("button", name="Take photo").click()
    panel.locator(".thumbnails li").wait_for()
    panel.get_by_label("Name or number").fill("Barack")
    panel.get_by_label("Note").fill("Former president, too")
    page.wait_for_timeout(600)
    keep(page, "enrol")
    enrol(page, "Barack", "Former president, too")
    panel.get_by_role("button", name="Stop camera").click()
    page.get_by_role("tab", name="Verify").click()
    answered(page, "verify", images["obama2"], "Barack")
    keep(page, "verify")
    page.get_by_role("button", name="Another image").click()
    answered(page, "verify", images["biden"], "Barack")
    keep(page, "another-person")
    page.get_by_role("tab", name="People").click()
    page.locator("#people-list li").first.wait_for()
    keep(page, "people", height=560)


def signatures(page: Page) -> None:
    """Enroll with the pen and verify."""
    page.get_by_role("radio", name="Signatures").check()
    page.get_by_role("tab", name="Enrol").click()
    panel = page.locator("#panel-enrol")
    for hand in (0.0, 0.015, 0.03, 0.045, 0.06):
        sign(panel.locator("canvas"), hand)
        panel.get_by_role("button", name="Add signature").click()
    enrol(page, "Barack", "")
    page.get_by_role("tab", name="Verify").click()
    panel = page.locator("#panel-verify")
    sign(panel.locator("canvas"), 0.02)
    panel.get_by_label("Name or number").fill("Barack")
    panel.get_by_role("button", name="Verify", exact=True).click()
    panel.locator(".card").wait_for()
    keep(page, "signature")


def enrol(page: Page, subject: str, note: str) -> None:
    """Fill in the form and send it."""
    panel = page.locator("#panel-enrol")
    panel.get_by_label("Name or number").fill(subject)
    panel.get_by_label("Note").fill(note)
    panel.get_by_role("button", name="Enrol", exact=True).click()
    panel.get_by_text(f"{subject} is enrolled.").wait_for()


def answered(page: Page, tab: str, image: Path, subject: str) -> None:
    """Choose an image and wait for its decision."""
    panel = page.locator(f"#panel-{tab}")
    panel.locator("input[type=file]").set_input_files(image)
    panel.locator(".boxes rect").first.wait_for()
    panel.get_by_label("Name or number").fill(subject)
    panel.get_by_role("button", name="Verify", exact=True).click()
    panel.locator(".card").wait_for()


def keep(page: Page, name: str, height: int | None = None) -> None:
    """Write a screenshot of the window as a small PNG."""
    if page.viewport_size == DESK:
        page.evaluate("scrollTo(0, 0)")
    image = Image.open(BytesIO(page.screenshot())).convert("RGB")
    image = image.crop((0, 0, image.width, height or image.height))
    path = HERE / f"serve-page-{name}.png"
    image.quantize(COLOURS, kmeans=4, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
