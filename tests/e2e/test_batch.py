"""Offline identification: every line, every interruption, every change of settings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import verifykit as vk
from tests.helpers import dummy_store
from tests.helpers.batch_files import BLUE, RED, lines, many, small_folder, small_verifier
from tests.helpers.model_specs import plain_spec
from verifykit.batch import BatchSummary, find_images, identify_batch
from verifykit.gallery import copy_gallery, new_key_file, take_snapshot
from verifykit.models import calibration_digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_folder(tmp_path / "pictures")


def test_one_line_an_image_in_the_order_of_the_paths(folder: Path, tmp_path: Path) -> None:
    out, seen = tmp_path / "out.jsonl", []
    summary = identify_batch(
        small_verifier(), folder, out, on_progress=lambda done, count: seen.append((done, count))
    )
    names = ["a/broken.jpg", "a/z.PNG", "a/é.png", "a-b/x.png", "a.png", "b.png"]
    assert find_images(folder) == names
    header, *answers = lines(out)
    assert header["verifykit_batch"] == 2
    assert [answer["image"] for answer in answers] == names
    assert seen == [(done, 6) for done in range(7)]
    assert summary == BatchSummary(6, 0, 5, 4, {"unreadable": 1}, left_out={"not_an_image": 1})
    assert answers[0]["error"] == "unreadable"
    assert "broken.jpg" in answers[0]["message"]
    found = {a["image"]: a["faces"][0]["candidates"] for a in answers[1:]}
    assert {name: [c["subject_id"] for c in who] for name, who in found.items()} == {
        "a/z.PNG": ["red"],
        "a/é.png": ["green"],
        "a-b/x.png": ["green"],
        "a.png": [],
        "b.png": ["red"],
    }
    assert {(a["threshold"], a["fmr"], a["attack"], a["model"]) for a in answers} == {
        (0.4, 1e-4, "random_forgery", plain_spec().digest)
    }
    assert {a["calibration"] for a in answers} == {calibration_digest(plain_spec())}
    assert {a["gallery_size"] for a in answers} == {2}
    assert [a["decision"] for a in answers] == ["unreadable", *["match"] * 3, "no_match", "match"]
    assert [a["faces"][0]["decision"] for a in answers[1:]] == [a["decision"] for a in answers[1:]]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, BatchSummary]:
    place = tmp_path_factory.mktemp("cut")
    folder, out = small_folder(place / "pictures"), place / "out.jsonl"
    return folder, out, identify_batch(small_verifier(), folder, out)


@settings(max_examples=100, deadline=None)
@given(part=st.floats(0, 1))
def test_a_run_cut_anywhere_is_continued_to_the_same_bytes(
    unbroken: tuple[Path, Path, BatchSummary], part: float
) -> None:
    folder, whole, wanted = unbroken
    kept = whole.read_bytes()[: round(part * whole.stat().st_size)]
    out = whole.with_name("again.jsonl")
    out.write_bytes(kept)
    summary = identify_batch(small_verifier(), folder, out)
    assert out.read_bytes() == whole.read_bytes()
    assert summary == replace(wanted, resumed=max(0, kept.count(b"\n") - 1))


def test_new_images_are_added_to_a_finished_output(folder: Path, tmp_path: Path) -> None:
    out, verifier = tmp_path / "out.jsonl", small_verifier()
    identify_batch(verifier, folder, out)
    before = out.read_bytes()
    shutil.copy(folder / "b.png", folder / "a/new.png")
    assert identify_batch(verifier, folder, out).resumed == 6
    assert out.read_bytes().startswith(before)
    assert lines(out)[-1]["image"] == "a/new.png"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"threshold": 0.0}, "threshold was 0.4, is 0.0"),
        ({"fmr": 1e-2}, "fmr was 0.0001, is 0.01"),
        ({"limit": 4}, "limit was 5, is 4"),
        ({"multi_face": "largest"}, "multi_face was 'all'"),
        ({"quality": "warn"}, "quality was 'strict'"),
    ],
)
def test_other_settings_are_not_mixed_in(
    folder: Path, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    out, verifier = tmp_path / "out.jsonl", small_verifier()
    identify_batch(verifier, folder, out)
    before = out.read_bytes()
    with pytest.raises(vk.InputError, match=named):
        identify_batch(verifier, folder, out, **changes)
    assert out.read_bytes() == before


def test_another_model_gallery_or_folder_is_not_mixed_in(folder: Path, tmp_path: Path) -> None:
    out, gallery = tmp_path / "out.jsonl", tmp_path / "g.db"
    verifier = small_verifier(gallery)
    identify_batch(verifier, folder, out)
    before = out.read_bytes()
    with pytest.raises(vk.InputError, match="model was"):
        identify_batch(small_verifier(weights_sha256="f" * 64), folder, out)
    with pytest.raises(vk.InputError, match="source was"):
        identify_batch(verifier, folder / "a", out)
    verifier.enroll("red", np.full((8, 8, 3), RED, np.uint8))
    with pytest.raises(vk.InputError, match=r"revision 2 of.*revision 3 of.*give another output"):
        identify_batch(verifier, folder, out)
    assert out.read_bytes() == before


@pytest.mark.parametrize("kind", ["file", "encrypted", "memory", "store"])
def test_a_run_searches_the_gallery_as_it_was_at_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = many(tmp_path / "pictures", 300)
    out, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    plain, location, key = small_verifier(), None, None
    if kind in ("file", "encrypted"):
        location = str(tmp_path / "g.db")
        key = str(tmp_path / "g.key") if kind == "encrypted" else None
    if key:
        new_key_file(key)
    if kind == "store":
        dummy_store.install(tmp_path, monkeypatch)
        location = f"dummy://{tmp_path.name}"
    verifier = plain if location is None else vk.Verifier(plain.encoder, location, key=key)
    other = verifier if location is None else vk.Verifier(plain.encoder, location, key=key)
    if not len(verifier.gallery):
        copy_gallery(plain.gallery, verifier.gallery)

    def write_from_elsewhere(done: int, _: int) -> None:
        if done == 3:
            other.enroll("blue", np.full((8, 8, 3), BLUE, np.uint8))
            other.remove("red")
            other.remove("green")

    first = identify_batch(verifier, folder, whole)
    before = first.gallery
    assert (first.gallery_since, before["subject_count"]) == (None, 2)
    found = identify_batch(verifier, folder, out, on_progress=write_from_elsewhere)
    assert found == first
    assert out.read_bytes() == whole.read_bytes()
    assert any(face["candidates"] for row in lines(out)[1:] for face in row.get("faces", ()))
    assert found.gallery == before == lines(out)[0]["gallery"]
    assert found.gallery_since is not None
    assert found.gallery_since["subject_count"] == 1
    assert ("revision" in before) == (kind in ("file", "encrypted"))

    # What was begun is not continued with another gallery, and the message says what to do.
    cut = whole.read_bytes()[: whole.stat().st_size // 2]
    for content in (cut, whole.read_bytes()):
        out.write_bytes(content)
        with pytest.raises(vk.InputError) as caught:
            identify_batch(verifier, folder, out)
        said = str(caught.value)
        assert "2 subject(s), 2 template(s)" in said
        assert "1 subject(s), 1 template(s)" in said
        assert "give another output" in said
        assert out.read_bytes() == content
        if "revision" in before:
            assert f"begun with revision {before['revision']} of the gallery" in said
            assert f"there is revision {before['revision'] + 3} of the gallery" in said
    assert identify_batch(verifier, folder, tmp_path / "new.jsonl").gallery_since is None


def test_a_store_that_is_written_to_without_end_is_not_copied(tmp_path: Path) -> None:
    class Busy:
        """A gallery of version 0.1, with an enrollment at each look."""

        spec_digest = plain_spec().digest

        def __init__(self) -> None:
            self.kept = small_verifier().gallery

        def get(self, subject_id: str) -> vk.Subject:
            return self.kept.get(subject_id)

        def subject_ids(self) -> Iterator[str]:
            return self.kept.subject_ids()

        def __len__(self) -> int:
            return len(self.kept)

        def info(self) -> dict[str, int]:
            self.kept.add(f"s{len(self.kept)}", self.kept.get("red").templates)
            return {"subject_count": len(self.kept)}

    with pytest.raises(vk.GalleryError, match="written to during each of 3 copies"):
        take_snapshot(Busy(), 4, "max")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content",
    [b"name,score\nalice,0.5\n", b'{"a": 1}\n', b"[1]\n", b"no line feed", b"\x00\xff\n", b"{}"],
)
def test_a_file_that_is_something_else_is_left_alone(
    folder: Path, tmp_path: Path, content: bytes
) -> None:
    out = tmp_path / "precious.jsonl"
    out.write_bytes(content)
    with pytest.raises(vk.InputError, match="not an output of identify-batch"):
        identify_batch(small_verifier(), folder, out)
    assert out.read_bytes() == content


def test_what_is_wrong_is_said_before_the_output_is_made(folder: Path, tmp_path: Path) -> None:
    out, verifier = tmp_path / "out.jsonl", small_verifier()
    with pytest.raises(vk.InputError, match="neither a folder nor a list"):
        identify_batch(verifier, folder / "b.png", out)
    with pytest.raises(vk.CalibrationError):
        identify_batch(verifier, folder, out, fmr=1e-9)
    for wrong in (
        {"limit": 0},
        {"multi_face": "some"},
        {"quality": "lax"},
        {"workers": 0},
        {"every": 2},
    ):
        with pytest.raises(vk.InputError, match=next(iter(wrong))):
            identify_batch(verifier, folder, out, **wrong)
    assert not out.exists()
    with pytest.raises(FileNotFoundError):
        identify_batch(verifier, folder, tmp_path / "nowhere" / "out.jsonl")


def test_two_runs_do_not_write_to_one_output(folder: Path, tmp_path: Path) -> None:
    out, verifier = tmp_path / "out.jsonl", small_verifier()

    def start_another(done: int, _: int) -> None:
        if done == 2:
            with pytest.raises(vk.InputError, match="another process"):
                identify_batch(verifier, folder, out)

    assert identify_batch(verifier, folder, out, on_progress=start_another).images == 6
    assert len(lines(out)) == 7


def test_an_output_that_is_no_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "device.jsonl").symlink_to(os.devnull)
    for out in (tmp_path / "folder.jsonl", tmp_path / "device.jsonl"):
        with pytest.raises(vk.InputError, match="not a file"):
            identify_batch(small_verifier(), folder, out)


def test_every_sample_option_reaches_the_run_and_its_header(tmp_path: Path) -> None:
    folder, out = small_folder(tmp_path / "pictures"), tmp_path / "out.jsonl"
    verifier = small_verifier()
    identify_batch(verifier, folder, out, threshold=0.9, turned="error", max_faces=3)
    header = lines(out)[0]
    assert (header["turned"], header["max_faces"]) == ("error", 3)
    assert (header["multi_face"], header["quality"]) == ("all", "strict")
    with pytest.raises(vk.InputError, match="max_faces is an integer from 1"):
        identify_batch(verifier, folder, tmp_path / "x.jsonl", threshold=0.9, max_faces=0)
