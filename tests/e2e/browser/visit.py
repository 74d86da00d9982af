"""What a person does on the page, and what the browser noticed meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Locator, Page, Request, Response

TABS = ("Enrol", "Verify", "Identify", "Compare", "People")


class FakeCamera:
    """Who stands before the camera; seen when the camera is started the next time."""

    def __init__(self, link: Path, films: Mapping[str, Path]) -> None:
        self.link = link
        self._films = films

    def show(self, name: str) -> None:
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(self._films[name])


class Visit:
    """One open page.

    Attributes:
        page: Playwright's page.
        refusals: (status, verb and path) of every answer from 400 on.
        troubles: Everything that must not happen: console errors, failed requests, faults of scripts.
    """

    def __init__(self, page: Page, base: str) -> None:
        self.page = page
        self.base = base
        self.refusals: list[tuple[int, str]] = []
        self.troubles: list[str] = []
        page.set_default_timeout(20_000)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.troubles.append(f"script: {error}"))
        page.on("requestfailed", self._failed)
        page.on("response", self._answered)

    def open(self, tab: str = "Enrol") -> Locator:
        self.page.goto(f"{self.base}/#{tab.lower()}")
        self.page.locator("#facts div").first.wait_for()
        return self.panel(tab)

    def panel(self, tab: str) -> Locator:
        return self.page.get_by_role("tabpanel", name=tab)

    def go(self, tab: str) -> Locator:
        self.page.get_by_role("tab", name=tab).click()
        return self.panel(tab)

    def film(self, panel: Locator) -> None:
        """Start the camera again, and wait until the page has looked through it."""
        stop = panel.get_by_role("button", name="Stop camera")
        if stop.is_visible():
            stop.click()
        panel.get_by_role("button", name="Start the camera").click()
        panel.locator(".hint").wait_for()

    def press(self, panel: Locator, button: str) -> Locator:
        """Press the panel's own button and wait for the answer, which is not the one before it."""
        panel.locator(".card").evaluate_all("(cards) => cards.forEach((card) => (card.id = 'old'))")
        panel.get_by_role("button", name=button, exact=True).click()
        card = panel.locator(".card:not(#old)").first
        card.wait_for()
        return card

    def focused(self) -> str:
        """The name of what has the focus, for a person who only hears it."""
        return str(
            self.page.evaluate(
                """() => {
                  const node = document.activeElement;
                  if (node === document.body) return "BODY";
                  return node.getAttribute("aria-label") || node.labels?.[0]?.innerText ||
                    node.innerText || node.tagName;
                }"""
            )
        ).strip()

    def _console(self, message: ConsoleMessage) -> None:
        # Chromium says this of each answer from 400 on; `refusals` has them, with their paths.
        if message.type in {"error", "warning"} and "Failed to load resource" not in message.text:
            self.troubles.append(f"console: {message.text}")

    def _failed(self, request: Request) -> None:
        # The page itself gives up a look through the camera when the picture is taken.
        if not (request.url.startswith(f"{self.base}/v1/inspect") and "ABORTED" in request.failure):
            self.troubles.append(f"failed: {request.method} {request.url}: {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            path = urlsplit(response.url).path
            self.refusals.append((response.status, f"{response.request.method} {path}"))
