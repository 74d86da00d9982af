"""How data were read is shown, and what looks like another layout is objected to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.training.drawing import draw_folder
from verifykit_training.dataset import read_training_data
from verifykit_training.layout import nested_sentences, other_endings, tree_lines


def test_the_tree_has_three_examples(tmp_path: Path) -> None:
    lines = tree_lines(read_training_data(draw_folder(tmp_path, 3, 2)))
    assert lines == [
        "read as: a folder for each subject",
        "    s00/0.png is of 's00'",
        "    s01/1.png is of 's01'",
        "    s02/1.png is of 's02'",
    ]
    table = tmp_path / "one.csv"
    table.write_text("path,subject\ns00/0.png,anna\n")
    assert tree_lines(read_training_data(table)) == [
        "read as: a table of images",
        "    s00/0.png is of 'anna'",
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train", "val"), "look like splits"),
        (("Train", "Test"), "look like splits"),
        (("group1", "group2"), "which look like the subjects: give"),
    ],
)
def test_splits_and_groups_are_objected_to(
    tmp_path: Path, names: tuple[str, str], message: str
) -> None:
    draw_folder(tmp_path / names[0], 3, 1)
    for person in sorted((tmp_path / names[0]).iterdir()):
        shutil.copytree(person, tmp_path / names[1] / f"other{person.name}")
    (sentence,) = nested_sentences(read_training_data(tmp_path))
    assert message in sentence


def test_groups_with_stray_images_are_objected_to(tmp_path: Path) -> None:
    for group in ("group1", "group2"):
        draw_folder(tmp_path / group, 3, 4)
        for person in sorted((tmp_path / group).iterdir()):
            person.rename(person.with_name(f"{group}-{person.name}"))
    shutil.copy(tmp_path / "group1" / "group1-s00" / "0.png", tmp_path / "group1" / "cover.png")
    (sentence,) = nested_sentences(read_training_data(tmp_path))
    assert "which look like the subjects: give" in sentence
    for number in range(6):
        shutil.copy(tmp_path / "group1" / "cover.png", tmp_path / "group1" / f"{number}.png")
    assert nested_sentences(read_training_data(tmp_path)) == []


def test_sessions_and_plain_folders_are_not(tmp_path: Path) -> None:
    for person in "abc":
        draw_folder(tmp_path / person, 2, 1)  # each with s00 and s01, as sessions are named
    assert nested_sentences(read_training_data(tmp_path)) == []
    plain = draw_folder(tmp_path / "plain", 2, 1)
    (plain / "s00" / "train").mkdir()
    shutil.copy(plain / "s00" / "0.png", plain / "s00" / "train" / "1.png")
    assert nested_sentences(read_training_data(plain)) == []
    table = plain / "one.csv"
    table.write_text("path,subject\ns00/0.png,train\n")
    assert nested_sentences(read_training_data(table)) == []


def test_other_files_are_counted_by_ending(tmp_path: Path) -> None:
    draw_folder(tmp_path, 2, 1)
    for name in ("a.raw", "b.RAW", "notes.txt", "LICENSE", ".hidden"):
        (tmp_path / "s00" / name).touch()
    found = other_endings(read_training_data(tmp_path))
    assert found[0] == (".raw", 2)
    assert set(found[1:]) == {(".txt", 1), ("no ending", 1)}
