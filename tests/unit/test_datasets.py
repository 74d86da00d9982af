"""Evaluation, batch runs and training see the same images of the same data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import verifykit as vk
from tests.unit.evaluation.made import touch
from verifykit.batch import open_source
from verifykit.datasets import FolderImages, LeftOut, left_out_sentences, overlooked
from verifykit.evaluation.pairs import read_data
from verifykit_training.dataset import read_records
from verifykit_training.errors import DataError

Found = list[tuple[str, str]]


def _evaluated(data: Path) -> Found:
    return [(str(image.path), image.subject) for image in read_data(data).images]


def _trained_on(data: Path) -> Found:
    return [(str(record.path), record.subject) for record in read_records(data)]


def _identified(data: Path) -> list[str]:
    source = open_source(data)
    found = [str(image.image) for image in source.images()]
    assert source.count() == len(found)
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two subjects, and what archives, file servers and editors leave next to their images."""
    kept = ("anna/1.JPG", "anna/2019/a.Png", "anna/b.webp", "bert/1.tif", "bert/x @eaDir/2.pgm")
    hidden = ("anna/.2.jpg", ".git/1.jpg", "anna/@eaDir/1.jpg", "__MACOSX/anna/._1.jpg")
    others = ("notes.txt", "bert/1.mp4", "bert/jpg", "anna/1.jpg.bak")
    return touch(tmp_path / "tree", *kept, *hidden, *others)


def test_a_tree_with_hidden_folders_gives_all_three_the_same_images(tree: Path) -> None:
    names = ["anna/1.JPG", "anna/2019/a.Png", "anna/b.webp", "bert/1.tif", "bert/x @eaDir/2.pgm"]
    expected = [(str(tree / name), name.split("/")[0]) for name in names]
    assert _evaluated(tree) == _trained_on(tree) == expected
    assert _identified(tree) == [path for path, _ in expected]


def test_what_was_left_out_is_counted_by_reason(tree: Path) -> None:
    source = open_source(tree)
    source.count()
    counts = {"hidden": 4, "not_an_image": 3, "video": 1}
    assert source.left_out == read_data(tree).left_out == counts
    assert left_out_sentences(source.left_out) == [
        "4 hidden or system file(s) or folder(s) left out.",
        "3 file(s) without an image's suffix left out.",
        "1 video(s) between the images left out.",
    ]
    assert source.left_out_names == read_data(tree).left_out_names
    assert left_out_sentences(source.left_out, source.left_out_names)[1:] == [
        "3 file(s) without an image's suffix left out: anna/1.jpg.bak, bert/jpg, notes.txt",
        "1 video(s) between the images left out: bert/1.mp4",
    ]
    walk = FolderImages(tree)
    assert list(walk) == list(walk)
    assert walk.left_out == source.left_out


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.PSD", b"", "unread_format"),
        ("a.Exr", b"", "unread_format"),
        ("a.jxr", b"", "unread_format"),
        ("a.dng", b"", "unread_format"),
        ("a.MOV", b"", "video"),
        ("a.jpg_large", b"\xff\xd8\xff\xe0", "misnamed"),
        ("a", b"\x89PNG\r\n\x1a\n", "misnamed"),
        ("a.bin", b"\0\0\0\x18ftypheic", "misnamed"),
        ("a.txt", b"II, V", "not_an_image"),
        ("a.csv", b"path\n", "not_an_image"),
        ("a.mp3", b"\xff\xfb", "not_an_image"),
    ],
)
def test_what_is_an_image_all_the_same_is_told_from_what_is_none(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    walk = FolderImages(tmp_path)
    assert list(walk) == []
    assert (walk.left_out, walk.names) == ({reason: 1}, {reason: [name]})
    assert overlooked(walk.left_out) == (reason != "not_an_image")


def test_every_suffix_of_a_format_that_is_read_is_an_images(tmp_path: Path) -> None:
    names = ("a.jfif", "b.JPE", "c.mpo", "d.apng", "e.J2K", "f.dib", "g.JPG")
    assert list(FolderImages(touch(tmp_path, *names))) == list(names)


def test_names_are_few_short_and_printable() -> None:
    first = ["a\x1b[2Jb", "x" * 300]
    (said,) = left_out_sentences({"video": 9}, {"video": first})
    assert said.isprintable()
    assert said.endswith(f"'a\\x1b[2Jb', {'x' * 38}...{'x' * 38}, ...")
    many = [str(number) for number in range(9)]
    found = LeftOut()
    for name in many:
        found.add("video", name)
    assert (found.counts, found.names) == ({"video": 9}, {"video": many[:5]})


def test_a_pipe_with_the_suffix_of_an_image_is_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    assert list(FolderImages(tmp_path)) == ["gone.jpg"]


def test_a_pipe_between_the_images_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    walk = FolderImages(tmp_path)
    assert list(walk) == []
    assert walk.left_out == {"not_an_image": 1}


def test_a_loose_image_belongs_to_nobody_and_is_only_identified(tree: Path) -> None:
    touch(tree, "loose.jpg")
    for read in (_evaluated, _trained_on):
        with pytest.raises(vk.InputError, match=r"holds the image 'loose\.jpg' itself"):
            read(tree)
    assert str(tree / "loose.jpg") in _identified(tree)


def test_a_link_to_a_folder_is_followed_by_none(tree: Path) -> None:
    (tree / "cleo").symlink_to(tree / "anna")
    for read in (_evaluated, _trained_on):
        with pytest.raises(vk.InputError, match=r"'cleo' in .* is a link to a folder"):
            read(tree)
    source = open_source(tree)
    assert source.count() == 5
    assert source.left_out["linked_folder"] == 1


def _rows() -> list[dict[str, str]]:
    names = ("anna/1.JPG", "anna/b.webp", "bert/1.tif", "gone.png")
    subjects = ("anna", "anna", "bert", "bert")
    return [
        {"age": "30", "Path": name, "Subject": subject, "split": "", "note": "a, b"}
        for name, subject in zip(names, subjects, strict=True)
    ]


def _csv(tree: Path) -> Path:
    rows = [[f' "{cell}"' for cell in row.values()] for row in _rows()]
    text = "\r\n\r\n".join(",".join(row) for row in [list(_rows()[0]), *rows])
    path = tree / "list.csv"
    path.write_text(f"\ufeff{text}\r\n", encoding="utf-8", newline="")
    return path


def _parquet(tree: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tree / "list.parquet"
    rows = [{**row, "age": 30, "note": None} for row in _rows()]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("write", [_csv, _parquet])
def test_a_table_with_further_columns_gives_all_three_the_same_images(
    tree: Path, write: object
) -> None:
    path = write(tree)  # type: ignore[operator]
    expected = [(str(tree / row["Path"]), row["Subject"]) for row in _rows()]
    assert _evaluated(path) == _trained_on(path) == expected
    assert _identified(path) == [name for name, _ in expected]
    groups = read_data(path).images[0].groups
    assert (groups["age"], groups["note"]) == ("30", "a, b" if write is _csv else "")


def test_a_wrong_table_is_the_same_error_for_all_three(tree: Path) -> None:
    path = tree / "list.csv"
    for text, message in (
        ("path,subject,age\na.jpg,anna\n", "line 2: 2 cells, and the header names 3 columns"),
        ("path,subject\n,anna\n", "line 2: path is empty"),
        ("path,subject,age,age\na,b,1,2\n", "line 1: column 'age' is there twice"),
        ("", "is empty: a CSV file begins with its column names"),
    ):
        path.write_text(text)
        with pytest.raises(vk.InputError, match=message):
            read_data(path)
        with pytest.raises(DataError, match=message):
            read_records(path)
        with pytest.raises(vk.InputError, match=message):
            open_source(path).count()
