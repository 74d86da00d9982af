"""The fuzz of broken pictures finds nothing in the real decoder, and finds it when something is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import ImageFile

from benchmarks import broken_images
from benchmarks.broken_images import (
    FORMATS,
    PEOPLE,
    WAYS,
    Broken,
    _encoded,
    broken,
    outcome,
    outcomes,
)
from verifykit import image as decoding

IMAGES = 36


@pytest.fixture(autouse=True)
def fetched(portraits: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """From the checkout's cache: the tests' own is empty."""
    monkeypatch.setattr(broken_images, "portraits", lambda: portraits)


def test_no_broken_picture_is_decided_wrongly(face_model: Path) -> None:
    found = outcomes(range(IMAGES))
    assert [line for line in found if line[2].startswith("FAILED")] == []
    seen = Counter(said for _, _, said in found)
    assert seen["refused as an image"] > IMAGES // 4
    assert seen["read, same person"] > IMAGES // 10  # breaking them all would show little
    assert {file_format for file_format, _, _ in found} == set(FORMATS)
    assert {way for _, way, _ in found} == set(WAYS)


def test_a_picture_is_the_same_each_time() -> None:
    assert broken(7) == broken(7)
    assert len({broken(seed).data for seed in range(20)}) == 20


def test_a_decoder_that_takes_truncated_files_is_found(
    face_model: Path, portraits: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is too often seen: what is missing is grey."""
    name, mate, stranger = (portraits[person] for person in PEOPLE[0])
    cut = _encoded(name, "JPEG")[:-600]
    case = Broken(cut, "JPEG", "cut short", mate, stranger)
    assert outcome(case) == "refused as an image"
    monkeypatch.setattr(decoding, "_require_complete", lambda *_: None)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert outcome(case) == "FAILED: decided on a file that is cut short"


def test_a_match_with_somebody_else_is_found(
    face_model: Path, portraits: Mapping[str, Path]
) -> None:
    sound = portraits["person_a_2"].read_bytes()
    itself = portraits["person_a_1"]
    assert outcome(Broken(sound, "JPEG", "bits flipped", itself, itself)).startswith("FAILED")
    assert outcome(Broken(sound, "JPEG", "spliced", itself, itself)) == "read, same person"


def test_an_error_of_another_type_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def compare(self, *_: object) -> object:
            raise OverflowError("in a decoder")

    monkeypatch.setattr(broken_images, "_verifier", Failing)
    assert outcome(broken(1)) == "FAILED: OverflowError: in a decoder"


def test_the_command_says_so_by_its_status(
    face_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = [("JPEG", "spliced", "FAILED: matches somebody else")]
    for found, status in (([("PNG", "spliced", "refused as an image")], 0), (failed, 1)):
        monkeypatch.setattr(broken_images, "run", lambda *_, found=found: iter(found))
        monkeypatch.setattr("sys.argv", ["broken_images", "--images", "1"])
        assert broken_images.main() == status
    assert "JPEG, spliced: FAILED: matches somebody else" in capsys.readouterr().out
