"""Encrypting a gallery in its place, and exchanging its key."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from tests.unit.gallery.files import file_bytes, people, reopen, templates, units
from verifykit.errors import GalleryFormatError, GalleryKeyError, GalleryLockedError
from verifykit.gallery import SqliteGallery, encrypt_gallery, key_fingerprint

KEY, OTHER, THIRD = bytes(range(32)), bytes(32), b"3" * 32


def test_it_holds_the_same_afterwards_and_goes_on(full: Path) -> None:
    with reopen(full) as gallery:
        before, enrolments, info = people(gallery), gallery.enrolments(), gallery.info()
        found = gallery.search(units(7, 2), 5, -1.0)
    report = encrypt_gallery(full, KEY)
    assert (report.subject_count, report.already) == (len(before), False)
    assert report.key_fingerprint == key_fingerprint(KEY)
    with reopen(full, key=KEY) as gallery:
        assert gallery.check() == []
        assert (people(gallery), gallery.enrolments()) == (before, enrolments)
        after = gallery.info()
        for name in ("created", "revision", "subject_count", "template_count", "spec_digest"):
            assert after[name] == info[name]
        assert gallery.search(units(7, 2), 5, -1.0) == found
        gallery.add("new", templates(200))
        gallery.remove("s1")
        assert gallery.check() == []
    with reopen(full, key=KEY) as again:
        assert set(again.subject_ids()) == set(before) - {"s1"} | {"new"}


def test_a_key_is_exchanged_and_the_old_one_opens_it_no_more(full: Path) -> None:
    encrypt_gallery(full, KEY)
    with reopen(full, key=KEY) as gallery:
        gallery.add("kept", templates(300, 2), crops=[b"one", b"two"])
        before = people(gallery)
    encrypted = file_bytes(full)
    report = encrypt_gallery(full, OTHER, old_key=KEY)
    assert report.key_fingerprint == key_fingerprint(OTHER)
    with pytest.raises(GalleryKeyError, match=key_fingerprint(OTHER)):
        reopen(full, key=KEY)
    with reopen(full, key=OTHER) as gallery:
        assert gallery.check() == []
        assert people(gallery) == before
        assert gallery.crops("kept") == [b"one", b"two"]
    connection = sqlite3.connect(full)
    blobs = [blob for (blob,) in connection.execute("SELECT embedding FROM template") if any(blob)]
    connection.close()
    assert len(blobs) > 50
    assert not [blob for blob in blobs if blob[:16] in encrypted]


def test_run_again_when_it_is_done_it_says_so(full: Path) -> None:
    encrypt_gallery(full, KEY)
    before = full.read_bytes()
    assert encrypt_gallery(full, KEY).already
    assert full.read_bytes() == before
    encrypt_gallery(full, OTHER, old_key=KEY)
    assert encrypt_gallery(full, OTHER, old_key=KEY).already


def test_keys_that_do_not_fit_change_nothing(full: Path) -> None:
    before = full.read_bytes()
    with pytest.raises(GalleryKeyError, match="not encrypted"):
        encrypt_gallery(full, OTHER, old_key=KEY)
    with pytest.raises(GalleryKeyError, match="not a key: 32 bytes"):
        encrypt_gallery(full, b"short")
    assert full.read_bytes() == before
    encrypt_gallery(full, KEY)
    before = full.read_bytes()
    with pytest.raises(GalleryKeyError, match=r"encrypted already, with key .*rotate-key"):
        encrypt_gallery(full, OTHER)
    with pytest.raises(GalleryKeyError, match="was given"):
        encrypt_gallery(full, OTHER, old_key=THIRD)
    assert full.read_bytes() == before


def test_who_has_it_open_without_the_key_is_told_and_nothing_is_stored(full: Path) -> None:
    with reopen(full) as writer, SqliteGallery.open_existing(full) as reader:
        reader.search(units(1, 1), 1, 0.9)
        encrypt_gallery(full, KEY)
        for call in (
            lambda: reader.search(units(1, 1), 1, 0.9),
            lambda: reader.get("s1"),
            lambda: len(reader),
            lambda: writer.add("late", templates(500)),
            lambda: writer.remove("s1"),
        ):
            with pytest.raises(GalleryKeyError, match="no key was given"):
                call()
    with reopen(full, key=KEY) as gallery:
        assert "late" not in set(gallery.subject_ids())
        assert gallery.check() == []


def test_who_reads_the_key_from_where_the_new_one_lies_goes_on(full: Path) -> None:
    held = [KEY]
    encrypt_gallery(full, KEY)
    with reopen(full, key=lambda: held[0]) as gallery:
        read: list[str] = []
        assert gallery.search(units(1, 1), 1, 0.9)[0][0].subject_id == "s1"
        encrypt_gallery(full, OTHER, old_key=KEY)
        with pytest.raises(GalleryKeyError, match=key_fingerprint(OTHER)):
            gallery.search(units(1, 1), 1, 0.9)
        held[0] = OTHER
        original = gallery._index._embeddings
        gallery._index._embeddings = lambda blobs, ids: (read.extend(ids), original(blobs, ids))[1]  # type: ignore[method-assign]
        assert gallery.search(units(1, 1), 1, 0.9)[0][0].subject_id == "s1"
        assert read == []  # what is in memory is still true
        gallery.add("late", templates(500))
        found = gallery.search(np.concatenate([units(1, 1), units(500, 1)]), 1, 0.9)
        assert [each[0].subject_id for each in found] == ["s1", "late"]
        assert read == ["late"]


def test_a_damaged_gallery_stays_as_it_is(full: Path) -> None:
    connection = sqlite3.connect(full)
    connection.execute("UPDATE content SET body = x'ff' WHERE row = 4")
    connection.commit()
    connection.close()
    with pytest.raises(GalleryFormatError, match="'s1' is damaged"):
        encrypt_gallery(full, KEY)
    with reopen(full) as gallery:
        assert gallery.info()["encrypted"] == "no"
        assert len(gallery.get("s2").templates) == 2


def test_a_reader_that_keeps_the_old_bytes_is_said(full: Path) -> None:
    other = sqlite3.connect(full, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM subject").fetchall()
    with pytest.raises(GalleryLockedError, match="run the same command again"):
        encrypt_gallery(full, KEY, timeout_s=0.1)
    other.execute("ROLLBACK")
    other.close()
    assert encrypt_gallery(full, KEY).already
    assert units(1, 2).tobytes()[:16] not in file_bytes(full)
