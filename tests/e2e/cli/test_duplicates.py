"""``verifykit gallery duplicates`` and ``verifykit cluster`` on real portraits."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image as Picture

from tests.helpers.command_results import Invoke, body
from verifykit.models import load

TITLES = ["image", "face", "cluster", "left_px", "top_px", "width_px", "height_px", "reasons"]


def test_who_is_enrolled_twice(invoke: Invoke, gallery: str) -> None:
    said = invoke("gallery", "duplicates", gallery, status=0).stdout
    threshold = load("face").spec.operating_point(1e-4).threshold
    assert said.startswith(
        f"no duplicates among 2 subjects, 2 templates\nthreshold  {threshold:.4f}\n"
    )
    none = body(invoke("gallery", "duplicates", gallery, "--json", status=0))
    assert (none["pairs"], none["comparison_count"], none["fmr"]) == ([], 1, 1e-4)

    invoke("enroll", "zoë", "person_a_2.jpg", "-g", gallery, status=0)
    told = body(invoke("gallery", "duplicates", gallery, "--json", status=1))
    ((first,),) = [told["pairs"]]
    assert (first["subject_id"], first["other_id"]) == ("Ada 🙂/1", "zoë")
    assert first["score"] >= told["threshold"]
    assert told["expected_false_pairs"] == pytest.approx(3e-4)
    lines = invoke("gallery", "duplicates", gallery, status=1).stdout.splitlines()
    assert lines[0] == "1 possible duplicate among 3 subjects, 3 templates"
    assert lines[2].split() == [f"{first['score']:.4f}", "Ada", "🙂/1", "zoë"]
    assert lines[-1] == "expected   0.0003 pairs by chance in 3 comparisons"

    by_hand = body(
        invoke("gallery", "duplicates", gallery, "--threshold", "-1", "--json", status=1)
    )
    assert len(by_hand["pairs"]) == 3
    assert by_hand["expected_false_pairs"] is None
    of_search = invoke("gallery", "duplicates", gallery, "--fpir", "1e-3", "--json", status=1)
    assert body(of_search)["fpir"] <= 1e-3
    both = invoke("gallery", "duplicates", gallery, "--fpir", "1e-3", "--fmr", "1e-4", status=2)
    assert "give one of them" in both.stderr
    assert "no such file" in invoke("gallery", "duplicates", "no.db", status=2).stderr


def test_faces_are_grouped(invoke: Invoke, portraits: Mapping[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "unsorted"
    (folder / "more").mkdir(parents=True)
    for name, kept in {
        "person_a_1": "1.jpg",
        "person_b_1": "2.jpg",
        "person_a_2": "more/3.jpg",
        "person_b_2": "more/4.jpg",
        "impostor_1": "more/5.jpg",
    }.items():
        (folder / kept).write_bytes(portraits[name].read_bytes())
    (folder / "broken.png").write_bytes(b"no picture")
    said = invoke("cluster", folder, "--out", "clusters.csv", status=3).stdout.splitlines()
    assert said[:4] == [
        "5 faces in 3 clusters, 1 of them of one face",
        "largest    2, 2, 1",
        "1 image not usable: unreadable",
        "           broken.png",
    ]
    assert said[-1] == "written to clusters.csv"
    written = Path("clusters.csv").read_bytes()
    titles, *rows = csv.reader(written.decode().splitlines())
    assert titles == TITLES
    assert [row[:3] for row in rows] == [
        ["1.jpg", "1", "1"],
        ["2.jpg", "1", "2"],
        ["broken.png", "", ""],
        ["more/3.jpg", "1", "1"],
        ["more/4.jpg", "1", "2"],
        ["more/5.jpg", "1", "3"],
    ]
    assert rows[2][3:] == ["", "", "", "", "unreadable"]
    assert all(float(side) > 20 for side in rows[0][5:7])

    told = body(invoke("cluster", folder, "--out", "again.csv", "--json", status=3))
    assert Path("again.csv").read_bytes() == written
    assert told["sizes"] == [2, 2, 1]
    assert (told["images"], told["faces"], told["clusters"]) == (6, 5, 3)
    assert told["errors"] == {"unreadable": 1}
    assert told["overlooked"] == 1


def test_a_folder_of_which_a_part_is_not_read(
    invoke: Invoke, portraits: Mapping[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "unsorted"
    folder.mkdir()
    for name in ("a.JFIF", "b.psd", "c.jpe", "d"):
        (folder / name).write_bytes(portraits["person_a_1"].read_bytes())
    (folder / "notes.txt").touch()
    first, second = (Picture.open(portraits[f"person_{each}_1"]) for each in "ab")
    first.save(folder / "e.tif", save_all=True, append_images=[second])
    command = ["cluster", folder, "--out", "clusters.csv"]
    ended = invoke(*command, status=3)
    assert "1 image(s) of a format that is not read left out: b.psd" in ended.stdout
    assert "1 image(s) whose suffix is not an image's left out: d" in ended.stdout
    assert "1 file(s) without an image's suffix left out: notes.txt" in ended.stdout
    assert "which were left out: e.tif" in ended.stdout
    assert "not looked at: 3 image(s)" in ended.stderr
    told = body(invoke(*command, "--json", status=3))
    assert (told["images"], told["faces"], told["overlooked"]) == (3, 3, 3)
    assert told["left_out_names"] == {
        "unread_format": ["b.psd"],
        "misnamed": ["d"],
        "not_an_image": ["notes.txt"],
        "further_frames": ["e.tif"],
    }
    assert told["left_out"] == dict.fromkeys(told["left_out_names"], 1)
    for name in ("b.psd", "d", "e.tif"):
        (folder / name).unlink()
    assert body(invoke(*command, "--json", status=0))["left_out"] == {"not_an_image": 1}


def test_a_folder_without_faces_and_one_that_is_not_there(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = invoke("cluster", "empty", "--out", "c.csv", status=0).stdout
    assert said.startswith("0 faces in 0 clusters")
    assert Path("c.csv").read_text() == ",".join(TITLES) + "\n"
    assert "not a folder" in invoke("cluster", "no", "--out", "c.csv", status=2).stderr
    assert "does not exist" in invoke("cluster", "empty", "--out", "no/c.csv", status=2).stderr
