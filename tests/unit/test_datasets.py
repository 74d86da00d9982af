"""Evaluation, batch runs and training see the same images of the same data."""

from __future__ import annotations

from pathlib import Path

import pytest

import verifykit as vk
from tests.unit.evaluation.made import touch
from verifykit.batch import open_source
from verifykit.datasets import FolderImages, left_out_sentences
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
    assert source.left_out == read_data(tree).left_out == {"hidden": 4, "not_an_image": 4}
    assert left_out_sentences(source.left_out) == [
        "4 hidden or system file(s) or folder(s) left out.",
        "4 file(s) without an image's suffix left out.",
    ]
    walk = FolderImages(tree)
    assert list(walk) == list(walk)
    assert walk.left_out == source.left_out


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
