"""Atomic writes, durable writes, and locks between processes."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from verifykit.errors import InputError, VerifyKitError, shortened, shown

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# Windows hides a locked byte from readers, so it must be one that a file with a lock does not need.
_LOCKED_BYTE = 4096


def require_possible(path: Path, kind: type[VerifyKitError] = InputError) -> None:
    """Raise for a text that no path can be: too long, or with a NUL."""
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise kind(f"{shown(str(path))} cannot be a path: {reason}") from None


@contextlib.contextmanager
def atomic_file(
    path: Path, *, mode: int = 0o644, durable: bool = True, before: Path | None = None
) -> Iterator[Path]:
    """Yield the path of an empty file in the same folder, and move it to ``path`` at the end.

    A reader sees the old file or the new one. After an exception the old file stays and the new one is
    removed. ``durable=False`` leaves the moment of reaching the disk to the system. ``before`` is where the
    old file goes; for a moment there is then no file at ``path``.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        if durable:
            with part.open("rb+") as file:
                sync(file.fileno())
        part.chmod(mode)
        if before is not None and path.exists():
            path.replace(before)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def atomic_write(path: Path, data: bytes | str, *, mode: int = 0o644, durable: bool = True) -> None:
    """Replace a file's content as a whole; text is written as UTF-8, line ends as they are."""
    with atomic_file(path, mode=mode, durable=durable) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


def full_write(handle: int, data: bytes) -> None:
    """Write all bytes to an open file, in as many pieces as the system takes."""
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]


def sync(handle: int) -> None:
    """Wait until an open file has reached the disk."""
    if sys.platform == "darwin":
        # fsync stops at the drive's cache; not every file system knows the other, as SQLite knows too.
        with contextlib.suppress(OSError):
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
            return
    os.fsync(handle)


def sync_folder(folder: Path) -> None:
    """Wait until new names in a folder have reached the disk."""
    if os.name == "nt":  # folders cannot be opened there; names are durable without it
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class LockHeldError(Exception):
    """Another process, or another thread of this one, holds the lock."""


class FileLock:
    """An exclusive lock on a file, held in a ``with`` block, which receives a descriptor of the file.

    The file is created if it is missing. It is opened for each block: a descriptor that stays open would
    share its lock with forked processes.
    """

    def __init__(self, path: Path, *, timeout_s: float = 0.0, mode: int = 0o600) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._mode = mode

    def __enter__(self) -> int:
        """Wait for the lock; raise LockHeldError when the timeout has passed."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            self._handle = os.open(
                self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), self._mode
            )
            try:
                self._wait(deadline)
                if self._is_current():
                    return self._handle
            except BaseException:
                os.close(self._handle)
                raise
            os.close(self._handle)

    def __exit__(self, *_: object) -> None:
        try:
            _unlock(self._handle)  # closing is not enough: a process forked meanwhile has it open
        finally:
            os.close(self._handle)

    def _wait(self, deadline: float) -> None:
        while not _try_lock(self._handle):
            if time.monotonic() >= deadline:
                raise LockHeldError(f"another process holds the lock of {shortened(self._path)}")
            # A random time, so that of several waiting processes none is always late.
            time.sleep(random.uniform(0.0002, 0.001))  # noqa: S311

    def _is_current(self) -> bool:
        """Return whether the path still leads to the locked file: it may have been replaced."""
        try:
            return os.path.samestat(os.fstat(self._handle), self._path.stat())
        except FileNotFoundError:
            return False


if sys.platform == "win32":

    def _try_lock(handle: int) -> bool:
        os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(handle: int) -> None:
        os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)

else:

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)
