"""An encrypted gallery file: with its key like any other, without it an error at once."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.model_specs import face_spec
from tests.unit.gallery.files import DIGEST, SIZE, reopen, run_python, templates, units
from verifykit.errors import GalleryError, GalleryFormatError, GalleryKeyError, InputError
from verifykit.gallery import (
    MemoryGallery,
    SqliteGallery,
    checked_entry,
    key_fingerprint,
    open_existing,
    open_for,
    open_gallery,
)
from verifykit.spec import Fusion
from verifykit.types import Template

KEY, OTHER = bytes(range(32)), bytes(32)


@pytest.fixture
def encrypted(path: Path) -> Path:
    with reopen(path, model="face", key=KEY) as gallery:
        gallery.add("alice", templates(1, 3), {"team": "blue"})
        gallery.add("bob", templates(2))
    return path


def test_the_wrong_key_and_no_key_are_errors_at_once(encrypted: Path) -> None:
    before = encrypted.read_bytes()
    for opening in (reopen, SqliteGallery.open_existing):
        with pytest.raises(
            GalleryKeyError, match=f"encrypted .key {key_fingerprint(KEY)}.*--key-file"
        ):
            opening(encrypted)
        both = f"key {key_fingerprint(KEY)}, and key {key_fingerprint(OTHER)} was given"
        with pytest.raises(GalleryKeyError, match=both):
            opening(encrypted, key=OTHER)
        with pytest.raises(GalleryKeyError, match="not a key: 32 bytes"):
            opening(encrypted, key=b"short")
    assert encrypted.read_bytes() == before


def test_a_key_for_a_file_in_clear_is_an_error_and_changes_nothing(path: Path) -> None:
    reopen(path).close()
    before = path.read_bytes()
    for opening in (reopen, SqliteGallery.open_existing):
        with pytest.raises(
            GalleryKeyError, match="not encrypted: encrypt it with `verifykit gallery enc"
        ):
            opening(path, key=KEY)
    assert path.read_bytes() == before


def test_a_key_that_cannot_be_read_makes_no_file(path: Path) -> None:
    with pytest.raises(GalleryKeyError):
        reopen(path, key=path.with_name("no.key"))
    assert not path.exists()


def test_the_key_may_come_from_a_file_the_environment_or_a_callable(
    encrypted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = encrypted.with_name("key")
    file.write_bytes(KEY)
    file.chmod(0o600)
    monkeypatch.setenv("A_KEY", KEY.hex())
    for key in (file, str(file), "env:A_KEY", lambda: KEY):
        with reopen(encrypted, key=key) as gallery:
            assert gallery.get("alice").metadata == {"team": "blue"}


def test_every_way_to_open_a_gallery_takes_the_key(tmp_path: Path) -> None:
    spec = face_spec()
    path = tmp_path / "a.db"
    for _ in range(2):  # made, and opened
        opened = open_gallery(path, spec, key=KEY)
        assert isinstance(opened, SqliteGallery)
        opened.close()
    with pytest.raises(GalleryKeyError):
        open_gallery(path, spec)
    with open_existing(str(path), key=KEY) as gallery:
        assert gallery.info()["encrypted"] == "AES-256-GCM"
    about = {"spec_digest": spec.digest, "embedding_size": spec.embedding_size, "model": "face"}
    with open_for(str(path), fusion="max", key=KEY, **about) as gallery:  # type: ignore[arg-type]
        assert len(gallery) == 0


def test_a_key_for_what_is_no_file_is_refused() -> None:
    spec = face_spec()
    memory = MemoryGallery(spec_digest=spec.digest, embedding_size=spec.embedding_size)
    for location in (None, memory):
        with pytest.raises(InputError, match="key="):
            open_gallery(location, spec, key=KEY)
    with pytest.raises(GalleryKeyError, match="only a gallery in a file"):
        open_gallery("postgresql://127.0.0.1:1/none", spec, key=KEY)
    with pytest.raises(GalleryKeyError, match="only a gallery in a file"):
        open_existing("postgresql://127.0.0.1:1/none", key=KEY)


@pytest.mark.parametrize("fusion", ["max", "mean", "centroid", "spread"])
def test_it_answers_with_the_bits_of_a_gallery_in_memory(path: Path, fusion: Fusion) -> None:
    memory = MemoryGallery(spec_digest=DIGEST, embedding_size=SIZE, fusion=fusion)
    with (
        reopen(path, fusion=fusion, key=KEY) as gallery,
        reopen(path, fusion=fusion, key=KEY) as late,
    ):
        for step in range(40):
            for each in (memory, gallery):
                metadata = {"n": step} if step % 3 else None
                each.add(f"s{step * 7 % 25}", templates(step, 1 + step % 3), metadata)
                if step % 9 == 8:
                    each.remove(f"s{step * 7 % 25}")
            if step % 5 == 0:
                gallery.search(units(1, 2), 3, -1.0)
        probes = np.concatenate([units(i, 2) for i in (3, 17, 99)])
        wanted = memory.search(probes, 30, -1.0)
        assert gallery.search(probes, 30, -1.0) == wanted
        assert late.search(probes, 30, -1.0) == wanted
        assert gallery.check() == []
    with reopen(path, fusion=fusion, key=KEY) as again:
        assert again.search(probes, 30, -1.0) == wanted


def test_another_process_reads_and_writes_it_with_the_key(encrypted: Path) -> None:
    code = """
        KEY = bytes(range(32))
        with reopen(PATH, key=KEY) as gallery:
            print(gallery.search(units(1, 1), 1, 0.99)[0][0].subject_id)
            gallery.add("carol", templates(3), {"n": 1})
    """
    with reopen(encrypted, key=KEY) as gallery:
        assert gallery.search(units(2, 1), 1, 0.99)[0][0].subject_id == "bob"
        assert run_python(code, encrypted).strip() == "alice"
        (found,) = gallery.search(units(3, 1), 1, 0.99)
        assert (found[0].subject_id, found[0].metadata) == ("carol", {"n": 1})


def test_info_says_what_is_true(encrypted: Path, tmp_path: Path) -> None:
    with reopen(encrypted, key=KEY) as gallery:
        info = gallery.info()
    assert (info["encrypted"], info["key_fingerprint"]) == ("AES-256-GCM", key_fingerprint(KEY))
    with reopen(tmp_path / "clear.db") as gallery:
        assert gallery.info()["encrypted"] == "no"
        assert "key_fingerprint" not in gallery.info()


def test_crops_are_kept_with_their_templates_and_go_with_them(encrypted: Path) -> None:
    crops = [bytes([i]) * 500 for i in range(3)]
    with reopen(encrypted, key=KEY) as gallery:
        gallery.add("carol", templates(3, 2), crops=crops[:2])
        gallery.add("carol", templates(4))
        gallery.add("carol", templates(5), crops=crops[2:])
        gallery.add("dora", templates(6), crops=[b"dora's"])
        assert gallery.crops("carol") == crops
        assert gallery.crops("alice") == []
        assert gallery.info()["crop_count"] == 4
        assert gallery.check() == []
        gallery.remove("carol")
        assert gallery.crops("dora") == [b"dora's"]
        assert gallery.info()["crop_count"] == 1
        with pytest.raises(InputError, match="2 crops for 1 templates"):
            gallery.add("erin", templates(7), crops=crops[:2])
        assert list(gallery.subject_ids()) == ["alice", "bob", "dora"]
    with reopen(encrypted, key=KEY) as again:
        assert again.crops("dora") == [b"dora's"]


def test_crops_are_refused_where_nothing_is_encrypted(gallery: SqliteGallery) -> None:
    memory = MemoryGallery(spec_digest=DIGEST, embedding_size=SIZE)
    new = [Template(units(1, 1)[0], DIGEST)]
    entry = checked_entry(
        "alice", new, None, spec_digest=DIGEST, embedding_size=SIZE, crops=[b"crop"]
    )
    for each in (memory, gallery):
        with pytest.raises(GalleryError, match="in an encrypted gallery only"):
            each.add_entries([entry], "append")
        assert len(each) == 0
    with pytest.raises(GalleryError, match="in an encrypted gallery only"):
        gallery.add("alice", new, crops=[b"crop"])


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE meta SET value = 'e' || substr(value, 2) WHERE key = 'spec_digest'",
        "UPDATE meta SET value = 'signature' WHERE key = 'model'",
        "UPDATE meta SET value = zeroblob(44) WHERE key = 'key_check'",
        "UPDATE meta SET value = zeroblob(16) WHERE key = 'file_salt'",
        "UPDATE meta SET value = 'ROT13' WHERE key = 'cipher'",
        "DELETE FROM meta WHERE key = 'key_check'",
        "DELETE FROM meta WHERE key = 'cipher'",
    ],
)
def test_what_the_file_says_about_itself_is_encrypted_too(encrypted: Path, change: str) -> None:
    connection = sqlite3.connect(encrypted)
    connection.execute(change)
    connection.commit()
    connection.close()
    with pytest.raises(GalleryFormatError):
        SqliteGallery.open_existing(encrypted, key=KEY)
