"""What a batch did not look at is counted and named, in the summary, in the output and in the status."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Picture
from typer.testing import CliRunner, Result

import verifykit as vk
from tests.helpers.batch_files import BLUE, RED, lines, small_verifier, write_model
from verifykit.batch import identify_batch, open_source
from verifykit.cli.app import app


def film(path: Path, count: int, damaged: tuple[int, ...] = ()) -> Path:
    """Write frames of one colour as Motion JPEG, some of them overwritten with zeros."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (32, 24))
    for _ in range(count):
        writer.write(np.full((24, 32, 3), RED[::-1], np.uint8))
    writer.release()
    data = bytearray(path.read_bytes())
    at = data.index(b"movi")
    for number in range(count):
        at = data.index(b"00dc", at) + 8
        if number in damaged:
            size = int.from_bytes(data[at - 4 : at], "little")
            data[at : at + size] = bytes(size)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("damaged", [(), (0,), (5, 6), (3, 7, 11), (10, 11), tuple(range(12))])
def test_a_video_goes_on_to_its_counted_end(tmp_path: Path, damaged: tuple[int, ...]) -> None:
    source, out = film(tmp_path / "film.avi", 12, damaged), tmp_path / "out.jsonl"
    found = identify_batch(small_verifier(), source, out)
    rows = lines(out)[1:]
    assert [row["image"] for row in rows] == [f"frame {number}" for number in range(12)]
    assert [row.get("error") for row in rows] == [
        "unreadable" if number in damaged else None for number in range(12)
    ]
    assert all(f"frame {number} cannot" in rows[number]["message"] for number in damaged)
    assert (found.images, found.matched_faces) == (12, 12 - len(damaged))
    assert found.overlooked == len(damaged)
    if damaged:
        assert found.error_names["unreadable"] == [f"frame {each}" for each in damaged[:5]]
    whole = out.read_bytes()
    out.write_bytes(whole[: len(whole) // 2])
    assert identify_batch(small_verifier(), source, out).errors == found.errors
    assert out.read_bytes() == whole
    thirds = identify_batch(small_verifier(), source, tmp_path / "3.jsonl", every=3)
    assert (thirds.images, thirds.overlooked) == (4, len({0, 3, 6, 9} & {*damaged}))


def test_a_video_that_is_cut_short_names_what_is_missing(tmp_path: Path) -> None:
    source = film(tmp_path / "film.avi", 12)
    data = source.read_bytes()
    source.write_bytes(
        data[: data.rindex(b"movi") + 4 + 6 * (len(data) - data.index(b"movi")) // 12]
    )
    assert open_source(source).count() == 12
    found = identify_batch(small_verifier(), source, tmp_path / "out.jsonl")
    assert found.images == 12
    assert 4 <= found.errors["unreadable"] <= 8
    assert "cut short from" in lines(tmp_path / "out.jsonl")[-1]["message"]


def test_a_header_that_states_too_many_frames_ends_all_the_same(tmp_path: Path) -> None:
    source = film(tmp_path / "film.avi", 12)
    data = bytearray(source.read_bytes())
    data[48:52] = data[140:144] = (2_000_000).to_bytes(4, "little")  # of the file, of the stream
    source.write_bytes(data)
    images = open_source(source, 2)
    assert images.count() == 1_000_000
    rows = list(images.images())
    assert [row.name for row in rows if not row.problem] == [f"frame {n}" for n in range(0, 12, 2)]
    assert len(rows) == 6 + 500
    assert images.left_out == {"lost_frames": 1_000_000 - len(rows)}
    assert images.left_out_names == {"lost_frames": ["frame 1012 to frame 1999999"]}


def test_a_video_without_a_count_is_read_to_its_end_and_says_so(tmp_path: Path) -> None:
    source = film(tmp_path / "film.avi", 12)
    data = bytearray(source.read_bytes())
    data[48:52] = data[140:144] = bytes(4)
    del data[data.rindex(b"idx1") :]
    (tmp_path / "film.avi").write_bytes(data)
    found = identify_batch(small_verifier(), source, tmp_path / "out.jsonl")
    assert found.images == 12
    mkv = tmp_path / "film.mkv"
    writer = cv2.VideoWriter(str(mkv), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (32, 24))
    if not writer.isOpened():
        pytest.skip("this OpenCV does not write Matroska")
    for _ in range(12):
        writer.write(np.full((24, 32, 3), 250, np.uint8))
    writer.release()
    found = identify_batch(small_verifier(), mkv, tmp_path / "mkv.jsonl")
    assert (found.images, found.overlooked) == (12, 0)
    assert found.notes == [
        "film.mkv does not state how many frames it has: it was read to its end."
    ]


@pytest.mark.parametrize("kept", [1.0, 0.5, 0.02])
def test_a_video_that_ends_before_its_duration_says_so(tmp_path: Path, kept: float) -> None:
    mkv = tmp_path / "film.mkv"
    writer = cv2.VideoWriter(str(mkv), cv2.VideoWriter.fourcc(*"MJPG"), 2.0, (640, 480))
    if not writer.isOpened():
        pytest.skip("this OpenCV does not write Matroska")
    for number in range(40):
        noise = np.random.default_rng(number).integers(0, 256, (480, 640, 3), np.uint8)
        writer.write(noise)
    writer.release()
    data = mkv.read_bytes()
    mkv.write_bytes(data[: int(len(data) * kept)])
    found = identify_batch(small_verifier(), mkv, tmp_path / "out.jsonl")
    assert found.overlooked == 40 - found.images == found.left_out.get("lost_frames", 0)
    assert (found.overlooked > 0) == (kept < 1)


def test_a_video_without_a_frame_is_not_looked_at(tmp_path: Path) -> None:
    source = film(tmp_path / "film.avi", 12, tuple(range(12)))
    data = bytearray(source.read_bytes())
    data[48:52] = data[140:144] = bytes(4)
    del data[data.rindex(b"idx1") :]
    source.write_bytes(data)
    found = identify_batch(small_verifier(), source, tmp_path / "out.jsonl")
    assert (found.images, found.overlooked) == (0, 1)
    assert found.left_out_names == {"lost_frames": ["no frame can be decoded"]}


def phone_folder(folder: Path) -> Path:
    """Write one image in the ways of phones, browsers and Windows."""
    folder.mkdir()
    file = io.BytesIO()
    Picture.new("RGB", (8, 8), RED).save(file, "PNG")
    for name in ("x.png", "y.JPE", "z.jfif", "IMG_1.PSD", "web.jxr", "clip.mov", "noname"):
        (folder / name).write_bytes(file.getvalue())
    pages = [Picture.new("RGB", (8, 8), color) for color in (RED, BLUE)]
    pages[0].save(folder / "scan.tif", save_all=True, append_images=pages[1:])
    (folder / "list.csv").write_text("path\nx.png\n")
    return folder


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet"])
def test_images_that_are_not_read_are_counted_and_named(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    folder, out = phone_folder(tmp_path / "photos"), tmp_path / name
    found = identify_batch(small_verifier(), folder, out)
    assert found.images == 4
    assert found.left_out_names == {
        "misnamed": ["noname"],
        "not_an_image": ["list.csv"],
        "unread_format": ["IMG_1.PSD", "web.jxr"],
        "video": ["clip.mov"],
        "further_frames": ["scan.tif"],
    }
    counts = {reason: len(names) for reason, names in found.left_out_names.items()}
    assert (found.left_out, found.overlooked) == (counts, 5)
    again = identify_batch(small_verifier(), folder, out)
    assert replace(again, resumed=0) == found
    assert again.left_out_names == found.left_out_names
    if not name.endswith("jsonl"):
        state = json.loads((tmp_path / f"{name}.state.json").read_text())["summary"]
        assert state["left_out"] == counts
        assert state["left_out_names"] == found.left_out_names
    else:
        reasons = {row["image"]: row["faces"][0]["reasons"] for row in lines(out)[1:]}
        assert reasons == {"scan.tif": ["further_frames"], "x.png": [], "y.JPE": [], "z.jfif": []}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command of identify-batch, without its source."""
    monkeypatch.chdir(tmp_path)
    model = write_model(tmp_path / "m.onnx")
    verifier = vk.Verifier(model, tmp_path / "g.db")
    verifier.enroll("red", np.full((8, 8, 3), RED, np.uint8))
    return ["-m", str(model), "-g", "g.db", "--threshold", "0.9"]


def batch(source: str, run: list[str], *options: str) -> Result:
    found = CliRunner().invoke(app, ["identify-batch", source, *run, *options])
    assert "Traceback" not in found.output
    return found


def test_the_status_and_both_summaries_say_so(tmp_path: Path, run: list[str]) -> None:
    phone_folder(tmp_path / "photos")
    found = batch("photos", run, "-o", "a.jsonl")
    assert found.exit_code == 3
    assert "not looked at: 5 image(s)" in found.stderr
    assert "2 image(s) of a format that is not read left out: IMG_1.PSD, web.jxr" in found.stdout
    assert found.stdout.startswith("gallery at the start: revision 1, 1 subject\n")
    found = batch("photos", run, "-o", "b.jsonl", "--json")
    told = json.loads(found.stdout)
    assert (found.exit_code, told["overlooked"]) == (3, 5)
    assert told["left_out"]["unread_format"] == 2
    assert told["gallery"]["revision"] == 1
    for name in ("IMG_1.PSD", "web.jxr", "clip.mov", "noname", "scan.tif"):
        (tmp_path / "photos" / name).unlink()
    found = batch("photos", run, "-o", "c.jsonl")
    assert (found.exit_code, found.stderr) == (0, "")
    assert "1 file(s) without an image's suffix left out: list.csv" in found.stdout
    film(tmp_path / "film.avi", 12, (5, 6))
    found = batch("film.avi", run, "-o", "d.jsonl")
    assert found.exit_code == 3
    assert "not usable, unreadable: frame 5, frame 6" in found.stdout
    assert batch(str(film(tmp_path / "sound.avi", 12)), run, "-o", "e.jsonl").exit_code == 0


def test_a_page_without_a_face_says_that_there_are_others(
    encoder: object, tmp_path: Path, portraits: dict[str, Path]
) -> None:
    with Picture.open(portraits["person_a_1"]) as portrait:
        blank = Picture.new("RGB", portrait.size, "white")
        (tmp_path / "in").mkdir()
        blank.save(tmp_path / "in" / "scan.tif", save_all=True, append_images=[portrait])
    verifier = vk.Verifier(encoder)  # type: ignore[arg-type]
    found = identify_batch(verifier, tmp_path / "in", tmp_path / "o.jsonl")
    assert (found.errors, found.left_out) == ({"no_face": 1}, {"further_frames": 1})
    (row,) = lines(tmp_path / "o.jsonl")[1:]
    assert row["reasons"] == ["further_frames"]
    assert "only the first page or frame" in row["message"]
