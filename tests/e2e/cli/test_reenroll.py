"""`gallery plan-reenroll`, `gallery reenroll` and `enroll --keep-crops`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.command_results import Invoke
from tests.helpers.second_model import write_second_model
from verifykit.image import load_image

pytestmark = pytest.mark.usefixtures("staff")
KEY = ("--key-file", "k")
TO = ("--model", "face-2.onnx")


@pytest.fixture(scope="module")
def second_model(face_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_second_model(face_model, tmp_path_factory.mktemp("second") / "face-2.onnx")


@pytest.fixture
def staff(invoke: Invoke, second_model: Path) -> str:
    """Ada, of whom crops are kept, and Bob, of whom none is."""
    Path("face-2.onnx").symlink_to(second_model)
    invoke("gallery", "new-key", "k", status=0)
    crops = ("--keep-crops", *KEY)
    invoke("enroll", "ada", "person_a_1.jpg", "-g", "staff.db", *crops, status=0)
    invoke("enroll", "bob", "person_b_1.jpg", "-g", "staff.db", *KEY, status=0)
    return "staff.db"


def test_the_plan(invoke: Invoke) -> None:
    plan = ("gallery", "plan-reenroll", "staff.db", *KEY)
    assert invoke(*plan, *TO, status=0).stdout.splitlines() == [
        "re-enroll   bob",
        "from crops  ada: 1 crop of 1 template",
        "from face to face-2: 1 subject must be re-enrolled, 1 subject can be enrolled from crops",
    ]
    body = json.loads(invoke(*plan, *TO, "--json", status=0).stdout)
    assert body["needed"] is True
    assert [each["subject_id"] for each in body["must_come"]] == ["bob"]
    assert body["from_crops"][0]["crop_count"] == 1
    unchanged = invoke(*plan, "--model", "face", status=0).stdout
    assert "already: nothing need be enrolled again" in unchanged


def test_the_new_gallery(invoke: Invoke) -> None:
    reenroll = ("gallery", "reenroll", "staff.db", "next.db", *KEY, *TO)
    assert invoke(*reenroll, status=0).stdout.splitlines() == [
        "re-enroll  bob",
        "enrolled 1 subject, 1 template in next.db; 1 subject must be re-enrolled",
    ]
    matched = invoke("verify", "ada", "person_a_2.jpg", "-g", "next.db", *KEY, *TO, status=0)
    assert matched.stdout.startswith("match")
    again = json.loads(invoke(*reenroll, "--json", status=0).stdout)
    assert (again["subject_count"], again["skipped_count"]) == (0, 1)
    assert again["must_come"] == ["bob"]
    info = json.loads(invoke("gallery", "info", "next.db", *KEY, "--json", status=0).stdout)
    assert (info["model"], info["crop_count"]) == ("face-2", 1)
    # The old one answers as before.
    invoke("verify", "ada", "person_a_2.jpg", "-g", "staff.db", *KEY, status=0)


def test_refusals_are_listed(invoke: Invoke) -> None:
    """Taken with a warning that day, refused by whoever is strict."""
    weak = ("--quality", "warn", "--keep-crops", *KEY)
    image = load_image("obama_partial_face2.jpg")
    Image.fromarray(image[image.shape[0] // 8 :]).save("cut.png")  # through the forehead
    invoke("enroll", "eve", "cut.png", "-g", "staff.db", *weak, status=0)
    reenroll = ("gallery", "reenroll", "staff.db", "next.db", *KEY, *TO)
    told = invoke(*reenroll, status=0).stdout.splitlines()
    assert told[0].startswith("refused  eve, crop 1 (clipped): the face is not usable")
    assert told[-1].endswith("; 2 subjects must be re-enrolled")
    told = invoke(*reenroll, "--quality", "warn", status=0).stdout.splitlines()
    assert told[-1] == (
        "enrolled 1 subject, 1 template in next.db, 1 were there; 1 subject must be re-enrolled"
    )


def test_nothing_is_made_where_nothing_can_be(invoke: Invoke) -> None:
    invoke("enroll", "cy", "person_a_1.jpg", "-g", "none.db", *KEY, status=0)
    refused = {
        "crops are kept in encrypted": ("staff.db", "next.db", *TO),
        "nothing need be enrolled": ("staff.db", "next.db", "--model", "face", *KEY),
        "all subjects must be re-enrolled": ("none.db", "next.db", *TO, *KEY),
    }
    for message, words in refused.items():
        assert message in invoke("gallery", "reenroll", *words, status=2).stderr
        assert not Path("next.db").exists()
    wrong = ("gallery", "reenroll", "staff.db", "staff.db", *TO, *KEY)
    assert "TemplateMismatchError" in invoke(*wrong, status=2).stderr


def test_crops_are_not_kept_in_clear(invoke: Invoke) -> None:
    words = ("enroll", "ada", "person_a_1.jpg", "-g", "clear.db", "--keep-crops")
    assert "kept in an encrypted gallery only" in invoke(*words, status=2).stderr
