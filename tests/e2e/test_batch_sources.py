"""Every kind of source, every form of output, and what is said about those that are none."""

from __future__ import annotations

import csv
import importlib
import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import verifykit as vk
from tests.helpers.batch_files import lines, many, small_folder, small_verifier
from verifykit.batch import find_images, identify_batch, open_source

parquet = pytest.importorskip("pyarrow.parquet")
pa = pytest.importorskip("pyarrow")

NAMES = ["b.png", "a/é.png", "missing.png", "b.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_folder(tmp_path / "pictures")


def _list(folder: Path) -> Path:
    path = folder / "list.txt"
    path.write_text("\r\n".join(NAMES) + "\n\n", encoding="utf-8")
    return path


def _manifest(folder: Path) -> Path:
    path = folder / "list.csv"
    rows = "".join(f'{number},"{name}"\n' for number, name in enumerate(NAMES))
    path.write_text("\ufeffcamera,image\n" + rows, encoding="utf-8")
    return path


def _parquet(folder: Path) -> Path:
    path = folder / "list.parquet"
    parquet.write_table(pa.table({"path": NAMES, "camera": [1, 2, 3, 4]}), path)
    return path


@pytest.mark.parametrize("kind", [_list, _manifest, _parquet])
def test_lists_and_manifests(folder: Path, tmp_path: Path, kind: Any) -> None:
    path, out = kind(folder), tmp_path / "out.jsonl"
    assert open_source(path).count() == 4
    summary = identify_batch(small_verifier(), path, out)
    assert (summary.images, summary.errors) == (4, {"unreadable": 1})
    answers = lines(out)[1:]
    assert [answer["image"] for answer in answers] == NAMES
    decisions = ["match", "match", "unreadable", "match"]
    assert [answer["decision"] for answer in answers] == decisions
    whole = out.read_bytes()
    for size in (0, len(whole) // 3, len(whole) - 1, len(whole)):
        out.write_bytes(whole[:size])
        identify_batch(small_verifier(), path, out)
        assert out.read_bytes() == whole


@pytest.mark.parametrize("size", [0, 1000, 4000, 8000])
def test_a_video_by_every_third_frame(tmp_path: Path, size: int) -> None:
    film, out = tmp_path / "film.avi", tmp_path / "out.jsonl"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (32, 24))
    for number in range(100):
        writer.write(np.full((24, 32, 3), (0, 0, 250) if number < 60 else (250, 0, 0), np.uint8))
    writer.release()
    assert open_source(film).count() == 100
    summary = identify_batch(small_verifier(), film, out, every=3, threshold=0.98)
    assert (summary.images, summary.matched_faces) == (34, 20)
    assert [a["image"] for a in lines(out)[1:]] == [f"frame {n}" for n in range(0, 100, 3)]
    whole = out.read_bytes()
    out.write_bytes(whole[:size])
    identify_batch(small_verifier(), film, out, every=3, threshold=0.98)
    assert out.read_bytes() == whole
    with pytest.raises(vk.InputError, match=r"'every': 3.*'every': 4"):
        identify_batch(small_verifier(), film, out, every=4, threshold=0.98)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "file,subject\nb.png,x\n", "one column named path or image.*file, subject"),
        ("a.csv", "path,image\nb.png,x\n", "has both columns path and image"),
        ("a.csv", "path,x\nb.png\n", "line 2: 1 cells, and the header names 2 columns"),
        ("a.csv", "path,x\n,y\n", "line 2: path is empty"),
        ("a.csv", 'path\n"b.png', "line 2: the row that begins here is not CSV"),
        ("a.csv", "", "is empty: a CSV file begins with its column names"),
        ("a.parquet", "no parquet", "is not a Parquet file"),
        ("a.mp4", "no video", "cannot be opened as a video"),
        ("a.docx", "", "neither a folder nor a list"),
    ],
)
def test_what_is_no_source(tmp_path: Path, name: str, content: str, told: str) -> None:
    (tmp_path / name).write_text(content)
    out = tmp_path / "out.jsonl"
    with pytest.raises(vk.InputError, match=told):
        identify_batch(small_verifier(), tmp_path / name, out)
    assert not out.exists()


def test_a_path_that_is_missing_in_a_manifest_and_a_source_that_is_not_there(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"path": ["b.png", None]}), path)
    with pytest.raises(vk.InputError, match="row 2: path is empty"):
        open_source(path).count()
    with pytest.raises(vk.InputError, match="does not exist"):
        open_source(tmp_path / "nowhere.csv")
    for wrong in (0, 1.5, True):
        with pytest.raises(vk.InputError, match="every must be a positive integer"):
            open_source(tmp_path, wrong)  # type: ignore[arg-type]


def test_a_folder_is_walked_in_the_order_of_sorted_paths(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for _ in range(60):
        parts = ["".join(rng.choice(list("aB-.é1"), 2)) for _ in range(rng.integers(1, 4))]
        path = tmp_path.joinpath(*(f"x{part}x" for part in parts), "p.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "link.jpg").symlink_to(tmp_path)
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere")
    expected = sorted(
        Path(parent, name).relative_to(tmp_path).parts
        for parent, _, names in os.walk(tmp_path)
        for name in names
    )
    assert find_images(tmp_path) == ["/".join(parts) for parts in expected]


def test_tables_hold_what_the_lines_hold(folder: Path, tmp_path: Path) -> None:
    outs = [tmp_path / f"out.{form}" for form in ("jsonl", "csv", "parquet")]
    for out in outs:
        identify_batch(small_verifier(), folder, out)
    answers = lines(outs[0])[1:]
    with outs[1].open(newline="", encoding="utf-8") as file:
        cells = list(csv.DictReader(file))
    rows = parquet.read_table(outs[2]).to_pylist()
    assert len(answers) == len(cells) == len(rows) == 6
    for answer, cell, row in zip(answers, cells, rows, strict=True):
        for key in ("image", "decision", "threshold", "fmr", "model", "calibration"):
            assert cell[key] == str(answer[key])
            assert row[key] == answer[key]
        face = answer.get("faces", [{"candidates": [], "reasons": []}])[0]
        assert json.loads(cell["candidates"]) == row["candidates"] == face["candidates"]
        assert row["error"] == answer.get("error")
        assert (cell["error"] or None) == answer.get("error")
        assert row["face"] == (None if "error" in answer else 0)


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_a_finished_table_is_kept_and_never_mixed(tmp_path: Path, name: str) -> None:
    folder, out, verifier = many(tmp_path / "pictures", 50), tmp_path / name, small_verifier()
    first = identify_batch(verifier, folder, out)
    before = out.read_bytes()
    again = identify_batch(verifier, folder, out)
    assert (again.resumed, again.images, again.errors) == (50, 50, first.errors)
    with pytest.raises(vk.InputError, match=r"threshold was 0.4, is 0.1"):
        identify_batch(verifier, folder, out, threshold=0.1)
    os.link(folder / "00001.jpg", folder / "00050.jpg")
    with pytest.raises(vk.InputError, match="of 50 images, and there are 51 now"):
        identify_batch(verifier, folder, out)
    assert out.read_bytes() == before
    (tmp_path / f"{name}.state.json").unlink()
    with pytest.raises(vk.InputError, match="not an output of identify-batch"):
        identify_batch(verifier, folder, out)
    assert out.read_bytes() == before


def test_the_extra_is_named_before_any_work(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    for source, out in ((folder, "out.parquet"), (_parquet(folder), "out.jsonl")):
        with pytest.raises(vk.InputError, match=r'pyarrow.*pip install "verifykit-sdk\[batch\]"'):
            identify_batch(small_verifier(), source, tmp_path / out)
    assert not list(tmp_path.glob("out*"))


def test_other_endings_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(vk.InputError, match=r"ends in .jsonl, .csv or .parquet"):
        identify_batch(small_verifier(), folder, tmp_path / "out.xlsx")
