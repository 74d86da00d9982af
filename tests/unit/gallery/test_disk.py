"""A full disk and a read-only folder: an error that says so, and nothing lost."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.unit.gallery.files import reopen, run_python, templates
from verifykit.errors import GalleryError
from verifykit.gallery import SqliteGallery


def test_a_full_disk_loses_nothing_and_the_gallery_goes_on(path: Path) -> None:
    """The process may not write files beyond a size: the system refuses, as a full disk does."""
    code = """
        import resource
        gallery = reopen(PATH)
        gallery.add("first", templates(1))
        size = sum(os.path.getsize(str(PATH) + end) for end in ("", "-wal"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30_000, resource.RLIM_INFINITY))
        stored, error = ["first"], None
        for i in range(1000):
            try:
                gallery.add(f"s{i}", templates(i, 3))
            except GalleryError as caught:
                error = caught
                break
            stored.append(f"s{i}")
        assert error is not None and ("full" in str(error) or "disk" in str(error)), repr(error)
        assert sorted(stored) == list(gallery.subject_ids())
        assert gallery.check() == []
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        gallery.add("last", templates(9999))
        print(" ".join(stored + ["last"]))
        os._exit(0)  # without closing
    """
    stored = run_python(code, path).split()
    assert len(stored) > 2
    with reopen(path) as gallery:
        assert list(gallery.subject_ids()) == sorted(stored)
        assert gallery.check() == []


def test_a_new_gallery_on_a_full_disk_is_refused_and_can_be_made_later(path: Path) -> None:
    code = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
        try:
            reopen(PATH)
        except GalleryError as error:
            print(error)
    """
    assert "nothing was stored" in run_python(code, path)
    with reopen(path) as gallery:
        gallery.add("alice", templates(1))


def test_sqlite_running_out_of_pages_is_a_full_disk(gallery: SqliteGallery) -> None:
    gallery.add("alice", templates(1))
    writer = gallery._connections._open["writer"]
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count={pages}").fetchall()
    with pytest.raises(GalleryError, match="disk is full, nothing was stored"):
        gallery.add("bob", templates(2, 60))
    writer.execute("PRAGMA max_page_count=1000000").fetchall()
    assert list(gallery.subject_ids()) == ["alice"]
    gallery.add("bob", templates(2, 60))
    assert len(gallery.get("bob").templates) == 60


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_read_only_folder_can_be_read_and_says_that_it_cannot_be_written() -> None:
    """Root is refused nothing, so root's test does it as nobody."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "staff.db"
        with reopen(path) as gallery:
            gallery.add("alice", templates(1))
        path.chmod(0o444)
        folder.chmod(0o555)
        code = """
            if os.geteuid() == 0:
                os.setuid(65534)
            probe = units(1, 1)
            for options in ({"read_only": True}, {}):
                with reopen(PATH, **options) as gallery:
                    assert gallery.search(probe, 1, 0.99)[0][0].subject_id == "alice"
                    for change in (lambda: gallery.add("bob", templates(2)), lambda: gallery.remove("alice")):
                        try:
                            change()
                        except GalleryError as error:
                            print(error)
            try:
                SqliteGallery(str(PATH) + "2", spec_digest=DIGEST, embedding_size=SIZE)
            except GalleryError as error:
                print(error)
        """
        try:
            said = run_python(code, path).splitlines()
        finally:
            folder.chmod(0o755)
        assert len(said) == 5
        assert all("read-only" in line for line in said[:2])
        assert all("permissions" in line for line in said[2:])
        assert [p.name for p in folder.iterdir()] == ["staff.db"]
        path.chmod(0o644)
        with reopen(path) as gallery:
            assert list(gallery.subject_ids()) == ["alice"]


def test_a_reader_of_a_read_only_folder_sees_what_its_owner_adds() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "staff.db"
        with reopen(path) as gallery:
            gallery.add("alice", templates(1))
        path.chmod(0o644)
        Path(name).chmod(0o755)
        if os.name == "nt" or os.geteuid() != 0:
            pytest.skip("takes two users, so root")
        code = """
            from multiprocessing import get_context

            def read(pipe):
                os.setuid(65534)
                gallery = reopen(PATH, read_only=True)
                while pipe.recv():
                    pipe.send(list(gallery.subject_ids()))

            here, there = get_context("fork").Pipe()
            child = get_context("fork").Process(target=read, args=(there,))
            child.start()
            for i in range(4):
                here.send(True)
                print(len(here.recv()), end=" ")
                with reopen(PATH) as gallery:
                    gallery.add(f"s{i}", templates(i))
            here.send(False)
            child.join()
        """
        assert run_python(code, path).split() == ["1", "2", "3", "4"]
