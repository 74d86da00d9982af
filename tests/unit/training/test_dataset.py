"""Records from folders and CSV files, splits by subject, and the check."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.training.drawing import draw_folder
from verifykit_training.dataset import Record, check_records, divide, read_records, read_triplets
from verifykit_training.errors import DataError


def _csv(folder: Path, *lines: str) -> Path:
    path = folder / "data.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_folder_for_each_subject(tmp_path: Path) -> None:
    draw_folder(tmp_path, subjects=2, images=2)
    (tmp_path / "s00" / "notes.txt").write_text("no image")
    (tmp_path / "s01" / "deeper").mkdir()
    shutil.copy(tmp_path / "s01" / "0.png", tmp_path / "s01" / "deeper" / "9.PNG")
    found = [(r.subject, r.path.name) for r in read_records(tmp_path)]
    assert found == [
        ("s00", "0.png"), ("s00", "1.png"), ("s01", "0.png"), ("s01", "1.png"), ("s01", "9.PNG"),
    ]  # fmt: skip


def test_a_csv_with_labels_and_splits(tmp_path: Path) -> None:
    path = _csv(
        tmp_path,
        "path,subject,label,split",
        "a/1.png,anna,genuine,train",
        "a/2.png,anna,skilled_forgery,train",
        '"b,1.png",bert,,test',
    )
    assert read_records(path) == [
        Record(tmp_path / "a/1.png", "anna", is_forgery=False, split="train"),
        Record(tmp_path / "a/2.png", "anna", is_forgery=True, split="train"),
        Record(tmp_path / "b,1.png", "bert", is_forgery=False, split="test"),
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["path,person", "a,b"], "has the columns path, person; accepted are path,subject"),
        (["probe,reference,mated", "a,b,1"], "lists pairs, training takes images"),
        (["path,subject,label", "a,b,forged"], r"line 2: label 'forged' is not"),
        (["path,subject", "a,b", "c,d,e"], "line 3: 3 cells, and the header names 2 columns"),
        (["path,subject", "a"], "line 2: 1 cells, and the header names 2 columns"),
        (["path,subject", "a, "], "line 2: subject is empty"),
        (["path,subject,split", "a,b,dev"], "split 'dev' of 'a' is not one of train"),
        (["path,subject"], "has a header and no rows"),
    ],
)
def test_a_row_that_says_something_else_is_named(
    tmp_path: Path, lines: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_records(_csv(tmp_path, *lines))


def test_neither_folder_nor_csv(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder or file"):
        read_records(tmp_path / "nothing")
    with pytest.raises(DataError, match="holds no images: give a folder"):
        read_records(tmp_path)
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="line 1: byte 0xff is not UTF-8"):
        read_records(tmp_path / "x.csv")


RECORDS = [Record(Path(f"{s}/{i}.png"), f"s{s}") for s in range(40) for i in range(3)]


@given(st.integers(0, 9), st.floats(0, 0.4), st.floats(0, 0.4))
def test_nobody_is_in_two_splits_and_nobody_is_lost(seed: int, one: float, other: float) -> None:
    parts = divide(RECORDS, validation_share=one, test_share=other, seed=seed)
    people = {name: {r.subject for r in part} for name, part in parts.items()}
    assert sum(map(len, people.values())) == 40
    assert set.union(*people.values()) == {r.subject for r in RECORDS}
    assert len(people["validation"]) == pytest.approx(one * 40, abs=0.51)
    assert len(people["test"]) == pytest.approx(other * 40, abs=0.51)
    again = divide(RECORDS[::-1], validation_share=one, test_share=other, seed=seed)
    assert {name: {r.subject for r in part} for name, part in again.items()} == people


def test_a_stated_split_is_kept_and_a_leak_refused() -> None:
    stated = [Record(Path("x"), "x", split="validation"), *RECORDS]
    parts = divide(stated, validation_share=0, test_share=0, seed=0)
    assert [r.subject for r in parts["validation"]] == ["x"]
    for split in ("train", None):
        with pytest.raises(DataError, match=r"1 subject\(s\) .* 'x'"):
            divide(
                [Record(Path("y"), "x", split=split), *stated],  # type: ignore[arg-type]
                validation_share=0,
                test_share=0,
                seed=0,
            )
    with pytest.raises(DataError, match="fewer than two"):
        divide(RECORDS[:6], validation_share=0.4, test_share=0.4, seed=0)


def test_the_check_finds_what_is_wrong(tmp_path: Path) -> None:
    draw_folder(tmp_path, subjects=4, images=3)
    shutil.copy(tmp_path / "s00" / "0.png", tmp_path / "s00" / "copy.png")
    shutil.copy(tmp_path / "s00" / "1.png", tmp_path / "s01" / "other.png")
    (tmp_path / "s02" / "2.png").write_bytes(b"not an image")
    for number in (0, 1):
        (tmp_path / "s03" / f"{number}.png").unlink()
    records = read_records(tmp_path)
    places = {"s00": "train", "s01": "test", "s02": "train", "s03": "train"}
    seen: list[int] = []
    found = check_records(records, places=places, progress=seen.append)  # type: ignore[arg-type]
    assert (found.images, found.subjects, found.forgeries) == (12, 4, 0)
    assert [path.name for path, _ in found.unreadable] == ["2.png"]
    assert "not an image" in found.unreadable[0][1]
    names = [{path.name for path in group} for group in found.duplicates]
    assert names == [{"0.png", "copy.png"}, {"1.png", "other.png"}]
    assert found.conflicting == found.leaking_images == found.duplicates[1:]
    assert found.single == ("s03",)
    assert len(found.problems) == 3
    assert seen[-1] == 12


def test_clean_data_have_no_problem(tmp_path: Path) -> None:
    found = check_records(read_records(draw_folder(tmp_path, 2, 2)))
    assert not found.problems
    assert not found.duplicates


def test_an_image_that_is_genuine_and_forged_is_a_conflict(tmp_path: Path) -> None:
    draw_folder(tmp_path, 1, 2)
    shutil.copy(tmp_path / "s00" / "0.png", tmp_path / "copy.png")
    header = "path,subject,label"
    rows = ["s00/0.png,anna,genuine", "copy.png,anna,skilled_forgery", "s00/1.png,anna,genuine"]
    found = check_records(read_records(_csv(tmp_path, header, *rows)))
    assert len(found.conflicting) == 1
    assert found.forgeries == 1
    rows[1] = "s00/0.png,anna,skilled_forgery"
    with pytest.raises(DataError, match=r"line 3: 's00/0\.png' was listed on line 2 already"):
        read_records(_csv(tmp_path, header, *rows))


def test_triplets_from_a_file(tmp_path: Path) -> None:
    records = [
        Record(tmp_path / name, subject, is_forgery=forged)
        for name, subject, forged in (
            ("a1", "a", False), ("a2", "a", False), ("b1", "b", False), ("af", "a", True),
        )
    ]  # fmt: skip

    def triplets(*lines: str) -> list[list[int]]:
        path = tmp_path / "triplets.csv"
        path.write_text("\n".join(["anchor,positive,negative", *lines]) + "\n")
        return read_triplets(path, records)

    # The last is of somebody who is not trained on.
    assert triplets("a1,a2,b1", "a2,a1,af", "a1,a2,z9") == [[0, 1, 2], [1, 0, 3]]
    for line, message in (
        ("a1,b1,a2", "not two images of one subject"),
        ("a1,a1,b1", "not two images of one subject"),
        ("a1,af,b1", "never an anchor or a positive"),
        ("z1,a1,b1", "no triplet names three images"),
    ):
        with pytest.raises(DataError, match=message):
            triplets(line)
    (tmp_path / "t.csv").write_text("a,b,c\n")
    with pytest.raises(DataError, match="columns must be"):
        read_triplets(tmp_path / "t.csv", records)
