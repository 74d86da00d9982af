"""Of what an encrypted gallery holds, no byte lies anywhere: the file, its log, temporary files, messages."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from tests.unit.gallery.files import file_bytes, reopen, run_python, templates, units
from verifykit.gallery import SqliteGallery, encrypt_gallery

KEY = bytes(range(32))
PEOPLE = 60


def secrets_of(numbers: range) -> list[bytes]:
    """Ids, metadata, reason codes and crops of these people, and their embeddings in pieces of 16 bytes."""
    pieces = [b"too_dark_but_taken", b"conspicuous", b"MARKEDCROP"]
    for i in numbers:
        pieces += [name_of(i).encode(), f"secret of {i:05}".encode()]
        for seed in (i, 1000 + i):
            raw = units(seed, 2).tobytes()
            pieces += [raw[at : at + 16] for at in range(0, len(raw), 16)]
    return pieces


def name_of(number: int) -> str:
    return f"conspicuous-subject-{number:05}"


def found_in(content: bytes, pieces: list[bytes]) -> list[bytes]:
    return [piece for piece in pieces if piece in content]


# Enrolment, appending, replaced metadata, removal, a search, and an end by SIGKILL with a full log.
LIFE = """
    import logging, signal, sqlite3
    from verifykit.types import Template
    from tests.unit.gallery.test_encrypted_bytes import KEY, PEOPLE, name_of

    logging.basicConfig(level=logging.DEBUG)
    for run in range(2):
        gallery = reopen(PATH, key=KEY)
        for i in range(run * PEOPLE // 2, (run + 1) * PEOPLE // 2):
            marked = [Template(row, DIGEST, reasons=("too_dark_but_taken",)) for row in units(i, 2)]
            gallery.add(name_of(i), marked, {"note": f"secret of {i:05}" * (1 + i % 50)},
                        crops=[b"MARKEDCROP" * 100] * 2)
            gallery.add(name_of(i), templates(1000 + i, 2), {"note": f"secret of {i:05}"} if i % 2 else None)
            if i % 5 == 4:
                gallery.remove(name_of(i - 1))
        gallery.search(units(3, 4), 5, -1.0)
        gallery.get(name_of(0))
        gallery.check()
        if run == 0:
            gallery.close()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name == "nt", reason="takes SIGKILL")
def test_nothing_of_anybody_is_in_clear_even_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, folder = tmp_path / "temporary", tmp_path / "gallery"
    temporary.mkdir()
    folder.mkdir()
    path = folder / "staff.db"
    for name in ("TMPDIR", "SQLITE_TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(temporary))
    before = temporary.stat().st_mtime_ns
    with pytest.raises(AssertionError, match="exit status -9") as killed:
        run_python(LIFE, path)
    # A file that was made and unlinked at once would have touched the folder.
    assert temporary.stat().st_mtime_ns == before
    assert {part.name for part in folder.iterdir()} == {"staff.db", "staff.db-wal", "staff.db-shm"}
    content = file_bytes(path) + str(killed.value).encode()
    pieces = secrets_of(range(PEOPLE))
    assert found_in(content, pieces) == []
    with reopen(path, key=KEY) as gallery:
        assert gallery.check() == []
        assert len(gallery) == PEOPLE - PEOPLE // 5
        assert gallery.get(name_of(0)).metadata == {"note": f"secret of {0:05}"}
        assert len(gallery.crops(name_of(0))) == 2
    assert found_in(file_bytes(path), pieces) == []


def test_the_same_search_finds_them_in_a_gallery_in_clear(path: Path) -> None:
    """Otherwise the test above would show nothing."""
    with reopen(path) as gallery:
        for i in range(3):
            gallery.add(name_of(i), templates(i, 2), {"note": f"secret of {i:05}"})
            gallery.add(name_of(i), templates(1000 + i, 2))
        content = file_bytes(path)
    marked = {b"too_dark_but_taken", b"MARKEDCROP"}
    assert set(secrets_of(range(3))) - set(found_in(content, secrets_of(range(3)))) == marked


def test_removing_leaves_no_byte_of_an_embedding_in_a_gallery_in_clear(
    gallery: SqliteGallery, path: Path
) -> None:
    for i in range(PEOPLE):
        gallery.add(name_of(i), templates(i, 2), {"note": f"secret of {i:05}"})
        gallery.add(name_of(i), templates(1000 + i, 2))
    for i in range(0, PEOPLE, 2):
        gallery.remove(name_of(i))
    content = file_bytes(path)
    for i in range(0, PEOPLE, 2):
        assert found_in(content, secrets_of(range(i, i + 1))[3:]) == []
        assert found_in(content, secrets_of(range(i + 1, i + 2))[3:])


def test_encrypting_a_file_leaves_nothing_of_it_in_clear(path: Path) -> None:
    """Through pages that were split, rows that were erased, and metadata that was replaced."""
    with reopen(path) as gallery:
        for i in range(PEOPLE):
            gallery.add(
                name_of(i), templates(i, 2), {"note": f"secret of {i:05}" * (1 + i * 7 % 90)}
            )
        for i in range(0, PEOPLE, 3):
            gallery.add(name_of(i), templates(1000 + i, 2), {"note": f"secret of {i:05}"})
            gallery.remove(name_of(i + 1))
        assert found_in(file_bytes(path), secrets_of(range(PEOPLE)))
        encrypt_gallery(path, KEY)
        assert found_in(file_bytes(path), secrets_of(range(PEOPLE))) == []
    assert found_in(file_bytes(path), secrets_of(range(PEOPLE))) == []
    with reopen(path, key=KEY) as again:
        assert again.check() == []
        assert len(again) == 2 * PEOPLE // 3


def test_the_keyed_hashes_of_a_file_in_clear_go_when_it_is_encrypted(path: Path) -> None:
    """With the old salt they would tell by trial who is enrolled."""
    with reopen(path) as gallery:
        for i in range(200):
            gallery.add(name_of(i), templates(i))
    connection = sqlite3.connect(path)
    salt = connection.execute("SELECT value FROM meta WHERE key = 'id_salt'").fetchone()[0]
    hashes = connection.execute("SELECT id_key FROM subject").fetchall()
    connection.close()
    stored = [number.to_bytes(8, "big", signed=True) for (number,) in hashes]
    assert len(found_in(file_bytes(path), [salt, *stored])) == 201
    encrypt_gallery(path, KEY)
    assert found_in(file_bytes(path), [salt, *stored]) == []
