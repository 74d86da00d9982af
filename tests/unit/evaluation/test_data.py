"""Which kind of data a path is, and the digest of data."""

from __future__ import annotations

import hashlib
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.evaluation.made import touch
from verifykit.datasets import Dataset
from verifykit.errors import InputError
from verifykit.evaluation.pairs import data_digest, read_data

NAMES = ("anna/1.jpg", "anna/2.jpg", "bert/1.jpg", "cleo/1.jpg")


def _digests(data: Dataset) -> list[str]:
    """Of names in the place of contents."""
    return [hashlib.sha256(image.name.encode()).hexdigest() for image in data.images]


def _digest(data: Dataset) -> str:
    return data_digest(data, _digests(data))


def _csv(folder: Path, *lines: str) -> Dataset:
    path = touch(folder, *NAMES) / "data.csv"
    path.write_text("\n".join(lines) + "\n")
    return read_data(path)


def _images(folder: Path, *extra: str) -> Dataset:
    rows = [f"{name},{name.split('/')[0]}," for name in NAMES]
    return _csv(folder, "path,subject,label", *rows, *extra)


def _pairs(folder: Path, *extra: str) -> Dataset:
    rows = ["anna/1.jpg,anna/2.jpg,1,1,", "bert/1.jpg,anna/1.jpg,0,2,", *extra]
    return _csv(folder, "probe,reference,mated,fold,attack", *rows)


@pytest.mark.parametrize("path", ["nothing", "nothing.csv", "data.csv/x", "x" * 5000, "a\0b"])
def test_neither_a_folder_nor_a_file(tmp_path: Path, path: str) -> None:
    touch(tmp_path, "data.csv")
    with pytest.raises(InputError, match=r"there is no folder or file .*: check the path"):
        read_data(tmp_path / path)


@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "data.csv")
    with pytest.raises(InputError, match="neither a folder nor a file"):
        read_data(tmp_path / "data.csv")


def test_the_digest_does_not_depend_on_place_order_or_form(tmp_path: Path) -> None:
    here, there = touch(tmp_path / "here", *NAMES), touch(tmp_path / "there" / "deep", *NAMES)
    folder = read_data(here)
    assert _digest(folder) == _digest(read_data(there)) == _digest(_images(tmp_path / "csv"))
    order = random.Random(1).sample(range(4), 4)
    shuffled = replace(folder, images=tuple(folder.images[number] for number in order))
    assert _digest(shuffled) == _digest(folder)


def test_the_digest_of_pairs_does_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    rows = [
        "cleo/1.jpg,anna/2.jpg,0,2,",
        "bert/1.jpg,cleo/1.jpg,no,1,",
        "anna/2.jpg,anna/1.jpg,1,2,",
    ]
    digests = {_digest(_pairs(tmp_path, *random.Random(n).sample(rows, 3))) for n in range(6)}
    reverse = ["bert/1.jpg,anna/1.jpg,0,2", "anna/1.jpg,anna/2.jpg,1,1"]
    digests.add(
        _digest(_csv(tmp_path, "probe,reference,mated,fold", *(r[:-1] for r in rows), *reverse))
    )
    assert len(digests) == 1  # fmt: skip


def test_the_digest_depends_on_all_that_is_compared(tmp_path: Path) -> None:
    images, pairs = _images(tmp_path), _pairs(tmp_path)
    changed_file = [*_digests(images)[:-1], "missing"]
    everything = [
        _digest(images),
        data_digest(images, changed_file),
        _digest(_images(tmp_path, "new.jpg,anna,")),
        _digest(_images(tmp_path, "new.jpg,bert,")),
        _digest(_images(tmp_path, "new.jpg,anna,skilled_forgery")),
        _digest(pairs),
        _digest(replace(pairs, pairs=None)),
        _digest(replace(pairs, pairs=())),
        _digest(_pairs(tmp_path, "bert/1.jpg,anna/1.jpg,0,2,")),
        _digest(_pairs(tmp_path, "bert/1.jpg,anna/1.jpg,0,3,")),
        _digest(_pairs(tmp_path, "anna/1.jpg,bert/1.jpg,0,2,")),
        _digest(_pairs(tmp_path, "anna/2.jpg,bert/1.jpg,0,2,")),
        _digest(_pairs(tmp_path, "anna/1.jpg,anna/2.jpg,1,1,")),
        _digest(_pairs(tmp_path, "cleo/1.jpg,anna/2.jpg,0,2,")),
        _digest(_pairs(tmp_path, "cleo/1.jpg,anna/2.jpg,0,2,skilled_forgery")),
    ]
    assert len(set(everything)) == len(everything)
    assert all(len(digest) == 64 for digest in everything)


def test_the_digest_wants_one_file_digest_for_each_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="4 images have 1 file digests"):
        data_digest(_images(tmp_path), ["a"])


def test_groups_do_not_change_the_digest(tmp_path: Path) -> None:
    plain = _csv(tmp_path, "path,subject", *(f"{name},{name[:4]}" for name in NAMES))
    grouped = _csv(tmp_path, "path,subject,age", *(f"{name},{name[:4]},3" for name in NAMES))
    assert _digest(plain) == _digest(grouped)
    assert plain != grouped
    assert len({*plain.images, *grouped.images}) == 8
