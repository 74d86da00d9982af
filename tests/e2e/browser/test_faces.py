"""Faces through the camera: enrol, verify, another person, nobody, delete."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.e2e.browser.visit import FakeCamera, Visit

pytestmark = pytest.mark.browser
LONG = "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen/№ 7 " * 3


def enrol(visit: Visit, camera: FakeCamera, who: str, film: str = "person_a_1") -> None:
    camera.show(film)
    panel = visit.open("Enrol")
    visit.film(panel)
    panel.get_by_label("Name or number").fill(who)
    assert visit.press(panel, "Enrol").inner_text().startswith(f"✓\n{who} is enrolled.")


def test_enrol_verify_another_person_nobody_delete(visit: Visit, camera: FakeCamera) -> None:
    camera.show("person_a_1")
    panel = visit.open("Enrol")
    visit.film(panel)
    assert panel.locator(".hint").inner_text() == "Good: take the photo"
    assert panel.locator(".boxes rect.good").count() == 1
    panel.get_by_role("button", name="Take photo").click()
    panel.get_by_role("button", name="Take photo").click()
    panel.get_by_label("Name or number").fill("Alice")
    panel.get_by_label("Note").fill("Team blue")
    card = visit.press(panel, "Enrol")
    assert "Alice is enrolled." in card.inner_text()
    assert "2 images were accepted; 2 templates are stored." in card.inner_text()
    visit.page.get_by_text("Enrolled1", exact=True).wait_for()

    camera.show("person_a_2")
    panel = visit.go("Verify")
    visit.film(panel)
    panel.get_by_label("Name or number").fill("Alice")
    card = visit.press(panel, "Verify")
    text = card.inner_text()
    assert "This is Alice." in text
    assert "Decided at a false match rate of 1 in 10,000." in text
    assert "About 1 in 10,000 comparisons of different people reaches it." in text
    assert "At most 1 in" in text
    assert panel.locator(".boxes rect.good").count() == 1
    assert visit.page.locator("#announcer").inner_text() == "This is Alice."

    camera.show("person_b_1")
    panel.get_by_role("button", name="Another image").click()
    assert panel.locator(".card").count() == 0, "the answer was about another image"
    visit.film(panel)
    card = visit.press(panel, "Verify")
    assert "This is not the person enrolled as Alice." in card.inner_text()
    assert "The right person can also be missed" in card.inner_text()
    assert visit.refusals == []

    camera.show("nobody")
    panel.get_by_role("button", name="Another image").click()
    visit.film(panel)
    assert panel.locator(".hint").inner_text() == "No face found"
    card = visit.press(panel, "Verify")
    assert "No face was found." in card.inner_text()
    assert "Show the whole face" in card.inner_text()
    assert "No decision was made" in card.inner_text()

    panel = visit.go("People")
    row = panel.get_by_role("listitem")
    assert "Alice\n\n2 templates · Team blue" in row.inner_text()
    row.get_by_role("button", name="Delete Alice").click()
    dialog = visit.page.get_by_role("dialog", name="Delete Alice?")
    dialog.get_by_role("button", name="Cancel").click()
    assert panel.get_by_role("listitem").count() == 1
    row.get_by_role("button", name="Delete Alice").click()
    dialog.get_by_role("button", name="Delete").click()
    panel.get_by_text("2 templates were erased.").wait_for()
    panel.get_by_text("No one is enrolled yet.").wait_for()
    assert visit.refusals == [(422, "POST /v1/subjects/Alice/verify")]


def test_the_hint_before_the_shot(visit: Visit, camera: FakeCamera) -> None:
    camera.show("far away")
    panel = visit.open("Verify")
    visit.film(panel)
    assert panel.locator(".hint").inner_text() == "Come closer"


def test_the_page_looks_at_one_frame_at_a_time_and_only_while_it_is_seen(
    visit: Visit, camera: FakeCamera
) -> None:
    under_way, most, looks = 0, 0, 0

    def sent(request: object) -> None:
        nonlocal under_way, most, looks
        if "/v1/inspect" in request.url:  # type: ignore[attr-defined]
            under_way, looks = under_way + 1, looks + 1
            most = max(most, under_way)

    def ended(request: object) -> None:
        nonlocal under_way
        under_way -= "/v1/inspect" in request.url  # type: ignore[attr-defined]

    for event, listener in (
        ("request", sent),
        ("requestfinished", ended),
        ("requestfailed", ended),
    ):
        visit.page.on(event, listener)
    camera.show("person_a_1")
    panel = visit.open("Verify")
    visit.film(panel)
    looks = 0
    visit.page.wait_for_timeout(2000)
    assert 3 <= looks <= 9
    assert most == 1
    visit.go("People")
    visit.page.wait_for_timeout(300)
    looks = 0
    visit.page.wait_for_timeout(800)
    assert looks == 0
    assert visit.go("Verify").get_by_role("button", name="Start the camera").is_visible()


def test_the_same_name_twice_asks_before_it_adds(visit: Visit, camera: FakeCamera) -> None:
    enrol(visit, camera, "Berta")
    panel = visit.panel("Enrol")
    assert "already enrolled" in visit.press(panel, "Enrol").inner_text()
    panel.get_by_role("button", name="Add images to this person").click()
    panel.get_by_text("2 templates are stored.").wait_for()
    assert visit.refusals == [(409, "PUT /v1/subjects/Berta")]


def test_files_dropped_chosen_and_pasted(
    visit: Visit, camera: FakeCamera, portraits: Mapping[str, Path]
) -> None:
    panel = visit.open("Compare")
    assert "Take or choose two images first." in visit.press(panel, "Compare").inner_text()
    panel.locator("input[type=file]").first.set_input_files(portraits["person_b_1"])
    paste = """(bytes) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], "b.jpg", {type: "image/jpeg"}));
      document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data}));
    }"""
    visit.page.evaluate(paste, list(portraits["person_b_2"].read_bytes()))
    panel.get_by_text("A face was found.").nth(1).wait_for()
    assert "Both show the same person." in visit.press(panel, "Compare").inner_text()
    drop = """([node, bytes]) => {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([new Uint8Array(bytes)], "a.jpg", {type: "image/jpeg"}));
      node.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true, cancelable: true}));
    }"""
    stage = panel.locator(".stage").nth(1).element_handle()
    visit.page.evaluate(drop, [stage, list(portraits["person_a_1"].read_bytes())])
    panel.locator(".card").wait_for(state="detached")
    assert "These show two different people." in visit.press(panel, "Compare").inner_text()
    assert panel.locator(".boxes rect.other").count() == 2


def test_a_file_that_is_not_an_image(visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("not an image")
    panel = visit.open("Identify")
    panel.locator("input[type=file]").set_input_files(tmp_path / "notes.png")
    panel.get_by_text("This file cannot be read as an image. Use a JPEG").wait_for()
    assert "This file cannot be read" in visit.press(panel, "Identify").inner_text()
    assert visit.refusals == [(422, "POST /v1/inspect"), (422, "POST /v1/identify")]


def test_identify_names_who_it_is_and_says_when_it_is_nobody(
    visit: Visit, camera: FakeCamera, portraits: Mapping[str, Path]
) -> None:
    enrol(visit, camera, LONG.strip(), film="person_b_1")
    panel = visit.go("Identify")
    panel.locator("input[type=file]").set_input_files(portraits["person_b_2"])
    text = visit.press(panel, "Identify").inner_text()
    assert f"This is {LONG.strip()}." in text
    assert "searches for a person not enrolled returns a candidate." in text
    panel.get_by_role("button", name="Another image").click()
    panel.locator("input[type=file]").set_input_files(portraits["impostor_1"])
    assert "No enrolled person matches." in visit.press(panel, "Identify").inner_text()


def test_several_people_are_refused_or_identified_each(
    visit: Visit, camera: FakeCamera, portraits: Mapping[str, Path], tmp_path: Path
) -> None:
    enrol(visit, camera, "Clara", film="person_a_1")
    heads = [
        cv2.resize(cv2.imread(str(portraits[name])), (400, 500))
        for name in ("person_a_2", "impostor_2")
    ]
    cv2.imwrite(str(tmp_path / "two.jpg"), np.hstack(heads))
    panel = visit.go("Identify")
    panel.locator("input[type=file]").set_input_files(tmp_path / "two.jpg")
    panel.get_by_text("There is more than one face").wait_for()
    assert "There is more than one face." in visit.press(panel, "Identify").inner_text()
    panel.get_by_role("button", name="Identify everyone").click()
    panel.locator(".cards").wait_for()
    cards = sorted(text.partition("\n")[2] for text in panel.locator(".card").all_inner_texts())
    assert len(cards) == 2
    assert any(card.split(". ", 1)[1].startswith("No enrolled person matches") for card in cards)
    assert sorted(panel.locator(".boxes text").all_text_contents()) == ["1", "2"]
    assert visit.page.evaluate("() => document.activeElement.className") == "cards"
    assert visit.refusals == [(422, "POST /v1/identify")]


@pytest.mark.parametrize("width", [360, 1280])
def test_a_long_name_breaks_and_nothing_sticks_out(
    visitor: Callable[..., Visit], service: str, camera: FakeCamera, width: int
) -> None:
    visit = visitor(service, viewport={"width": width, "height": 780})
    name = f"{LONG}{width}"
    enrol(visit, camera, name)
    for tab in ("Enrol", "Verify", "Identify", "Compare", "People"):
        panel = visit.go(tab)
        if tab == "Verify":
            panel.get_by_label("Name or number").fill(name)
            visit.film(panel)
            assert f"This is {name}." in visit.press(panel, "Verify").inner_text()
        if tab == "People":
            panel.get_by_text(name).wait_for()
        inside, wanted = visit.page.evaluate(
            "() => [document.documentElement.clientWidth, document.documentElement.scrollWidth]"
        )
        assert wanted <= inside, tab


def test_an_answer_goes_when_the_question_changes(
    visit: Visit, portraits: Mapping[str, Path]
) -> None:
    panel = visit.open("Verify")
    panel.locator("input[type=file]").set_input_files(portraits["person_a_1"])
    panel.get_by_text("A face was found.").wait_for()
    panel.get_by_label("Name or number").fill("nobody")
    assert "No one is enrolled under this name." in visit.press(panel, "Verify").inner_text()
    panel.get_by_label("Name or number").press_sequentially("2")
    assert panel.locator(".card").count() == 0
    assert visit.refusals == [(404, "POST /v1/subjects/nobody/verify")]
