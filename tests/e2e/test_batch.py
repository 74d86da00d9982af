"""Offline identification: every line, every interruption, every change of settings."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

import verifykit as vk
from tests.unit.specs import plain_spec
from verifykit.acquisition import Acquisition
from verifykit.batch import BatchSummary, find_images, identify_folder
from verifykit.encoder import Encoder
from verifykit.types import Embeddings, Image

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def encode(crops: Sequence[Image]) -> Embeddings:
    """A picture's embedding is its first pixel."""
    rows = np.array([[*crop[0, 0], 1.0] for crop in crops], dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def small_verifier(gallery: Path | None = None, **changes: Any) -> vk.Verifier:
    spec = plain_spec(**changes)
    verifier = vk.Verifier(Encoder(spec, encode, Acquisition(spec.crop)), gallery)
    if not len(verifier.gallery):
        verifier.enroll("red", np.full((8, 8, 3), RED, np.uint8))
        verifier.enroll("green", np.full((8, 8, 3), GREEN, np.uint8))
    return verifier


def small_folder(folder: Path) -> Path:
    pictures = {"b.png": RED, "a/é.png": GREEN, "a.png": BLUE, "a/z.PNG": RED, "a-b/x.png": GREEN}
    for name, color in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Picture.new("RGB", (8, 8), color).save(folder / name)
    (folder / "a/broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    (folder / "notes.txt").write_text("not looked at")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_folder(tmp_path / "pictures")


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_one_line_an_image_in_the_order_of_the_paths(folder: Path, tmp_path: Path) -> None:
    out, seen = tmp_path / "out.jsonl", []
    summary = identify_folder(
        small_verifier(), folder, out, on_image=lambda done, count: seen.append((done, count))
    )
    names = ["a/broken.jpg", "a/z.PNG", "a/é.png", "a-b/x.png", "a.png", "b.png"]
    assert find_images(folder) == names
    header, *answers = lines(out)
    assert header["verifykit_batch"] == 1
    assert [answer["image"] for answer in answers] == names
    assert seen == [(done, 6) for done in range(7)]
    assert summary == BatchSummary(6, 0, 5, 4, {"unreadable": 1})
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


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, BatchSummary]:
    place = tmp_path_factory.mktemp("cut")
    folder, out = small_folder(place / "pictures"), place / "out.jsonl"
    return folder, out, identify_folder(small_verifier(), folder, out)


@settings(max_examples=100, deadline=None)
@given(part=st.floats(0, 1))
def test_a_run_cut_anywhere_is_continued_to_the_same_bytes(
    unbroken: tuple[Path, Path, BatchSummary], part: float
) -> None:
    folder, whole, wanted = unbroken
    kept = whole.read_bytes()[: round(part * whole.stat().st_size)]
    out = whole.with_name("again.jsonl")
    out.write_bytes(kept)
    summary = identify_folder(small_verifier(), folder, out)
    assert out.read_bytes() == whole.read_bytes()
    assert summary == replace(wanted, resumed=max(0, kept.count(b"\n") - 1))


def test_new_images_are_added_to_a_finished_output(folder: Path, tmp_path: Path) -> None:
    out, verifier = tmp_path / "out.jsonl", small_verifier()
    identify_folder(verifier, folder, out)
    before = out.read_bytes()
    shutil.copy(folder / "b.png", folder / "a/new.png")
    assert identify_folder(verifier, folder, out).resumed == 6
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
    identify_folder(verifier, folder, out)
    before = out.read_bytes()
    with pytest.raises(vk.InputError, match=named):
        identify_folder(verifier, folder, out, **changes)
    assert out.read_bytes() == before


def test_another_model_gallery_or_folder_is_not_mixed_in(folder: Path, tmp_path: Path) -> None:
    out, gallery = tmp_path / "out.jsonl", tmp_path / "g.db"
    verifier = small_verifier(gallery)
    identify_folder(verifier, folder, out)
    before = out.read_bytes()
    with pytest.raises(vk.InputError, match="model was"):
        identify_folder(small_verifier(weights_sha256="f" * 64), folder, out)
    with pytest.raises(vk.InputError, match="folder was"):
        identify_folder(verifier, folder / "a", out)
    verifier.enroll("red", np.full((8, 8, 3), RED, np.uint8))
    with pytest.raises(vk.InputError, match=r"'revision': 2.*'revision': 3"):
        identify_folder(verifier, folder, out)
    assert out.read_bytes() == before


def test_a_gallery_that_changes_during_the_run_stops_it(folder: Path, tmp_path: Path) -> None:
    out, gallery = tmp_path / "out.jsonl", tmp_path / "g.db"
    verifier = small_verifier(gallery)

    def enroll_from_elsewhere(done: int, _: int) -> None:
        if done == 3:
            other = vk.Verifier(verifier.encoder, gallery)
            other.enroll("blue", np.full((8, 8, 3), BLUE, np.uint8))

    with pytest.raises(vk.GalleryError, match="changed while"):
        identify_folder(verifier, folder, out, on_image=enroll_from_elsewhere)
    assert len(lines(out)) == 1 + 3


@pytest.mark.parametrize(
    "content",
    [b"name,score\nalice,0.5\n", b'{"a": 1}\n', b"[1]\n", b"no line feed", b"\x00\xff\n", b"{}"],
)
def test_a_file_that_is_something_else_is_left_alone(
    folder: Path, tmp_path: Path, content: bytes
) -> None:
    out = tmp_path / "precious"
    out.write_bytes(content)
    with pytest.raises(vk.InputError, match="not an output of identify-batch"):
        identify_folder(small_verifier(), folder, out)
    assert out.read_bytes() == content


def test_what_is_wrong_is_said_before_the_output_is_made(folder: Path, tmp_path: Path) -> None:
    out, verifier = tmp_path / "out.jsonl", small_verifier()
    with pytest.raises(vk.InputError, match="is not a folder"):
        identify_folder(verifier, folder / "b.png", out)
    with pytest.raises(vk.CalibrationError):
        identify_folder(verifier, folder, out, fmr=1e-9)
    for wrong in ({"limit": 0}, {"multi_face": "some"}, {"quality": "lax"}):
        with pytest.raises(vk.InputError, match=next(iter(wrong))):
            identify_folder(verifier, folder, out, **wrong)
    assert not out.exists()
    with pytest.raises(FileNotFoundError):
        identify_folder(verifier, folder, tmp_path / "nowhere" / "out.jsonl")


def test_two_runs_do_not_write_to_one_output(folder: Path, tmp_path: Path) -> None:
    out, verifier = tmp_path / "out.jsonl", small_verifier()

    def start_another(done: int, _: int) -> None:
        if done == 2:
            with pytest.raises(vk.InputError, match="another process"):
                identify_folder(verifier, folder, out)

    assert identify_folder(verifier, folder, out, on_image=start_another).images == 6
    assert len(lines(out)) == 7


def test_an_output_that_is_no_file(folder: Path, tmp_path: Path) -> None:
    for out in (tmp_path, Path(os.devnull)):
        with pytest.raises(vk.InputError, match="not a file"):
            identify_folder(small_verifier(), folder, out)


@pytest.fixture(scope="module")
def crowd(
    tmp_path_factory: pytest.TempPathFactory, portraits: Mapping[str, Path], face_model: Path
) -> Path:
    """A folder with twenty real pictures, two of them unusable, and a gallery of two people."""
    place = tmp_path_factory.mktemp("crowd")
    pictures = place / "pictures"
    for number in range(3):
        (pictures / str(number)).mkdir(parents=True)
        for name in ("person_a_2", "person_b_2", "impostor_1", "impostor_2", "biden", "obama2"):
            shutil.copy(portraits[name], pictures / str(number))
    with Picture.open(portraits["person_b_1"]) as portrait:
        portrait.crop((0, 0, 120, 120)).save(pictures / "wall.png")
    (pictures / "cut.jpg").write_bytes(portraits["biden"].read_bytes()[:5000])
    verifier = vk.Verifier(face_model, place / "g.db", threads=1)
    verifier.enroll("a", portraits["person_a_1"])
    verifier.enroll("b", portraits["person_b_1"])
    return place


def run(crowd: Path, out: Path, kill_after: int | None = None) -> int:
    command = [sys.executable, "-m", "verifykit", "identify-batch", str(crowd / "pictures")]
    command += ["--gallery", str(crowd / "g.db"), "--out", str(out), "--threads", "1"]
    process = subprocess.Popen(
        [*command, "--threshold", "0.4"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while kill_after is not None and process.poll() is None:
        if out.exists() and out.read_bytes().count(b"\n") > kill_after:
            process.kill()
            break
        time.sleep(0.002)
    said = process.communicate()[1].decode()
    assert "Traceback" not in said
    return process.returncode


def test_killed_runs_are_continued_to_the_same_bytes(crowd: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    assert run(crowd, whole) == 0
    for kill_after in (2, 8):
        assert run(crowd, out, kill_after) == -9
        assert kill_after < out.read_bytes().count(b"\n") < 21
    assert run(crowd, out) == 0
    assert out.read_bytes() == whole.read_bytes()
    found = {
        line["image"]: [face["candidates"] for face in line.get("faces", ())]
        for line in lines(out)[1:]
    }
    assert len(found) == 20
    for number in range(3):
        assert found[f"{number}/person_a_2.jpg"][0][0]["subject_id"] == "a"
        assert found[f"{number}/person_b_2.jpg"][0][0]["subject_id"] == "b"
        assert found[f"{number}/impostor_1.jpg"] == [[]]
    errors = {line["image"]: line["error"] for line in lines(out)[1:] if "error" in line}
    assert errors == {"cut.jpg": "unreadable", "wall.png": "no_face"}
