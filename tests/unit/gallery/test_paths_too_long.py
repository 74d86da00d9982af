"""A path that is too long for SQLite is reported as such, and leaves no file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.gallery.files import reopen, templates
from verifykit.errors import GalleryError


def file_of_length(folder: Path, length: int) -> Path:
    """Return a path of this many bytes, in folders that exist."""
    while length - len(str(folder)) > 120:
        folder = folder / ("x" * 100)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / ("y" * (length - len(str(folder)) - 1))


@pytest.mark.skipif(os.name == "nt", reason="Windows has another limit")
def test_the_longest_path_works_and_a_longer_one_says_why(tmp_path: Path) -> None:
    longest = file_of_length(tmp_path.resolve(), 504)
    with reopen(longest) as gallery:
        gallery.add("a", templates(1))
    for length in (505, 512, 600):
        path = file_of_length(tmp_path.resolve(), length)
        with pytest.raises(GalleryError, match=f"has {length} bytes.*shorter path") as caught:
            reopen(path)
        assert "permissions" not in str(caught.value)
        assert not path.exists()
