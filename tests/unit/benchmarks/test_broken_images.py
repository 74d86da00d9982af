"""The fuzzer of broken images finds nothing in the real decoder, and detects faults that are injected."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage
from PIL import ImageFile

import verifykit as vk
from benchmarks import broken_images
from benchmarks.broken_images import (
    DAMAGES,
    FORMATS,
    SUBJECTS,
    Broken,
    break_image,
    encode,
    open_verifier,
    outcome,
    outcomes,
)

IMAGES = 36


@pytest.fixture(autouse=True)
def use_cached_portraits(portraits: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the checkout's cache; the cache of the tests is empty."""
    monkeypatch.setattr(broken_images, "portraits", lambda: portraits)


def test_no_broken_image_is_decided_wrongly(face_model: Path) -> None:
    found = outcomes(range(IMAGES))
    assert [line for line in found if line[2].startswith("FAILED")] == []
    counts = Counter(result for _, _, result in found)
    assert counts["refused as an image"] > IMAGES // 4
    assert counts["match"] > IMAGES // 10  # if all were unreadable the test would show little
    assert {file_format for file_format, _, _ in found} == set(FORMATS)
    assert {damage for _, damage, _ in found} == set(DAMAGES)


def test_a_seed_gives_the_same_image() -> None:
    assert break_image(7) == break_image(7)
    assert len({break_image(seed).data for seed in range(20)}) == 20


def test_a_decoder_that_takes_truncated_files_is_found(
    face_model: Path, portraits: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lenient decoder fills in what is missing with grey."""

    class LenientVerifier:
        def compare(self, probe: bytes, reference: Path) -> vk.Decision:
            with PilImage.open(io.BytesIO(probe)) as opened:
                image = np.asarray(opened.convert("RGB"))
            return open_verifier().compare(image, reference)

    name, mated, non_mated = (portraits[subject] for subject in SUBJECTS[0])
    case = Broken(encode(name, "JPEG")[:-600], "JPEG", "truncated", mated, non_mated)
    assert outcome(case) == "refused as an image"
    monkeypatch.setattr(broken_images, "open_verifier", LenientVerifier)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert outcome(case) == "FAILED: decision on a truncated file"


def test_a_match_with_another_person_is_found(
    face_model: Path, portraits: Mapping[str, Path]
) -> None:
    data, other = portraits["person_a_2"].read_bytes(), portraits["person_a_1"]
    assert outcome(Broken(data, "JPEG", "bits flipped", other, other)).startswith("FAILED")
    assert outcome(Broken(data, "JPEG", "spliced", other, other)) == "match"


def test_an_error_of_another_type_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def compare(self, *_: object) -> object:
            raise OverflowError("in a decoder")

    monkeypatch.setattr(broken_images, "open_verifier", Failing)
    assert outcome(break_image(1)) == "FAILED: OverflowError: in a decoder"


def test_the_exit_status_shows_a_failure(
    face_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = [("JPEG", "spliced", "FAILED: matches another person")]
    for found, status in (([("PNG", "spliced", "refused as an image")], 0), (failed, 1)):
        monkeypatch.setattr(broken_images, "run", lambda *_, found=found: iter(found))
        monkeypatch.setattr("sys.argv", ["broken_images", "--images", "1"])
        assert broken_images.main() == status
    assert "JPEG, spliced: FAILED: matches another person" in capsys.readouterr().out
