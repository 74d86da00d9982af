"""An encryption that was interrupted, or disturbed by another: it goes on, and nothing is lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.gallery.files import file_bytes, people, reopen, templates
from verifykit.errors import GalleryError, GalleryFormatError, GalleryKeyError
from verifykit.gallery import encrypt_gallery
from verifykit.gallery.sqlite import rekey

KEY, OTHER, THIRD = bytes(range(32)), bytes(32), b"3" * 32


class StopError(Exception):
    """Where a run is cut off."""


def stop_at(batch: int) -> Callable[[int, int], None]:
    calls = iter(range(10**6))

    def progress(done: int, total: int) -> None:
        if next(calls) == batch:
            raise StopError

    return progress


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rekey, "_BATCH", 5)


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("batch", [0, 1, 3, 5])
def test_an_interrupted_run_is_continued_and_loses_no_change(
    full: Path, batch: int, rotate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (OTHER, KEY) if rotate else (None, KEY)
    if rotate:
        encrypt_gallery(full, OTHER)
    with pytest.raises(StopError):
        encrypt_gallery(full, new, old_key=old, on_progress=stop_at(batch))
    with reopen(full, key=old) as gallery:
        assert gallery.info()["sealing_unfinished"]
        gallery.add("s2", templates(400), {"changed": True})
        gallery.add("s29", templates(401))
        gallery.remove("s3")
        gallery.remove("s28")
        gallery.add("s3", templates(402))
        gallery.add("late", templates(403))
        assert gallery.check() == []
        before = people(gallery)
    read: list[int] = []
    original = rekey.rekeyed_subject

    def counting(*arguments: object) -> object:
        read.append(arguments[4])  # type: ignore[arg-type]
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(rekey, "rekeyed_subject", counting)
    encrypt_gallery(full, new, old_key=old)
    assert len(read) == len(
        set(read)
    )  # each subject once, and of those before the cut the changed ones
    assert len(read) <= max(0, len(before) - 5 * batch) + 4
    with reopen(full, key=new) as gallery:
        assert gallery.check() == []
        assert people(gallery) == before
        assert "sealing_unfinished" not in gallery.info()


def test_with_another_key_it_begins_anew(full: Path) -> None:
    with reopen(full) as gallery:
        before = people(gallery)
    for key in (KEY, OTHER):
        with pytest.raises(StopError):
            encrypt_gallery(full, key, on_progress=stop_at(3))
    encrypt_gallery(full, THIRD)
    with reopen(full, key=THIRD) as gallery:
        assert gallery.check() == []
        assert people(gallery) == before


@pytest.mark.parametrize("finishes", [True, False])
def test_two_runs_with_two_keys_do_not_mix(full: Path, finishes: bool) -> None:
    with reopen(full) as gallery:
        before = people(gallery)
    calls: list[int] = []

    def other_run(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == 3 and finishes:
            encrypt_gallery(full, OTHER)
        elif len(calls) == 3:
            with pytest.raises(StopError):
                encrypt_gallery(full, OTHER, on_progress=stop_at(2))

    wanted = (
        (GalleryKeyError, "no key was given") if finishes else (GalleryError, "at the same time")
    )
    with pytest.raises(wanted[0], match=wanted[1]):
        encrypt_gallery(full, KEY, on_progress=other_run)
    assert encrypt_gallery(full, OTHER).already is finishes
    with reopen(full, key=OTHER) as gallery:
        assert gallery.check() == []
        assert people(gallery) == before


def test_what_was_laid_beside_and_damaged_replaces_nothing(full: Path) -> None:
    with reopen(full) as gallery:
        before = people(gallery)
    for damage in (
        "DELETE FROM sealing_subject WHERE row = 3",
        "DELETE FROM sealing_template WHERE subject = 3",
        "DELETE FROM sealing_content WHERE row = 6",
        "UPDATE sealing_state SET value = 10000 WHERE key = 'revision'",
    ):
        with pytest.raises(StopError):
            encrypt_gallery(full, KEY, on_progress=stop_at(3))
        connection = sqlite3.connect(full)
        connection.execute(damage)
        connection.commit()
        connection.close()
        with pytest.raises(GalleryFormatError, match="starts again"):
            encrypt_gallery(full, KEY)
        with reopen(full) as gallery:
            assert people(gallery) == before
        with pytest.raises(StopError):
            encrypt_gallery(full, OTHER, on_progress=stop_at(0))
    encrypt_gallery(full, OTHER)
    with reopen(full, key=OTHER) as gallery:
        assert people(gallery) == before


def test_what_is_removed_meanwhile_is_erased_beside_too(full: Path) -> None:
    with pytest.raises(StopError):
        encrypt_gallery(full, KEY, on_progress=stop_at(5))

    def laid_beside() -> list[bytes]:
        connection = sqlite3.connect(full)
        found = connection.execute(
            "SELECT embedding FROM sealing_template WHERE subject = 2 UNION ALL SELECT body "
            "FROM sealing_content c JOIN sealing_subject s ON c.row IN (s.id_content, s.metadata_content) "
            "WHERE s.row = 2"
        ).fetchall()
        connection.close()
        return [blob for (blob,) in found]

    encrypted = laid_beside()
    assert len(encrypted) == 4
    assert all(map(any, encrypted))
    with reopen(full) as gallery:
        gallery.remove("s1")
        assert not any(map(any, laid_beside()))
        content = file_bytes(full)
        assert not [blob for blob in encrypted if blob in content]
