"""A file is there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from verifykit import writing
from verifykit.writing import write_whole


def test_a_file_is_made_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for data in (b"one", b"", b"three" * 1000):
        write_whole(path, data)
        assert path.read_bytes() == data
        assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_private_file_is_its_owners(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.json", b"one", private=True)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600


def test_a_reader_of_the_old_file_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_whole(path, b"old and long")
    with path.open("rb") as reader:
        write_whole(path, b"new")
        assert reader.read() == b"old and long"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_what_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    path = tmp_path / "a.json"
    write_whole(path, b"old")
    monkeypatch.setattr(*((writing.os, step) if step == "fsync" else (Path, step)), fail)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "no" / "a.json", b"new")
    assert list(tmp_path.iterdir()) == []
