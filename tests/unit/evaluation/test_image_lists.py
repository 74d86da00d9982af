"""A CSV file of images."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.evaluation.made import touch
from verifykit.datasets import Dataset, LabelledImage
from verifykit.errors import InputError, shown
from verifykit.evaluation.pairs import read_data


def _read(folder: Path, *lines: str) -> Dataset:
    path = touch(folder, "a1.png", "a2.png", "b1.png") / "data.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_data(path)


def test_labels_groups_and_paths(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.png"
    data = _read(
        tmp_path,
        "\ufeffimage,Age,Subject,LABEL,light",
        "./a1.png,30,anna,genuine,day",
        "",
        '  "sub/a, 2.png", 31 ,anna,,night',
        f"{elsewhere},,anna,skilled_forgery,",
        "b1.png,40,bert,genuine,day",
    )
    assert (data.kind, data.pairs, data.subjects) == ("images", None, ("anna", "bert"))
    assert data.images == (
        LabelledImage(
            tmp_path / "a1.png", "a1.png", "anna", groups={"Age": "30", "light": "day"}
        ),
        LabelledImage(
            tmp_path / "sub/a, 2.png", "sub/a, 2.png", "anna", groups={"Age": "31", "light": "night"}
        ),
        LabelledImage(
            elsewhere, elsewhere.as_posix(), "anna", is_forgery=True, groups={"Age": "", "light": ""}
        ),
        LabelledImage(
            tmp_path / "b1.png", "b1.png", "bert", groups={"Age": "40", "light": "day"}
        ),
    )  # fmt: skip


def test_an_image_that_is_listed_twice_is_taken_once(tmp_path: Path) -> None:
    data = _read(tmp_path, "path,subject", "a1.png,a", "a2.png,a", "./a1.png,a", "b1.png,b")
    assert [image.name for image in data.images] == ["a1.png", "a2.png", "b1.png"]


def test_a_skilled_forgery_is_a_non_mated_comparison(tmp_path: Path) -> None:
    rows = ["a1.png,a,", "a2.png,a,", "b1.png,a,skilled_forgery"]
    assert len(_read(tmp_path, "path,subject,label", *rows).images) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,subject,label|a1.png,a,forged", "line 2: label 'forged' is not one of genuine"),
        ("path,subject|a1.png,a|  ,a", "line 3: path is empty"),
        ("image,subject|,a", "line 2: image is empty"),
        ("path,subject|a1.png, ", "line 2: subject is empty"),
        ("path,image,subject|a,b,c", "has both columns path and image"),
        (
            "path,subject|a1.png,a|a2.png,b|a1.png,b",
            "line 4: 'a1.png' was listed on line 2 already, and there its subject is 'a', here 'b'",
        ),
        (
            "path,subject,label|a1.png,a,|a1.png,a,skilled_forgery",
            "line 3: 'a1.png' was listed on line 2 already, and one line says skilled_forgery",
        ),
        (
            "path,subject,age|a1.png,a,3|a1.png,a,4",
            "line 3: 'a1.png' was listed on line 2 already, and there age is '3', here '4'",
        ),
        (
            "path,subject|a1.png,a|a2.png,a",
            r"has images of 1 subject\(s\), 'a', which gives no non-",
        ),
        ("path,subject|a1.png,a|b1.png,b", "has 2 subjects with one image each"),
        (
            "path,subject,label|a1.png,a,|a2.png,a,|b1.png,b,skilled_forgery",
            r"has genuine images of 1 subject\(s\), 'a', which gives no non-mated comparison",
        ),
        ("path,subject,label|a1.png,a,skilled_forgery", r"images of 0 subject\(s\), none"),
        (
            "path,subject,label|a1.png,a,|a2.png,a,skilled_forgery",
            "has 1 subjects with one genuine image each, which gives no mated comparison",
        ),
        (
            "path,subject|x.png,a|y.png,a",
            "none of its 2 images is there; the first is 'x.png', looked for in '/",
        ),
    ],
)
def test_what_is_refused_names_file_line_and_value(tmp_path: Path, text: str, message: str) -> None:
    file = re.escape(shown(str(tmp_path / "data.csv")))
    with pytest.raises(InputError, match=f"{file}.*{message}"):
        _read(tmp_path, *text.split("|"))


def test_paths_are_relative_to_the_folder_of_images(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", "a1.png")
    path = tmp_path / "data.csv"
    path.write_text("path,subject\na1.png,a\na2.png,a\nb1.png,b\n")
    data = read_data(path, images=images)
    assert data.images[1] == LabelledImage(images / "a2.png", "a2.png", "a")
    with pytest.raises(InputError, match=re.escape(shown(str(tmp_path)))):
        read_data(path)
    for wrong in (path, tmp_path / "nothing"):
        with pytest.raises(InputError, match=f"{re.escape(shown(str(wrong)))}, is not a folder"):
            read_data(path, images=wrong)


_CELLS = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters="/\\"),
    min_size=1,
    max_size=8,
).filter(lambda text: text.strip() == text and text not in (".", ".."))


@given(
    st.lists(
        st.tuples(_CELLS, st.sampled_from(["a", "b,c", 'd"e']), st.booleans(), _CELLS),
        min_size=1,
        max_size=8,
        unique_by=lambda row: row[0],
    )
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, bool, str]]
) -> None:
    path = touch(tmp_path_factory.mktemp("csv"), "x.png") / "data.csv"
    # The first three are there to make every kind of comparison possible.
    rows = [("x.png", "a", False, "1"), ("/y", "a", False, ""), ("/z", "b,c", False, "1"), *rows]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "subject", "label", "group"])
        for name, subject, forged, group in rows:
            writer.writerow([name, subject, "skilled_forgery" if forged else "", group])
    read = [
        (image.name, image.subject, image.is_forgery, image.groups["group"])
        for image in read_data(path).images
    ]
    assert read == rows
