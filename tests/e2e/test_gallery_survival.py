"""A disk that is full, two writers at once, and copies of a file that is being written."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.small_disk import mounted
from tests.unit.gallery.files import reopen, run_python, templates, units
from verifykit.errors import GalleryError, GalleryFormatError
from verifykit.gallery import SqliteGallery, accept_copy, export_gallery, import_gallery

# Transactions in a fixed order, so that the revision of a file says what is in it.
ENROL = """
    import sys
    from pathlib import Path
    from tests.unit.gallery.files import reopen, templates

    with reopen(Path(sys.argv[1])) as gallery:
        for i in range(10**6):
            gallery.add(f"s{i:05}", templates(i, 2), {"n": i})
            if i % 7 == 6:
                gallery.remove(f"s{i - 3:05}")
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that is soon full; where nobody may mount, tests/unit/gallery/test_disk.py does without."""
    with mounted(tmp_path / "disk", 3_000_000) as folder:
        yield folder


def test_a_full_disk_is_said_and_the_gallery_goes_on_when_there_is_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\1" * 300_000)
    path = small_disk / "staff.gallery"
    stored: list[str] = []
    with reopen(path) as gallery:
        with pytest.raises(GalleryError, match="disk"):
            _fill(gallery, stored)
        assert len(stored) > 20
        with pytest.raises(GalleryError, match="nothing was stored"):
            gallery.add("large", templates(1, 300))
        assert list(gallery.subject_ids()) == sorted(stored)
        assert gallery.check() == []
        found = gallery.search(units(7, 1), 2, 0.9)
        assert [candidate.subject_id for candidate in found[0]] == ["s7"]
    with reopen(path, read_only=True) as gallery:  # and opened again while it is full
        assert list(gallery.subject_ids()) == sorted(stored)
    ballast.unlink()
    with reopen(path) as gallery:
        gallery.add("last", templates(9_999, 3))
        assert list(gallery.subject_ids()) == sorted([*stored, "last"])
        assert gallery.check() == []


def test_two_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    """Subjects of their own, and one whom both add to."""
    path = tmp_path / "staff.gallery"
    code = """
        from multiprocessing import get_context

        def write(number):
            with reopen(PATH, timeout_s=60) as gallery:
                for i in range(60):
                    gallery.add(f"w{number}-{i}", templates(1000 * number + i))
                    gallery.add("both", templates(1000 * number + 500 + i))

        with reopen(PATH):
            pass
        writers = [get_context("fork").Process(target=write, args=(n,)) for n in (1, 2)]
        [writer.start() for writer in writers]
        [writer.join() for writer in writers]
        print([writer.exitcode for writer in writers])
    """
    assert run_python(code, path).strip() == "[0, 0]"
    with reopen(path) as gallery:
        assert gallery.check() == []
        assert gallery.info()["revision"] == 240
        assert len(gallery) == 121
        for number in (1, 2):
            for i in range(60):
                (template,) = gallery.get(f"w{number}-{i}").templates
                assert template.embedding.tobytes() == units(1000 * number + i, 1).tobytes()
        theirs = [t.embedding.tobytes() for t in gallery.get("both").templates]
        for number in (1, 2):  # each writer's in its own order
            mine = [units(1000 * number + 500 + i, 1).tobytes() for i in range(60)]
            assert [row for row in theirs if row in mine] == mine


@pytest.mark.skipif(os.name == "nt", reason="takes signals")
@pytest.mark.parametrize("copies", [8, pytest.param(60, marks=pytest.mark.slow)])
def test_a_copy_of_a_file_that_is_being_written_is_refused(tmp_path: Path, copies: int) -> None:
    """``cp`` of the file alone, without its log: it may lack what is in the log, or be of two moments."""
    path, copy = tmp_path / "live.gallery", tmp_path / "copy.gallery"
    code = textwrap.dedent(ENROL)
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=Path(__file__).parents[2]
    )
    try:
        _wait_for(path)
        for number in range(copies):
            for old in tmp_path.glob(f"{copy.name}*"):
                old.unlink()
            if number % 3:
                _copy_slowly(path, copy)
            else:  # a moment at which nobody writes
                writer.send_signal(signal.SIGSTOP)
                shutil.copy(path, copy)
                with reopen(path, read_only=True) as live:
                    held = list(live.subject_ids())
                writer.send_signal(signal.SIGCONT)
            refused = _is_refused(copy)
            if number % 3:
                assert refused
            elif refused:
                # Stopped while the log was moved into the file: damaged, which is an error too.
                with contextlib.suppress(GalleryFormatError):
                    assert accept_copy(copy)
                    _require_one_moment(copy)
            else:  # after a removal, until the next enrollment, the file alone holds everything
                with reopen(copy) as whole:
                    assert list(whole.subject_ids()) == held
            time.sleep(0.05)
        assert writer.poll() is None
        with reopen(path, read_only=True) as live:  # the right way, while it is written
            export_gallery(live, tmp_path / "export.jsonl")
    finally:
        writer.kill()
        writer.wait()
    with reopen(tmp_path / "restored.gallery") as restored:
        import_gallery(restored, tmp_path / "export.jsonl")
        assert restored.check() == []
        assert len(restored) > 100
    with reopen(path) as live:
        assert live.check() == []
        enrolled = list(live.subject_ids())
    shutil.copy(path, tmp_path / "still.gallery")  # no process has it open
    with reopen(tmp_path / "still.gallery") as still:
        assert list(still.subject_ids()) == enrolled


def _is_refused(copy: Path) -> bool:
    try:
        reopen(copy).close()
    except GalleryFormatError:
        return True
    return False


def _fill(gallery: SqliteGallery, stored: list[str]) -> None:
    for i in range(10_000):
        gallery.add(f"s{i}", templates(i, 3))
        stored.append(f"s{i}")


def _wait_for(path: Path) -> None:
    for _ in range(600):
        if path.exists() and path.stat().st_size > 1_000_000:
            return
        time.sleep(0.05)
    raise AssertionError("the writer writes nothing")


def _copy_slowly(path: Path, copy: Path) -> None:
    with path.open("rb") as source, copy.open("wb") as target:
        while part := source.read(65_536):
            target.write(part)
            time.sleep(0.0005)


def _require_one_moment(copy: Path) -> None:
    with reopen(copy) as gallery:
        ids = _enrolled_at(gallery.info()["revision"])
        assert list(gallery.subject_ids()) == ids
        some = {
            *ids[:50],
            *ids[-150:],
            *random.Random(len(ids)).sample(ids, min(100, len(ids))),
        }
        probes = np.concatenate([units(int(name[1:]), 2) for name in sorted(some)])
        found = gallery.search(probes, 2, 0.9)
        assert [[(c.subject_id, c.metadata["n"]) for c in each] for each in found] == [
            [(name, int(name[1:]))] for name in sorted(some) for _ in range(2)
        ]
        assert gallery.check() == []


def _enrolled_at(revision: int) -> list[str]:
    """Who is enrolled after so many transactions of ``ENROL``."""
    live: dict[str, None] = {}
    done = i = 0
    while done < revision:
        live[f"s{i:05}"] = None
        done += 1
        if i % 7 == 6 and done < revision:
            del live[f"s{i - 3:05}"]
            done += 1
        i += 1
    return sorted(live)
