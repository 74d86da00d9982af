"""Files and folders that are no gallery, damaged, exchanged, or opened read-only."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from tests.unit.gallery.files import DIGEST, SIZE, reopen, templates, units
from verifykit.errors import GalleryError, GalleryFormatError, InputError, TemplateMismatchError
from verifykit.gallery import SqliteGallery
from verifykit.spec import Fusion


def test_another_model_is_refused_with_what_to_do(gallery: SqliteGallery, path: Path) -> None:
    gallery.add("alice", templates(1))
    with pytest.raises(
        TemplateMismatchError, match=r"model face .*open it with that model, or enrol"
    ):
        SqliteGallery(path, spec_digest="e" * 64, embedding_size=SIZE, model="other")
    with pytest.raises(GalleryFormatError, match="128 values"):
        SqliteGallery(path, spec_digest=DIGEST, embedding_size=64)
    assert len(gallery) == 1


def test_a_file_that_is_no_gallery_is_refused_and_not_changed(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    text, long_text = tmp_path / "notes.txt", tmp_path / "long.txt"
    text.write_text("my gallery")
    long_text.write_text("my gallery\n" * 5000)
    for file in (other, text, long_text):
        before = file.read_bytes()
        with pytest.raises(GalleryFormatError, match="not a verifykit gallery"):
            reopen(file)
        with pytest.raises(GalleryFormatError, match="not a verifykit gallery"):
            SqliteGallery.open_existing(file)
        assert file.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"other.db", "notes.txt", "long.txt"}


def test_paths_that_cannot_be_a_gallery_are_named(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="folder; give the path of a file"):
        reopen(tmp_path)
    with pytest.raises(GalleryError, match="does not exist; make it first"):
        reopen(tmp_path / "none" / "staff.db")
    for opening in (SqliteGallery.open_existing, lambda p: reopen(p, create=False)):
        with pytest.raises(GalleryError, match="no such file"):
            opening(tmp_path / "none.db")
    with pytest.raises(InputError, match="timeout_s"):
        reopen(tmp_path / "a.db", timeout_s=-1)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_a_gallery_not_yet_made(path: Path) -> None:
    path.touch()
    with pytest.raises(GalleryFormatError):
        SqliteGallery.open_existing(path)
    with reopen(path) as gallery:
        gallery.add("alice", templates(1))


def test_a_newer_schema_is_refused(gallery: SqliteGallery, path: Path) -> None:
    gallery.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(GalleryFormatError, match="schema 99, this verifykit reads 1 to 3"):
        reopen(path)


def test_damage_is_found_by_check_and_never_searched(gallery: SqliteGallery, path: Path) -> None:
    for i in range(4):
        gallery.add(f"s{i}", templates(i))
    gallery.close()
    connection = sqlite3.connect(path)
    nan = np.full(SIZE, np.nan, "<f4").tobytes()
    connection.execute("UPDATE template SET embedding = ? WHERE row = 2", (nan,))
    connection.execute("UPDATE template SET embedding = x'00' WHERE row = 3")
    connection.execute(
        "UPDATE content SET body = 'no json' WHERE body = CAST('{}' AS BLOB) AND row = 8"
    )
    connection.execute("DELETE FROM subject WHERE row = 1")
    connection.execute("INSERT INTO removal VALUES (1, 1)")  # removed, but not erased
    connection.commit()
    connection.close()
    with SqliteGallery.open_existing(path) as damaged:
        found = "\n".join(damaged.check())
        for part in ("'s1', template row 2", "'s2', template row 3", "'s3': ", "not erased"):
            assert part in found
        with pytest.raises(GalleryFormatError, match="check"):
            damaged.search(units(0, 1), 1, -1.0)
        with pytest.raises(GalleryFormatError, match="'s2'"):
            damaged.get("s2")


@pytest.mark.parametrize("fusion", ["max", "mean"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE content SET body = 'no json' WHERE row = 4", "metadata of 's1' are damaged"),
        ("UPDATE content SET body = zeroblob(2) WHERE row = 3", "are erased: the file is damaged"),
        ("DELETE FROM content WHERE row = 3", "the subject in row 2 has lost its id"),
        ("UPDATE subject SET row = 99 WHERE row = 2", "row numbers 1 to 99, and 3 were given"),
        ("UPDATE subject SET row = -2 WHERE row = 2", "row numbers -2 to 3, and 3 were given"),
    ],
)
def test_a_damaged_subject_is_an_error_of_ours_in_a_search(
    gallery: SqliteGallery, path: Path, fusion: Fusion, damage: str, message: str
) -> None:
    for i in range(3):
        gallery.add(f"s{i}", templates(i))
    gallery.close()
    connection = sqlite3.connect(path)
    connection.execute(damage)
    connection.commit()
    connection.close()
    with SqliteGallery.open_existing(path, fusion=fusion) as damaged:
        for _ in range(2):
            with pytest.raises(GalleryFormatError, match=message):
                damaged.search(units(1, 1), 1, 0.9)


def test_damaged_pages_are_an_error_of_ours(gallery: SqliteGallery, path: Path) -> None:
    for i in range(60):
        gallery.add(f"s{i}", templates(i))
    gallery.close()
    whole = path.read_bytes()
    page = whole.index(units(30, 1).tobytes()) // 8192 * 8192
    path.write_bytes(whole[:page] + b"\xff" * 64 + whole[page + 64 :])
    with SqliteGallery.open_existing(path) as damaged:
        assert any("file structure" in problem for problem in damaged.check())
        with pytest.raises(GalleryFormatError, match="restore it from an export or a copy"):
            damaged.search(units(0, 1), 1, -1.0)
    path.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))
    with pytest.raises(GalleryFormatError, match="damaged"):
        SqliteGallery.open_existing(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(GalleryFormatError), SqliteGallery.open_existing(path) as cut:
        cut.search(units(0, 1), 1, -1.0)


def test_a_file_put_in_its_place_is_noticed(gallery: SqliteGallery, path: Path) -> None:
    gallery.add("alice", templates(1))
    path.rename(path.with_name("old.db"))
    with pytest.raises(GalleryError, match="gone"):
        gallery.add("bob", templates(2))
    path.write_bytes(b"")
    with pytest.raises(GalleryError, match="another file was put in its place"):
        gallery.search(units(1, 1), 1, 0.5)


def test_read_only_refuses_to_write_and_creates_nothing(path: Path) -> None:
    with pytest.raises(GalleryError, match="no such file"):
        reopen(path, read_only=True)
    reopen(path).close()
    with reopen(path, read_only=True) as gallery:
        for change in (lambda: gallery.add("a", templates(1)), lambda: gallery.remove("a")):
            with pytest.raises(GalleryError, match="read-only"):
                change()
