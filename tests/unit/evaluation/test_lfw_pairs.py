"""LFW's pairs.txt."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.evaluation.made import touch
from verifykit.datasets import Dataset, LabelledImage, ListedPair
from verifykit.errors import InputError, shown
from verifykit.evaluation.pairs import read_data

PEOPLE = [f"Person_{letter}" for letter in "ABCDEFGHIJKLMNOPQRST"]


def _read(folder: Path, *lines: str, images: Path | None = None) -> Dataset:
    path = folder / "pairs.txt"
    path.write_text("\n".join(lines).replace(" ", "\t") + "\n")
    return read_data(path, images=images)


def _ten_folds() -> list[str]:
    """Fold k has two mated pairs, of persons 2k and 2k + 1, and two pairs of the two."""
    lines = ["10 2"]
    for one, other in zip(PEOPLE[::2], PEOPLE[1::2], strict=True):
        lines += [f"{one} 1 2", f"{other} 1 12", f"{one} 2 {other} 1", f"{other} 12 {one} 1"]
    return lines


def test_ten_folds(tmp_path: Path) -> None:
    touch(tmp_path, *(f"lfw/{name}/{name}_{n:04d}.jpg" for name in PEOPLE for n in (1, 2, 12, 13)))
    data = _read(tmp_path, *_ten_folds())
    assert (data.kind, data.subjects) == ("lfw_pairs", tuple(PEOPLE))
    assert data.pairs is not None
    assert len(data.images) == 40
    assert data.images[3] == LabelledImage(
        tmp_path / "lfw/Person_B/Person_B_0012.jpg", "Person_B/Person_B_0012.jpg", "Person_B"
    )
    assert all(image.path.is_file() for image in data.images)
    assert data.pairs[-4:] == (
        ListedPair(36, 37, mated=True, fold=10),
        ListedPair(38, 39, mated=True, fold=10),
        ListedPair(37, 38, mated=False, fold=10),
        ListedPair(39, 36, mated=False, fold=10),
    )
    assert [pair.fold for pair in data.pairs] == [fold for fold in range(1, 11) for _ in range(4)]


def test_one_number_is_one_fold(tmp_path: Path) -> None:
    touch(tmp_path, "A/A_0001.jpg")
    data = _read(tmp_path, "2", "A 1 2", "A 1 3", "A 2 B 1", "C 3 A 1")
    assert data.pairs is not None
    assert [(pair.mated, pair.fold) for pair in data.pairs] == [(True, 1)] * 2 + [(False, 1)] * 2
    assert [image.name for image in data.images[:3]] == [f"A/A_000{n}.jpg" for n in (1, 2, 3)]


def test_where_the_images_are_looked_for(tmp_path: Path) -> None:
    lines = ("1", "A 1 2", "A 1 B 1")

    def bases(images: Path | None = None) -> set[Path]:
        read = _read(tmp_path, *lines, images=images).images
        return {image.path.parents[1] for image in read}

    root = tmp_path / "images"
    for place in ("lfw_funneled", "lfw-deepfunneled", "lfw", ""):
        # One image is enough, and whichever place is taken, it is taken for all of them.
        touch(root / place, "B/B_0001.jpg")
        assert bases(root) == {root / place}
    touch(tmp_path / "lfw", "A/A_0002.jpg")
    assert bases() == {tmp_path / "lfw"}


def test_any_suffix_of_an_image(tmp_path: Path) -> None:
    touch(tmp_path, "A/A_0001.png", "A/A_0002.JPG", "B/B_0001.txt", "C/C_0001.pgm", "C/C_0001.jpg")
    data = _read(tmp_path, "1 2", "A 1 2", "C 1 2", "A 1 B 1", "C 1 B 1")
    assert {image.name for image in data.images} == {
        "A/A_0001.png", "A/A_0002.JPG", "B/B_0001.jpg", "C/C_0001.jpg", "C/C_0002.jpg",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], r"line 1: '' is not the first line of LFW's pairs.txt, '10<tab>300'"),
        (["A 1 2"], r"line 1: 'A\\t1\\t2' is not the first line"),
        (["10 300 5"], "line 1: .* is not the first line"),
        (["-1"], "line 1: '-1' is not the first line"),
        (["٣"], "line 1: '٣' is not the first line"),
        (["1 0"], r"line 1: '1\\t0' says that there are no pairs"),
        (["1 1", "A 1", "A 1 B 1"], r"line 2: 'A\\t1' is not a mated pair, 'name<tab>n1<tab>n2'"),
        (["1 1", "A 1 B 1", "A 1 B 1"], "line 2: .* is not a mated pair"),
        (["1 1", "A 1 2", "A 1 2"], "line 3: .* is not a non-mated pair, 'name1<tab>n1<tab>name2"),
        (["1 1", "A 1 2", "A 1 B"], "line 3: .* is not a non-mated pair"),
        (["1 1", "A 1 2", "", "A 1 B 1"], "line 3: '' is not a non-mated pair"),
        (
            ["1 1", "A 1 x", "A 1 B 1"],
            r"line 2: 'A\\t1\\tx' is not a mated pair, .* n being a number",
        ),
        (["1 1", "A 1 2", "A ² B 1"], "line 3: .* is not a non-mated pair, .* n being a number"),
        (["1 1", " 1 2", "A 1 B 1"], "line 2: .* is not a mated pair"),
        (["1 1", "A 1 01", "A 1 B 1"], r"line 2: 'A\\t1\\t01' pairs an image with itself"),
        (["1 1", "A 1 2", "A 1 A 1"], "line 3: .* pairs an image with itself"),
        (["1 1", "A 1 2", "A 1 A 2"], "line 3: .* is of one subject, 'A', where non-mated pairs"),
        (
            ["2 1", "A 1 2", "A 1 B 1"],
            "line 3: .* after 2 pairs, but line 1 says 2 x 2 x 1 = 4 pairs",
        ),
        (["1 1"], "line 1: the file ends after 0 pairs"),
        (["1", "A 1 2", "A 1 B 1", "A 1 B 2"], "line 4: line 1 says 1 x 2 x 1 = 2 pairs, and here"),
        (["999999999 999999999", "A 1 2"], "line 2: the file ends after 1 pairs"),
        (
            ["1", "X 1 2", "X 1 Y 1"],
            "none of its 3 images is there; the first is 'X/X_0001.jpg', looked",
        ),
    ],
)
def test_what_is_refused_names_file_line_and_value(
    tmp_path: Path, lines: list[str], message: str
) -> None:
    touch(tmp_path, "A/A_0001.jpg")
    with pytest.raises(
        InputError, match=f"{re.escape(shown(str(tmp_path / 'pairs.txt')))}.*{message}"
    ):
        _read(tmp_path, *lines)  # fmt: skip


NAMES = st.text("abcxyz_- é", min_size=1, max_size=6).filter(lambda name: name == name.strip())
NUMBERS = st.integers(0, 12_000)
IMAGES = st.tuples(NAMES, NUMBERS)
MATED = st.tuples(NAMES, NUMBERS, NUMBERS).filter(lambda pair: pair[1] != pair[2])
NON_MATED = st.tuples(IMAGES, IMAGES).filter(lambda pair: pair[0][0] != pair[1][0])


@given(st.data(), st.integers(1, 3), st.integers(1, 4))
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject, folds: int, count: int
) -> None:
    lines, wanted = [f"{folds}\t{count}"], []
    for fold in range(1, folds + 1):
        for name, one, other in draw.draw(st.lists(MATED, min_size=count, max_size=count)):
            lines.append(f"{name}\t{one}\t{other}")
            wanted.append(((name, one), (name, other), True, fold))
        for left, right in draw.draw(st.lists(NON_MATED, min_size=count, max_size=count)):
            lines.append(f"{left[0]}\t{left[1]}\t{right[0]}\t{right[1]}")
            wanted.append((left, right, False, fold))
    folder = tmp_path_factory.mktemp("lfw")
    touch(folder, "{0}/{0}_{1:04d}.jpg".format(*wanted[0][0]))
    (folder / "pairs.txt").write_text("\n".join(lines), encoding="utf-8")
    data = read_data(folder / "pairs.txt")
    assert data.pairs is not None
    read = []
    for pair in data.pairs:
        ends = []
        for image in (data.images[pair.probe], data.images[pair.reference]):
            assert image.name.startswith(f"{image.subject}/{image.subject}_")
            ends.append((image.subject, int(image.path.stem.rpartition("_")[2])))
        read.append((*ends, pair.mated, pair.fold))
    assert read == wanted
    assert len(set(data.images)) == len(data.images)
