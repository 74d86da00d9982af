"""The choice of models is that of the service, whatever their number and modality."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from demo.browsing import sign
from demo.service import served
from tests.e2e.browser.visit import FakeCamera, Visit
from tests.helpers.second_model import write_second_model

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def several(face_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service of two face models, one of any images, and one of signatures."""
    folder = tmp_path_factory.mktemp("several")
    second = write_second_model(face_model, folder / "second.onnx")
    plain = write_second_model(face_model, folder / "p.onnx", name="plain-1", modality="plain")
    models = (f"{second}={folder / 'second.db'}", f"{plain}={folder / 'plain.db'}")
    options = (word for model in models for word in ("--model", model))
    signatures = ("--signatures", str(folder / "signatures.db"))
    with served(folder / "staff.db", *options, *signatures) as base:
        yield base


def test_every_model_can_be_chosen_and_has_its_own_gallery(
    visitor: Callable[..., Visit], several: str, portraits: Mapping[str, Path], camera: FakeCamera
) -> None:
    visit = visitor(several)
    panel = visit.open("Enrol")
    switch = visit.page.get_by_role("group", name="Model")
    assert switch.locator("label").all_inner_texts() == [
        "Faces: face",
        "Faces: face-2",
        "Plain",
        "Signatures",
    ]
    visit.page.get_by_role("radio", name="face-2").check()
    panel.locator("input[type=file]").set_input_files(portraits["person_a_1"])
    panel.get_by_label("Name or number").fill("Alice")
    assert "1 image was accepted" in visit.press(panel, "Enrol").inner_text()
    people = visit.go("People")
    people.get_by_text("Alice").wait_for()
    visit.page.get_by_role("radio", name="Faces: face", exact=True).check()
    people.get_by_text("No one is enrolled yet.").wait_for()

    visit.page.get_by_role("radio", name="Plain").check()
    panel = visit.go("Compare")
    assert panel.get_by_text("Do they show the same person?").is_visible()
    for place, name in enumerate(("person_a_1", "person_a_2")):
        panel.locator("input[type=file]").nth(place).set_input_files(portraits[name])
    panel.get_by_text("The image can be used.").nth(1).wait_for()
    assert "Both show the same person." in visit.press(panel, "Compare").inner_text()

    visit.page.get_by_role("radio", name="Signatures").check()
    panel = visit.go("Verify")
    sign(panel.locator("canvas"))
    assert panel.get_by_role("button", name="Undo stroke").is_enabled()
    assert visit.refusals == []


def test_a_pen_is_offered_at_once_where_only_signatures_are_served(
    visitor: Callable[..., Visit], face_model: Path, tmp_path: Path
) -> None:
    with served(tmp_path / "signs.db", "--model", "signature") as base:
        visit = visitor(base)
        panel = visit.open("Verify")
        sign(panel.locator("canvas"))
        assert panel.get_by_text("Was this signed by the person").is_visible()
        assert visit.page.get_by_role("radio").count() == 0
