"""A CSV file of pairs."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tests.unit.evaluation.made import touch
from verifykit.datasets import Dataset, LabelledImage, ListedPair
from verifykit.errors import InputError, shown
from verifykit.evaluation.pairs import read_data

PLAIN, SUBJECTS = "probe,reference,mated", "probe,reference,mated,probe_subject,reference_subject"


def _read(folder: Path, *lines: str) -> Dataset:
    path = touch(folder, "a", "b") / "data.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_data(path)


def test_subjects_are_what_mated_pairs_connect(tmp_path: Path) -> None:
    rows = ["d,c,TRUE", "b,a,No", "./c,b,yes", "e,a,0", "a,e,false", "f,g,1"]
    data = _read(tmp_path, PLAIN, *rows)
    assert (data.kind, data.source) == ("pairs", tmp_path / "data.csv")
    assert {image.name: image.subject for image in data.images} == {
        "d": "b", "c": "b", "b": "b", "a": "a", "e": "e", "f": "f", "g": "f",
    }  # fmt: skip
    assert [image.path for image in data.images] == [tmp_path / name for name in "dcbaefg"]
    assert data.subjects == ("a", "b", "e", "f")
    assert data.pairs == tuple(
        ListedPair(probe, reference, mated)
        for probe, reference, mated in (
            (0, 1, True), (2, 3, False), (1, 2, True), (4, 3, False), (3, 4, False), (5, 6, True),
        )
    )  # fmt: skip


def test_subjects_folds_attacks_and_groups(tmp_path: Path) -> None:
    data = _read(
        tmp_path,
        "Age,Probe,Reference,Mated,probe_subject,reference_subject,attack,fold",
        "3,a,b,1,anna,anna,,0",
        "4,c,b,0,bert,anna,random_forgery,10",
        ",f,b,0,anna,anna,skilled_forgery,10",
        ",f,c,0,anna,bert,,10",
    )
    assert data.images == (
        LabelledImage(tmp_path / "a", "a", "anna"),
        LabelledImage(tmp_path / "b", "b", "anna"),
        LabelledImage(tmp_path / "c", "c", "bert"),
        LabelledImage(tmp_path / "f", "f", "anna", is_forgery=True),
    )
    assert data.pairs == (
        ListedPair(0, 1, mated=True, fold=0, groups={"Age": "3"}),
        ListedPair(2, 1, mated=False, fold=10, groups={"Age": "4"}),
        ListedPair(3, 1, mated=False, fold=10, groups={"Age": ""}, is_skilled=True),
        ListedPair(3, 2, mated=False, fold=10, groups={"Age": ""}),
    )


def test_a_forgery_is_of_the_subject_that_it_imitates(tmp_path: Path) -> None:
    rows = ["g,h,1,", "0,g,0,skilled_forgery", "0,i,0,skilled_forgery", "0,a,0,", "b,a,1,"]
    data = _read(tmp_path, PLAIN + ",attack", *rows)
    # "0" is the first name, but no genuine image of anybody; it makes h and i images of one subject.
    assert {image.name: (image.subject, image.is_forgery) for image in data.images} == {
        "0": ("g", True), "g": ("g", False), "h": ("g", False), "i": ("g", False),
        "a": ("a", False), "b": ("a", False),
    }  # fmt: skip
    assert data.pairs is not None
    assert [pair.is_skilled for pair in data.pairs] == [False, True, True, False, False]


def test_a_pair_that_is_listed_twice_is_two_pairs(tmp_path: Path) -> None:
    data = _read(tmp_path, PLAIN, "a,b,1", "a,b,1", "c,a,0")
    assert data.pairs is not None
    assert len(data.pairs) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{PLAIN},probe_subject|a,b,1,x", "has the column probe_subject alone: give both"),
        (f"{PLAIN}|a,b,1|,b,0", "line 3: probe is empty"),
        (f"{PLAIN}|a, ,1", "line 2: reference is empty"),
        (f"{SUBJECTS}|a,b,1,,x", "line 2: probe_subject is empty"),
        (f"{SUBJECTS}|a,b,1,x,", "line 2: reference_subject is empty"),
        (f"{PLAIN},fold|a,b,1,", "line 2: fold is empty"),
        (f"{PLAIN},fold|a,b,1,1.5", "line 2: fold '1.5' is not a number"),
        (f"{PLAIN},fold|a,b,1,²", "line 2: fold '²' is not a number"),
        (f"{PLAIN},fold|a,b,1,{'9' * 5000}", "line 2: fold '9999"),
        (f"{PLAIN}|a,b,2", "line 2: mated is '2', and not one of 1, true, yes, 0, false, no"),
        (f"{PLAIN}|a,b,", "line 2: mated is ''"),
        (f"{PLAIN},attack|a,b,0,forged", "line 2: attack 'forged' is not one of random_forgery"),
        (
            f"{PLAIN},attack|a,b,1,random_forgery",
            "line 2: attack is 'random_forgery', but the pair is mated",
        ),
        (f"{PLAIN}|a,./a,1", "line 2: 'a' is paired with itself"),
        (
            f"{PLAIN}|a,b,1|b,c,1||c,a,0",
            "line 5: 'c' and 'a' are not mated here, but other lines make them of one subject, 'a'",
        ),
        (
            f"{PLAIN}|c,a,0|a,b,1|b,c,1",
            "line 2: 'c' and 'a' are not mated here, but other lines make them of one subject, 'a'",
        ),
        (f"{SUBJECTS}|a,b,1,x,y", "line 2: the pair is mated, but of subjects 'x' and 'y'"),
        (
            f"{SUBJECTS}|a,b,1,x,x|c,a,0,x,x",
            "line 3: 'c' and 'a' are not mated here, but the columns of subjects make them of one",
        ),
        (
            f"{SUBJECTS}|a,b,1,x,x|c,a,0,y,z",
            "line 3: 'a' is of subject 'z' here, and of 'x' on line 2",
        ),
        (
            f"{SUBJECTS},attack|c,a,0,y,x,skilled_forgery",
            "line 2: the probe is a skilled_forgery, so its subject is whom it imitates: 'x', not 'y'",
        ),
        (
            f"{PLAIN},attack|a,b,1,|a,c,0,skilled_forgery",
            "line 3: 'a' is a skilled_forgery here, but line 2 takes it for genuine",
        ),
        (
            f"{PLAIN},attack|a,b,0,skilled_forgery|b,c,0,skilled_forgery",
            "line 3: 'b' is a skilled_forgery here, but line 2 takes it for genuine",
        ),
        (
            f"{PLAIN},attack|f,a,0,skilled_forgery|a,b,1,|b,f,0,",
            "line 4: 'b' and 'f' are not mated here, .* write skilled_forgery in a column attack",
        ),
        (
            f"{PLAIN}|a,b,1|b,c,1",
            "all 2 pairs of .* are mated: error rates need non-mated ones too",
        ),
        (f"{PLAIN}|a,b,0", "all 1 pairs of .* are non-mated: error rates need mated ones too"),
        (
            f"{PLAIN}|x,y,1|y,z,0",
            "none of its 3 images is there; the first is 'x', looked for in '/",
        ),
    ],
)
def test_what_is_refused_names_file_line_and_value(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        _read(tmp_path, *text.split("|"))
    assert shown(str(tmp_path / "data.csv")) in str(caught.value)


@given(st.lists(st.integers(0, 4), min_size=3, max_size=12), st.data())
def test_subjects_are_the_connected_components(
    tmp_path_factory: pytest.TempPathFactory, people: list[int], draw: st.DataObject
) -> None:
    people = [0, 0, 1, *people]
    numbers = st.integers(0, len(people) - 1)
    drawn = draw.draw(st.lists(st.tuples(numbers, numbers).filter(lambda ends: ends[0] != ends[1])))
    ends = [(0, 1), (1, 2), *drawn]
    mated = [people[one] == people[other] for one, other in ends]
    path = touch(tmp_path_factory.mktemp("csv"), "0,0") / "data.csv"
    with path.open("w", newline="") as file:
        rows = [
            (f"{one},{one}", f"{other},{other}", int(m))
            for (one, other), m in zip(ends, mated, strict=True)
        ]
        csv.writer(file).writerows([PLAIN.split(","), *rows])  # fmt: skip
    data = read_data(path)
    assert data.pairs is not None
    names = [image.name for image in data.images]
    assert [(names[p.probe], names[p.reference], int(p.mated)) for p in data.pairs] == rows
    edges = np.array([pair for pair, same in zip(ends, mated, strict=True) if same]).T
    graph = coo_array((np.ones(edges.shape[1]), tuple(edges)), shape=(len(people),) * 2)
    labels = connected_components(graph, directed=False)[1]
    for image in data.images:
        label = labels[int(image.name.split(",")[0])]
        same = [name for name in names if labels[int(name.split(",")[0])] == label]
        assert image.subject == min(same)


def test_paths_are_relative_to_the_folder_of_images(tmp_path: Path) -> None:
    path = touch(tmp_path, "images/a/1.jpg") / "data.csv"
    path.write_text(f"{PLAIN}\na/1.jpg,a/2.jpg,1\na/1.jpg,{tmp_path.as_posix()}/x,0\n")
    images = read_data(path, images=tmp_path / "images").images
    assert [image.name for image in images] == ["a/1.jpg", "a/2.jpg", f"{tmp_path.as_posix()}/x"]
    assert images[1].path == tmp_path / "images" / "a" / "2.jpg"
    assert images[2].path == tmp_path / "x"
    with pytest.raises(InputError, match=f"looked for in {re.escape(shown(str(tmp_path)))}"):
        read_data(path)
