"""Copies with pages of two moments, made page by page: refused, or the one moment or the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.unit.gallery.files import reopen, templates, units
from verifykit.errors import GalleryFormatError
from verifykit.gallery import SqliteGallery
from verifykit.spec import Fusion

PAGE = 8192
PEOPLE = 100
KEY = bytes(32)

State = dict[str, tuple[list[bytes], int, list[str]]]


def contents(gallery: SqliteGallery) -> State:
    """Of everybody: templates, metadata, and whom a search for the first template finds."""
    ids = list(gallery.subject_ids())
    people = [gallery.get(name) for name in ids]
    rows = np.stack([person.templates[0].embedding for person in people])
    found = gallery.search(rows, 3, 0.9)
    return {
        person.subject_id: (
            [template.embedding.tobytes() for template in person.templates],
            person.metadata["n"],
            [candidate.subject_id for candidate in candidates],
        )
        for person, candidates in zip(people, found, strict=True)
    }


def change(gallery: SqliteGallery, what: str) -> None:
    for i in range(PEOPLE, PEOPLE + 20) if what in ("add", "both") else ():
        gallery.add(f"s{i}", templates(i, 2), {"n": i})
    for i in range(0, 40, 3) if what in ("remove", "both") else ():
        gallery.remove(f"s{i}")


@pytest.mark.parametrize("what", ["add", "remove", "both"])
@pytest.mark.parametrize(
    ("fusion", "key"), [("max", None), ("mean", None), pytest.param("max", KEY, id="encrypted")]
)
def test_no_mixture_of_two_moments_is_answered_from(
    path: Path, tmp_path: Path, what: str, fusion: Fusion, key: bytes | None
) -> None:
    with reopen(path, fusion=fusion, key=key) as gallery:
        for i in range(PEOPLE):
            gallery.add(f"s{i}", templates(i, 2), {"n": i})
    before = path.read_bytes()
    with reopen(path, fusion=fusion, key=key) as gallery:
        old = contents(gallery)
        change(gallery, what)
        new = contents(gallery)
    after = path.read_bytes()
    pages = len(before) // PAGE
    refused = 0
    for cut in range(1, pages):
        # As `cp` reads from the front while a checkpoint writes, and one that overtakes it.
        for number, mixture in enumerate(
            (
                before[: cut * PAGE] + after[cut * PAGE :],
                after[: cut * PAGE] + before[cut * PAGE :],
            )
        ):
            copy = tmp_path / f"copy-{cut}-{number}.gallery"
            copy.write_bytes(mixture)
            try:
                with SqliteGallery.open_existing(copy, fusion=fusion, key=key) as opened:
                    assert contents(opened) in (old, new), (cut, number)
            except GalleryFormatError:
                refused += 1
    assert refused > pages // 2


def test_a_sound_file_stays_open_to_everything(path: Path) -> None:
    """What ends early, and what is done twice, leaves the numbers in step."""
    with reopen(path) as gallery:
        for i in range(30):
            gallery.add(f"s{i}", templates(i, 2), {"n": i})
            if i % 4 == 3:
                gallery.remove(f"s{i}")
                gallery.add(f"s{i - 1}", templates(100 + i), {"n": -i})
                with pytest.raises(ZeroDivisionError):
                    gallery.add_entries((1 / 0 for _ in range(2)), "append")  # type: ignore[misc]
            with reopen(path, read_only=True) as other:
                assert len(other) == i + 1 - (i + 1) // 4
        for name in list(gallery.subject_ids()):
            gallery.remove(name)
    with reopen(path) as gallery:
        assert gallery.search(units(1, 1), 1, 0.9) == [[]]
        assert gallery.check() == []
