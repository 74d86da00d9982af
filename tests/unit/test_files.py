"""Atomic writes and locks between processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from verifykit._files import (
    FileLock,
    LockHeldError,
    atomic_file,
    atomic_write,
    require_possible,
    sync_folder,
)
from verifykit.errors import InputError

CHECKOUT = Path(__file__).parents[2]
POSIX = pytest.mark.skipif(os.name == "nt", reason="file modes and open files differ")


def test_a_file_is_created_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for data in (b"one", b"", b"three" * 1000):
        atomic_write(path, data)
        assert path.read_bytes() == data
        assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_utf8_with_its_own_line_ends(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a.txt", "zoë\r\nbob\n")
    assert (tmp_path / "a.txt").read_bytes() == "zoë\r\nbob\n".encode()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_a_file_has_the_given_mode(tmp_path: Path, mode: int) -> None:
    atomic_write(tmp_path / "a.json", b"one", mode=mode)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == mode


def test_a_file_that_is_being_written_is_private_and_not_in_place(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with atomic_file(path) as part:
        with part.open("w", encoding="utf-8", newline="") as file:
            file.write("a,b\r\n")
        assert part.parent == tmp_path
        assert part.stat().st_mode & 0o777 == 0o600
        assert not path.exists()
    assert path.read_bytes() == b"a,b\r\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_of_the_old_file_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    atomic_write(path, b"old and long")
    with path.open("rb") as reader:
        atomic_write(path, b"new")
        assert reader.read() == b"old and long"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    path = tmp_path / "a.json"
    atomic_write(path, b"old")
    monkeypatch.setattr(step, fail)
    with pytest.raises(OSError, match="No space left"):
        atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    def write_half() -> None:
        with atomic_file(path) as part:
            part.write_bytes(b"half")
            raise KeyboardInterrupt

    path = tmp_path / "a.json"
    atomic_write(path, b"old")
    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_in_place_only_after_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, in_place = tmp_path / "a.json", []
    monkeypatch.setattr("os.fsync", lambda _: in_place.append(path.exists()))
    atomic_write(path, b"cache", durable=False)
    assert in_place == []
    path.unlink()
    atomic_write(path, b"kept")
    assert in_place == [False]


def test_a_missing_folder_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        atomic_write(tmp_path / "no" / "a.json", b"new")
    assert list(tmp_path.iterdir()) == []


@POSIX
def test_a_missing_folder_cannot_be_synced(tmp_path: Path) -> None:
    sync_folder(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "no")


def test_a_lock_is_held_once_and_released(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with FileLock(path) as handle:
        os.write(handle, b"content")
        if os.name != "nt":
            assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(LockHeldError, match="another process"), FileLock(path):
            pass
    with pytest.raises(ZeroDivisionError), FileLock(path):
        raise ZeroDivisionError
    with FileLock(path):
        assert path.read_bytes() == b"content"


def test_a_lock_is_waited_for_until_the_timeout(tmp_path: Path) -> None:
    path, held = tmp_path / "lock", threading.Event()

    def hold() -> None:
        with FileLock(path):
            held.set()
            time.sleep(0.2)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    began = time.monotonic()
    with pytest.raises(LockHeldError), FileLock(path, timeout_s=0.05):
        pass
    assert time.monotonic() - began >= 0.05
    with FileLock(path, timeout_s=10):
        pass
    thread.join()


def test_a_lock_excludes_another_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from verifykit._files import FileLock\n"
        "with FileLock(Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(LockHeldError), FileLock(tmp_path / "lock"):
            pass
    finally:
        other.kill()
        other.communicate()
    with FileLock(tmp_path / "lock", timeout_s=5):
        pass


@POSIX
def test_a_file_that_was_replaced_while_waiting_is_opened_again(tmp_path: Path) -> None:
    """Otherwise two would hold a lock each: one on the old file, one on the new one."""
    path, is_current = tmp_path / "lock", []

    def wait() -> None:
        with FileLock(path, timeout_s=5) as handle:
            is_current.append(os.path.samestat(os.fstat(handle), path.stat()))

    with FileLock(path):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.05)
        path.unlink()
        path.touch()
    thread.join()
    assert is_current == [True]


@pytest.mark.parametrize("name", ["a\0b", "a" * 5000])
def test_a_text_that_no_path_can_be_is_an_input_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot be a path"):
        require_possible(tmp_path / name)
    for possible in (tmp_path, tmp_path / "new", Path(__file__) / "below"):
        require_possible(possible)
