"""Copies of a gallery's file alone: none that opens lacks an enrolment that was acknowledged before it."""

from __future__ import annotations

import contextlib
import os
import random
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.unit.gallery.files import reopen, run_python, templates
from verifykit.errors import GalleryError, GalleryFormatError
from verifykit.gallery import SqliteGallery, accept_copy

KEY = bytes(32)
KEYS = pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def copied(path: Path) -> Path:
    """Return a copy of the file alone, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(dir=path.parent))
    return Path(shutil.copy(path, folder / path.name))


@KEYS
def test_a_reader_that_ends_last_leaves_no_log(path: Path, key: bytes | None) -> None:
    with reopen(path, key=key):
        pass
    reader = reopen(path, key=key, read_only=True)
    with reopen(path, key=key) as writer:
        writer.add("alice", templates(1))
        assert list(reader.subject_ids()) == ["alice"]
    reader.close()
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    with reopen(copied(path), key=key) as copy:
        assert list(copy.subject_ids()) == ["alice"]


@KEYS
def test_a_copy_without_the_log_is_refused_until_it_is_accepted(
    path: Path, key: bytes | None
) -> None:
    with reopen(path, key=key) as gallery:
        gallery.add("alice", templates(1))
    with reopen(path, key=key) as gallery:
        gallery.add("bob", templates(2))
        copy = copied(path)
        for _ in range(2):
            for read_only in (True, False):
                with pytest.raises(GalleryFormatError, match="without its write-ahead log"):
                    SqliteGallery.open_existing(copy, key=key, read_only=read_only)
                with pytest.raises(GalleryFormatError, match="accept-copy"):
                    reopen(copy, key=key, read_only=read_only)
        assert [each.name for each in copy.parent.iterdir()] == [copy.name]
        assert not accept_copy(path)
        gallery.add("carol", templates(3))
    assert accept_copy(copy)
    assert not accept_copy(copy)
    with reopen(copy, key=key) as accepted:
        assert list(accepted.subject_ids()) == ["alice", "bob"]  # no reader kept it from the file
        assert accepted.check() == []
        accepted.add("dora", templates(4))
    with reopen(path, key=key) as gallery:
        assert list(gallery.subject_ids()) == ["alice", "bob", "carol"]


def test_a_copy_with_its_log_is_whole(path: Path) -> None:
    with reopen(path) as gallery:
        gallery.add("alice", templates(1))
        copy = copied(path)
        shutil.copy(log_of(path), log_of(copy))
    with reopen(copy, read_only=True) as whole:
        assert list(whole.subject_ids()) == ["alice"]
    with reopen(copied(copy)) as settled:  # the reader has moved the log into the file
        assert list(settled.subject_ids()) == ["alice"]


def test_what_a_killed_writer_leaves_is_whole_where_it_is_and_refused_elsewhere(path: Path) -> None:
    run_python("gallery = reopen(PATH); gallery.add('alice', templates(1)); os._exit(0)", path)
    with pytest.raises(GalleryFormatError, match="without its write-ahead log"):
        reopen(copied(path))
    with reopen(path, read_only=True) as gallery:
        assert list(gallery.subject_ids()) == ["alice"]
    with reopen(copied(path)) as copy:
        assert list(copy.subject_ids()) == ["alice"]


def test_an_erasure_empties_the_log_and_the_file_stays_usable(path: Path) -> None:
    """The log is then empty: the file itself must not be taken for a copy that lacks its log."""
    run_python(
        "gallery = reopen(PATH); gallery.add('a', templates(1)); gallery.remove('a'); os._exit(0)",
        path,
    )
    assert log_of(path).stat().st_size == 0
    for options in ({"read_only": True}, {}, {"read_only": True}):
        with reopen(path, **options) as gallery:
            assert len(gallery) == 0
    with reopen(copied(path)) as copy:
        assert len(copy) == 0


def test_a_second_opening_in_a_process_keeps_the_locks_of_the_first(path: Path) -> None:
    """Else another process deletes the log that the first still writes to."""
    with reopen(path) as first:
        first.add("a", templates(1))
        with reopen(path) as second:
            assert len(second) == 1
        run_python("with reopen(PATH) as gallery: gallery.add('b', templates(2))", path)
        log = log_of(path).stat().st_ino
        first.add("c", templates(3))
        assert log_of(path).stat().st_ino == log
        seen = run_python(
            "with reopen(PATH, read_only=True) as g: print(*g.subject_ids())", path
        ).split()
    assert seen == ["a", "b", "c"]


def test_a_reader_of_long_standing_delays_an_enrolment_and_does_not_refuse_it(path: Path) -> None:
    with reopen(path) as gallery:
        gallery.add("a", templates(1))
    with (
        reopen(path, timeout_s=0.2) as gallery,
        closing(sqlite3.connect(path, isolation_level=None)) as reader,
    ):
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM subject").fetchall()
        gallery.add("b", templates(2))
        reader.execute("ROLLBACK")
        gallery.add("c", templates(3))
        with pytest.raises(GalleryFormatError, match="without its write-ahead log"):
            reopen(copied(path))
        assert list(gallery.subject_ids()) == ["a", "b", "c"]


def test_a_writer_that_ends_beside_a_long_reader_leaves_the_mark_to_the_last(path: Path) -> None:
    with reopen(path) as gallery:
        gallery.add("a", templates(1))
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        with reopen(path) as gallery:
            gallery.add("b", templates(2))
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM subject").fetchall()
            gallery.add("c", templates(3))
        with pytest.raises(GalleryFormatError, match="without its write-ahead log"):
            reopen(copied(path))
        reader.execute("ROLLBACK")
        with reopen(path, read_only=True) as last:
            assert list(last.subject_ids()) == ["a", "b", "c"]
        with reopen(copied(path)) as copy:
            assert list(copy.subject_ids()) == ["a", "b", "c"]


def test_another_program_that_read_while_the_writer_ended_may_end_last(path: Path) -> None:
    with reopen(path) as gallery:
        gallery.add("a", templates(1))
    with closing(sqlite3.connect(path, isolation_level=None)) as program:
        with reopen(path) as gallery:
            gallery.add("b", templates(2))
            program.execute("BEGIN")
            program.execute("SELECT count(*) FROM subject").fetchall()
            gallery.add("c", templates(3))
        program.execute("ROLLBACK")
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    with reopen(copied(path)) as copy:
        assert list(copy.subject_ids()) == ["a", "b", "c"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="takes two users, so root")
def test_a_reader_without_permission_leaves_the_log_and_the_mark() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "staff.db"
        run_python("gallery = reopen(PATH); gallery.add('alice', templates(1)); os._exit(0)", path)
        for each in path.parent.iterdir():
            each.chmod(0o644)
        path.parent.chmod(0o755)
        code = """
            os.setuid(65534)
            with reopen(PATH, read_only=True) as gallery:
                print(*gallery.subject_ids())
        """
        assert run_python(code, path).split() == ["alice"]
        assert log_of(path).stat().st_size > 0
        with pytest.raises(GalleryFormatError, match="without its write-ahead log"):
            reopen(copied(path))


@KEYS
@pytest.mark.parametrize("part", ["nothing", "header", "zeros", "half of the header"])
def test_a_copy_with_an_emptied_log_is_refused_until_it_is_accepted(
    path: Path, key: bytes | None, part: str
) -> None:
    with reopen(path, key=key) as gallery:
        gallery.add("alice", templates(1))
        gallery.add("bob", templates(2))
        copy, log = copied(path), log_of(path).read_bytes()
    parts = {
        "nothing": b"",
        "header": log[:32],
        "zeros": bytes(len(log)),
        "half of the header": log[:16],
    }
    log_of(copy).write_bytes(parts[part])
    for read_only in (True, False):
        with pytest.raises(GalleryFormatError, match="without its write-ahead log"):
            reopen(copy, key=key, read_only=read_only)
    assert log_of(copy).read_bytes() == parts[part]
    assert accept_copy(copy)
    with reopen(copy, key=key) as accepted:
        assert accepted.check() == []


@KEYS
def test_a_log_that_is_cut_or_damaged_takes_no_acknowledged_enrolment_with_it(
    path: Path, key: bytes | None
) -> None:
    """Nobody reads, so each enrolment is in the file before it returns."""
    names = []
    with reopen(path, key=key) as gallery:
        for number in range(4):
            gallery.add(f"name-{number}", templates(number, 3))
            names.append(f"name-{number}")
            file, log = path.read_bytes(), log_of(path).read_bytes()
            for damaged in _damages(log):
                copy = Path(tempfile.mkdtemp(dir=path.parent)) / path.name
                copy.write_bytes(file)
                log_of(copy).write_bytes(damaged)
                with (
                    contextlib.suppress(GalleryFormatError),
                    reopen(copy, key=key, read_only=True) as opened,
                ):
                    assert list(opened.subject_ids()) == names


@KEYS
def test_a_log_that_holds_the_only_copy_is_refused_when_damaged_before_its_last_transaction(
    path: Path, key: bytes | None
) -> None:
    with reopen(path, key=key) as gallery:
        gallery.add("a", templates(1))
    with (
        reopen(path, key=key, timeout_s=0.2) as gallery,
        closing(sqlite3.connect(path, isolation_level=None)) as reader,
    ):
        gallery.add("b", templates(2))
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM subject").fetchall()
        ends = []
        for number in range(3):
            gallery.add(f"c-{number}", templates(number))
            ends.append(log_of(path).stat().st_size)
        file, log = path.read_bytes(), log_of(path).read_bytes()
        reader.execute("ROLLBACK")
    whole = ["a", "b", "c-0", "c-1", "c-2"]
    chance = random.Random(0)
    for at in [chance.randrange(32, ends[1]) for _ in range(40)]:
        copy = Path(tempfile.mkdtemp(dir=path.parent)) / path.name
        copy.write_bytes(file)
        log_of(copy).write_bytes(log[:at] + bytes([log[at] ^ 16]) + log[at + 1 :])
        with pytest.raises(GalleryFormatError, match="damaged before its end"):
            reopen(copy, key=key)
    # A crash leaves this: a last transaction that was never acknowledged, in part.
    for damaged in (log[: ends[2] - 100], log[: ends[1] + 10], log[: ends[2]] + bytes(50), log):
        copy = Path(tempfile.mkdtemp(dir=path.parent)) / path.name
        copy.write_bytes(file)
        log_of(copy).write_bytes(damaged)
        with reopen(copy, key=key) as opened:
            found = list(opened.subject_ids())
        assert found == whole[: 4 if len(damaged) < ends[2] else 5]


def _damages(log: bytes) -> list[bytes]:
    flips = [log[:at] + bytes([log[at] ^ 1]) + log[at + 1 :] for at in range(7, len(log), 1999)]
    return [log[: len(log) // 2], log[:-1], log[: len(log) // 3], *flips]


def test_writers_that_empty_the_log_of_each_other_lock_nobody_out(path: Path) -> None:
    """Each process that opens for writing empties the log, whatever another has just marked."""
    with reopen(path):
        pass
    code = """
        for turn in range(30):
            with reopen(PATH, timeout_s=60) as gallery:
                gallery.add(f"{os.getpid()}-{turn}", templates(turn))
                gallery.remove(f"{os.getpid()}-{turn}")
    """
    with ThreadPoolExecutor(3) as pool:
        for each in [pool.submit(run_python, code, path) for _ in range(3)]:
            each.result()
    with reopen(path, read_only=True) as gallery:
        assert len(gallery) == 0
        assert gallery.check() == []


def test_what_is_no_copy_is_not_accepted(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="no such file"):
        accept_copy(tmp_path / "none.db")
    text = tmp_path / "notes.txt"
    text.write_text("notes\n" * 100)
    assert not accept_copy(text)
    assert text.read_text() == "notes\n" * 100


@KEYS
def test_a_checkpoint_that_is_cut_short_leaves_no_file_that_opens_and_lacks_something(
    path: Path, key: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint moves pages in the order of the file, not of the log: each part of one is looked at."""
    acknowledged: list[str] = []
    moments: list[tuple[list[str], bytes, bytes]] = []

    def look(statement: str) -> None:
        if "wal_checkpoint" in statement and log_of(path).exists():
            moments.append((list(acknowledged), path.read_bytes(), log_of(path).read_bytes()))

    connect = sqlite3.connect

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.set_trace_callback(look)
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", traced)
        for turn in range(3):
            with reopen(path, key=key) as gallery:
                for i in range(turn + 1):
                    gallery.add(f"{turn}-{i}", templates(turn, 3))
                    acknowledged.append(f"{turn}-{i}")
    refused = whole = 0
    for names, file, log in moments:
        pages = _pages(log)
        for moved in range(len(pages) + 1):
            copy = Path(tempfile.mkdtemp(dir=path.parent)) / path.name
            copy.write_bytes(_with_pages(file, pages[:moved]))
            try:
                with reopen(copy, key=key, read_only=True) as opened:
                    assert set(names) <= set(opened.subject_ids()), (moved, len(pages))
                whole += 1
            except GalleryFormatError:
                refused += 1
    assert min(refused, whole) > 3


def _pages(log: bytes) -> list[tuple[int, bytes]]:
    """Return each page's last content in a write-ahead log, by number (https://www.sqlite.org/fileformat2.html)."""
    size = int.from_bytes(log[8:12], "big")
    found = {}
    for start in range(32, len(log) - size - 23, 24 + size):
        if log[start + 8 : start + 16] != log[16:24]:  # of a log before this one
            break
        number = int.from_bytes(log[start : start + 4], "big")
        found[number] = log[start + 24 : start + 24 + size]
    return sorted(found.items())


def _with_pages(file: bytes, pages: list[tuple[int, bytes]]) -> bytes:
    content = bytearray(file)
    for number, page in pages:
        end = number * len(page)
        content.extend(bytes(max(0, end - len(content))))
        content[end - len(page) : end] = page
    return bytes(content)


# Three processes that open, enrol, remove and close again; each says what has returned.
WRITE = """
    import os, random, sys
    from pathlib import Path
    from tests.unit.gallery.files import reopen, templates
    from verifykit.gallery.sqlite import connection

    # The documented exception, a reader that outlasts the writer's patience, is for a busy machine the rule.
    connection._MARK_PATIENCE_S = 60.0
    path, key = Path(sys.argv[1]), bytes.fromhex(sys.argv[2]) or None
    for number in range(3):
        child = os.fork()
        if child == 0:
            chance = random.Random(number)
            for turn in range(10**6):
                with reopen(path, key=key, timeout_s=60) as gallery:
                    for i in range(chance.randrange(4)):
                        name = f"{os.getpid()}-{turn}-{i}"
                        gallery.add(name, templates(number))
                        os.write(1, f"{name}\\n".encode())
                with reopen(path, key=key, read_only=True) as gallery:
                    len(gallery)
        print(f"pid {child}", flush=True)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="takes fork and signals")
@KEYS
@pytest.mark.parametrize("copies", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_at_no_moment_does_a_copy_open_that_lacks_what_was_acknowledged(
    path: Path, key: bytes | None, copies: int
) -> None:
    with reopen(path, key=key):
        pass
    acknowledged: set[str] = set()
    for start in range(2):  # the second run begins with what kills have left
        acknowledged |= _copies_while_written(path, key, copies // 2, acknowledged, start)
        with (
            contextlib.suppress(GalleryFormatError),
            reopen(copied(path), key=key) as opened,
        ):
            assert acknowledged <= set(opened.subject_ids())
    with reopen(path, key=key) as gallery:
        assert acknowledged <= set(gallery.subject_ids())
        assert gallery.check() == []
    with reopen(copied(path), key=key) as copy_at_rest:
        assert acknowledged <= set(copy_at_rest.subject_ids())


def _copies_while_written(
    path: Path, key: bytes | None, copies: int, before: set[str], seed: int
) -> set[str]:
    """Copy the file while all writers are stopped, look at each copy, and kill them in the end."""
    chance = random.Random(seed)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITE), str(path), (key or b"").hex()],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    said, children = b"", list[int]()
    refused = 0
    try:
        while len(children) < 3:
            said += os.read(process.stdout.fileno(), 65536) if _can_read(process) else b""
            children = [int(line.split()[1]) for line in said.splitlines() if b"pid " in line]
        made = 0
        while made < copies or len(_names(said)) <= copies:
            made += 1
            time.sleep(chance.uniform(0.0, 0.08))
            for child in children:
                os.kill(child, signal.SIGSTOP)
            while not all(map(_is_stopped, children)):  # a system call that is under way ends first
                time.sleep(0.001)
            while _can_read(process):
                said += os.read(process.stdout.fileno(), 65536)
            copy = copied(path)
            for child in children:
                os.kill(child, signal.SIGCONT)
            try:
                with reopen(copy, key=key, read_only=True) as opened:
                    missing = (before | _names(said)) - set(opened.subject_ids())
                    assert not missing, (missing, len(said.splitlines()))
            except GalleryFormatError:
                refused += 1
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
        process.wait()
        while chunk := process.stdout.read(65536):
            said += chunk
        process.stdout.close()
    assert refused > 0
    return _names(said)


def _is_stopped(process: int) -> bool:
    """Look whether a signal to stop has been carried out; on a busy machine that takes a while."""
    status = Path(f"/proc/{process}/stat")
    if not status.exists():
        time.sleep(0.1)
        return True
    return status.read_text().rpartition(")")[2].split()[0] == "T"


def _can_read(process: subprocess.Popen[bytes]) -> bool:
    assert process.stdout is not None
    return bool(select.select([process.stdout], [], [], 0.0)[0])


def _names(said: bytes) -> set[str]:
    whole = said[: said.rfind(b"\n") + 1].decode()
    return {line for line in whole.splitlines() if line and not line.startswith("pid")}
