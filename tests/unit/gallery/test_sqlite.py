"""What only a gallery on disk does: last, be shared between processes, and erase."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.unit.gallery.files import DIGEST, SIZE, file_bytes, reopen, run_python, templates, units
from verifykit.errors import GalleryError, GalleryLockedError, SubjectNotFoundError
from verifykit.gallery import MemoryGallery, SqliteGallery
from verifykit.gallery.sqlite import index as sqlite_index
from verifykit.spec import Fusion
from verifykit.types import Template


def test_what_was_added_is_there_when_opened_again(gallery: SqliteGallery, path: Path) -> None:
    gallery.add("alice", templates(1, 3), {"team": "blue"})
    gallery.close()
    with reopen(path, create=False) as again:
        assert [t.embedding.tobytes() for t in again.get("alice").templates] == [
            row.tobytes() for row in units(1, 3)
        ]
        assert again.get("alice").metadata == {"team": "blue"}
    with pytest.raises(GalleryError, match="closed"):
        gallery.add("bob", templates(2))


def test_it_commits_to_the_disk_and_wipes_what_it_deletes(gallery: SqliteGallery) -> None:
    gallery.add("alice", templates(1))
    writer = gallery._connections._open["writer"]
    settings = {
        name: writer.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "secure_delete")
    }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1}


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_only_its_owner_can_read_it(gallery: SqliteGallery, path: Path) -> None:
    gallery.add("alice", templates(1))
    assert {part.stat().st_mode & 0o777 for part in path.parent.iterdir()} == {0o600}


@pytest.mark.parametrize("fusion", ["max", "mean"])
def test_another_instance_sees_changes_and_reads_only_those(path: Path, fusion: Fusion) -> None:
    with reopen(path, fusion=fusion) as writer, reopen(path, fusion=fusion) as reader:
        for i in range(50):
            writer.add(f"s{i}", templates(i))
        assert reader.search(units(7, 1), 1, 0.99)[0][0].subject_id == "s7"

        statements: list[str] = []
        connection = reader._connections._open["reader"]
        connection.set_trace_callback(statements.append)
        reader.search(units(7, 1), 1, 0.99)
        assert not [s for s in statements if "template" in s]  # nothing changed, nothing read
        connection.set_trace_callback(None)

        read: list[str] = []
        index = reader._index
        original = index._embeddings
        index._embeddings = lambda blobs, ids: (read.extend(ids), original(blobs, ids))[1]  # type: ignore[method-assign]
        writer.add("s7", templates(100))
        writer.add("new", templates(101), {"n": 1})
        writer.remove("s3")
        writer.add("gone", templates(102))
        writer.remove("gone")
        found = reader.search(np.concatenate([units(s, 1) for s in (100, 101, 3, 102)]), 1, 0.4)
        assert [c[0].subject_id if c else None for c in found] == ["s7", "new", None, None]
        assert found[1][0].metadata == {"n": 1}
        assert set(read) == {"s7", "new"}


@pytest.mark.parametrize("fusion", ["max", "mean"])
def test_templates_of_a_subject_that_are_read_in_parts_stay_together(
    path: Path, monkeypatch: pytest.MonkeyPatch, fusion: Fusion
) -> None:
    with reopen(path, fusion=fusion) as gallery:
        for i, count in enumerate((1, 2, 9, 1, 4, 3)):
            gallery.add(f"s{i}", templates(i, count), {"n": i} if i % 2 else None)
        gallery.add("s1", templates(7, 2))
    found = []
    for batch in (1, 3, 512):
        monkeypatch.setattr(sqlite_index, "_BATCH", batch)
        with reopen(path, fusion=fusion) as again:
            found.append(again.search(units(8, 5), 6, -1.0))
    assert found[0] == found[1] == found[2]
    memory = MemoryGallery(spec_digest=DIGEST, embedding_size=SIZE, fusion=fusion)
    with reopen(path) as stored:
        for name in stored.subject_ids():
            subject = stored.get(name)
            memory.add(name, subject.templates, subject.metadata)
    assert memory.search(units(8, 5), 6, -1.0) == found[0]


def test_another_process_sees_what_this_one_adds(gallery: SqliteGallery, path: Path) -> None:
    gallery.add("alice", templates(1))
    code = """
        with reopen(PATH, read_only=True) as gallery:
            print(gallery.search(units(1, 1), 1, 0.99)[0][0].subject_id)
        with reopen(PATH) as gallery:
            gallery.add("bob", templates(2))
    """
    assert run_python(code, path).strip() == "alice"
    assert gallery.search(units(2, 1), 1, 0.99)[0][0].subject_id == "bob"


def test_a_removed_subject_is_in_none_of_the_files(gallery: SqliteGallery, path: Path) -> None:
    """Through splits, growth and metadata of all lengths; the files are searched for every part."""
    rng = np.random.default_rng(5)
    live: dict[str, list[Template]] = {}
    gone: dict[str, list[Template]] = {}
    for step in range(150):
        if step % 3 == 2:
            name = str(rng.choice(list(live)))
            assert gallery.remove(name) == len(live[name])
            gone[name] = live.pop(name)
        else:
            name = f"subject-{rng.integers(10**9):09}"
            if step % 4 == 1:
                name = str(rng.choice(list(live)))
            new = templates(step, int(rng.integers(1, 4)))
            gallery.add(name, new, {"secret": f"<{name}>" * int(rng.integers(1, 120))})
            live.setdefault(name, []).extend(new)
    content = file_bytes(path)
    for name, theirs in gone.items():
        assert name.encode() not in content
        for template in theirs:
            raw = template.embedding.tobytes()
            assert not any(raw[at : at + 32] in content for at in range(0, len(raw), 32))
    for name, theirs in live.items():  # and the search would have found them
        assert name.encode() in content
        assert all(t.embedding.tobytes() in content for t in theirs)
    assert gallery.check() == []


def test_removal_says_so_when_a_reader_keeps_the_log_from_being_wiped(path: Path) -> None:
    with reopen(path, timeout_s=0.1) as gallery:
        gallery.add("alice", templates(1))
        gallery.add("bob", templates(2))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN")
        other.execute("SELECT * FROM subject").fetchall()
        with pytest.raises(GalleryLockedError, match="'alice' is removed, but another process"):
            gallery.remove("alice")
        other.execute("ROLLBACK")
        other.close()
        with pytest.raises(SubjectNotFoundError):
            gallery.get("alice")
        gallery.remove("bob")
        assert units(1, 1).tobytes() not in file_bytes(path)


def test_erased_content_in_a_dead_process_log_goes_when_the_file_is_opened(path: Path) -> None:
    code = """
        gallery = reopen(PATH)
        gallery.add("alice", templates(1))
        from verifykit.gallery.sqlite import connection
        connection._is_in_file = lambda *_: os.kill(os.getpid(), 9)  # before the log is moved
        with gallery._writing() as (file, values):  # what remove() does, up to where it is killed
            from verifykit.gallery.sqlite.rows import erase
            from verifykit.gallery.sqlite.rows import find_row, next_revision
            erase(file, find_row(file, values, "alice"), next_revision(file))
        os.kill(os.getpid(), 9)
    """
    with pytest.raises(AssertionError):
        run_python(code, path)
    raw = units(1, 1).tobytes()
    assert raw in file_bytes(path)
    with reopen(path) as gallery:
        assert raw not in file_bytes(path)
        assert len(gallery) == 0


def test_a_second_writer_waits_and_then_says_who_is_in_the_way(path: Path) -> None:
    with reopen(path, timeout_s=0.2) as impatient, reopen(path, timeout_s=30) as patient:
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(GalleryLockedError, match="another process is writing"):
            impatient.add("alice", templates(1))
        assert impatient.search(units(1, 1), 1, -1.0) == [[]]  # reading does not wait
        release = threading.Timer(0.3, other.execute, ["ROLLBACK"])
        release.start()
        patient.add("bob", templates(2))
        release.join()
        other.close()
        impatient.add("alice", templates(1))
        assert list(impatient.subject_ids()) == ["alice", "bob"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="takes fork")
def test_a_forked_child_and_its_parent_both_go_on(path: Path) -> None:
    code = """
        gallery = reopen(PATH)
        gallery.add("parent", templates(1))
        gallery.search(units(1, 1), 1, 0.5)
        child = os.fork()
        if child == 0:
            gallery.add("child", templates(2))
            found = gallery.search(units(2, 1), 1, 0.9)
            gallery.close()
            os._exit(0 if found[0][0].subject_id == "child" else 1)
        _, status = os.waitpid(child, 0)
        gallery.add("after", templates(3))
        print(status, *gallery.subject_ids())
    """
    assert run_python(code, path).split() == ["0", "after", "child", "parent"]


def test_ten_processes_that_make_the_same_file_at_once_all_open_it(path: Path) -> None:
    code = """
        from multiprocessing import get_context

        def enrol(i):
            with reopen(PATH, timeout_s=60) as gallery:
                gallery.add(f"s{i}", templates(i))

        with get_context("fork").Pool(10) as pool:
            pool.map(enrol, range(30), chunksize=1)
    """
    run_python(code, path)
    with reopen(path) as gallery:
        assert set(gallery.subject_ids()) == {f"s{i}" for i in range(30)}
        assert gallery.check() == []


def test_info_counts_what_is_enrolled(gallery: SqliteGallery, path: Path) -> None:
    gallery.add("alice", templates(1, 2))
    gallery.add("bob", templates(2))
    gallery.add("carol", templates(3))
    gallery.remove("bob")
    with SqliteGallery.open_existing(path) as opened:
        info = opened.info()
    assert info["size_bytes"] == path.stat().st_size
    assert {k: info[k] for k in ("subject_count", "template_count", "model", "spec_digest")} == {
        "subject_count": 2,
        "template_count": 3,
        "model": "face",
        "spec_digest": DIGEST,
    }
