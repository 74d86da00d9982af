"""A real Chromium with a fake camera, before a real service. Run by `make browser`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from demo.browsing import CHROMIUM, chromium_flags
from demo.film import write_film
from demo.service import served
from tests.e2e.browser.visit import FakeCamera, Visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Without the extra `browser` there is nothing to collect: `make browser` installs it first.
if importlib.util.find_spec("playwright") is None:
    collect_ignore_glob = ["test_*.py"]

FILMED = ("person_a_1", "person_a_2", "person_b_1", "impostor_1")


@pytest.fixture(scope="session")
def camera(portraits: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> FakeCamera:
    folder = tmp_path_factory.mktemp("films")
    films = {name: write_film(portraits[name], folder / f"{name}.mjpeg") for name in FILMED}
    films["nobody"] = write_film(None, folder / "nobody.mjpeg")
    films["far away"] = write_film(portraits["person_a_1"], folder / "far.mjpeg", share=0.3)
    camera = FakeCamera(folder / "camera.mjpeg", films)
    camera.show("nobody")
    return camera


@pytest.fixture(scope="session")
def chromium() -> Iterator[Callable[[Path | None], Browser]]:
    """Starts browsers; see `chromium_flags`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield lambda film: playwright.chromium.launch(
            executable_path=CHROMIUM, args=chromium_flags(film)
        )


@pytest.fixture(scope="session")
def browser(chromium: Callable[[Path | None], Browser], camera: FakeCamera) -> Iterator[Browser]:
    with chromium(camera.link) as browser:
        yield browser


@pytest.fixture(scope="module")
def service(face_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An address, one gallery for each file of tests."""
    with served(tmp_path_factory.mktemp("gallery") / "staff.db") as base:
        yield base


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Opens pages; at the end nothing may have gone wrong on any of them."""
    contexts, visits = [], []

    def arrive(base: str, *, allowed: bool = True, **options: Any) -> Visit:
        context = browser.new_context(
            permissions=["camera"] if allowed else [],
            **{"viewport": {"width": 1280, "height": 900}, **options},
        )
        contexts.append(context)
        visits.append(Visit(context.new_page(), base))
        return visits[-1]

    yield arrive
    for context in contexts:
        context.close()
    assert [trouble for visit in visits for trouble in visit.troubles] == []


@pytest.fixture
def visit(visitor: Callable[..., Visit], service: str) -> Visit:
    return visitor(service)
