"""Who was trained on is found by content, and bound to the weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import pytest

from tests.unit.training.drawing import draw_folder
from verifykit.image import load_image
from verifykit_training.dataset import Record, pixel_digest, read_records
from verifykit_training.errors import TrainingError
from verifykit_training.pixel_digests import PixelDigests
from verifykit_training.run_folder import RunFolder
from verifykit_training.trained_on import from_json, of_split, require_bound, separate, to_json


@pytest.fixture
def people(tmp_path: Path) -> Path:
    return draw_folder(tmp_path / "people", 4, 3)


def test_a_digest_is_of_pixels_and_computed_once(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = people / "s00" / "0.png"
    bitmap = tmp_path / "renamed.bmp"
    cv2.imwrite(str(bitmap), cv2.imread(str(image)))
    digests = PixelDigests(tmp_path / "cache")
    assert digests.of(image) == digests.of(bitmap) == pixel_digest(load_image(image))
    monkeypatch.setattr("verifykit_training.pixel_digests.load_image", None)
    assert PixelDigests(tmp_path / "cache").of(image) == digests.of(bitmap)


def test_what_cannot_be_read_has_no_digest(people: Path, tmp_path: Path) -> None:
    bad = people / "s00" / "bad.png"
    bad.write_bytes(b"no image")
    seen: list[int] = []
    digests = PixelDigests(tmp_path / "cache")
    found = digests.of_all(
        [*read_records(people), Record(people / "gone.png", "x")], progress=seen.append
    )
    assert len(found) == 12
    assert bad not in found
    assert seen[-1] == 14


def _trained(people: Path, cache: Path) -> tuple[str, dict[Path, str]]:
    records = read_records(people)
    digests = PixelDigests(cache).of_all(records)
    mine = sorted(digests[r.path] for r in records if r.subject in ("s00", "s01"))
    kept = sorted(digests[r.path] for r in records if r.subject == "s02")
    subjects = {"train": ["s00", "s01"], "validation": [], "test": ["s02"]}
    return to_json(subjects, {"train": mine, "validation": [], "test": kept}), digests  # type: ignore[arg-type]


def test_renamed_people_are_left_out_with_a_sentence(people: Path, tmp_path: Path) -> None:
    text, _ = _trained(people, tmp_path / "cache")
    for person in sorted(people.iterdir()):
        person.rename(people / f"person_{person.name}")
    records = read_records(people)
    digests = PixelDigests(tmp_path / "cache").of_all(records)
    found = separate(from_json(text), records, digests, ("train", "validation"))
    assert {r.subject for r in found.unseen} == {"person_s02", "person_s03"}
    assert {r.subject for r in found.seen} == {"person_s00", "person_s01"}
    (sentence,) = found.sentences
    assert "2 subject(s) are left out" in sentence
    assert "'person_s00'" in sentence


def test_a_subject_is_left_out_for_one_image_and_for_its_name(people: Path, tmp_path: Path) -> None:
    text, _ = _trained(people, tmp_path / "cache")
    shutil.copy(people / "s00" / "0.png", people / "s03" / "copy.png")
    for image in (people / "s01").iterdir():
        image.write_bytes((people / "s02" / image.name).read_bytes())
    records = read_records(people)
    digests = PixelDigests(tmp_path / "cache").of_all(records)
    found = separate(from_json(text), records, digests, ("train",))
    assert {r.subject for r in found.unseen} == {"s02"}


def test_a_split_is_of_the_images_it_had(people: Path, tmp_path: Path) -> None:
    text, digests = _trained(people, tmp_path / "cache")
    records = read_records(people)
    assert {r.subject for r in of_split(from_json(text), records, digests, "test")} == {"s02"}
    assert len(of_split(from_json(text), records, digests, "train")) == 6
    assert of_split(from_json(text), records, digests, "validation") == []


def test_a_run_of_an_earlier_version_is_decided_by_names_and_says_so(people: Path) -> None:
    body = {"train": ["s00"], "validation": ["s01"], "test": ["s02"]}
    trained, records = from_json(json.dumps(body)), read_records(people)
    found = separate(trained, records, {}, ("train", "validation"))
    assert {r.subject for r in found.unseen} == {"s02", "s03"}
    assert "earlier version" in found.sentences[0]
    assert {r.subject for r in of_split(trained, records, {}, "test")} == {"s02"}


def test_a_list_of_another_run_is_refused() -> None:
    require_bound(Path("run"), "a", {"spec.json": "a", "weights.safetensors": None})
    with pytest.raises(TrainingError, match=r"not the one that weights\.safetensors was written"):
        require_bound(Path("run"), "a", {"spec.json": "a", "weights.safetensors": "b"})
    with pytest.raises(ValueError, match="no JSON object"):
        from_json("[]")


def test_messages_about_a_run_shorten_its_path(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "/".join(["x" * 90] * 3))
    for read in (run.read_record, run.read_trained_on, run.load_last):
        with pytest.raises(TrainingError) as caught:
            read()
        assert max(map(len, str(caught.value).split())) <= 84
