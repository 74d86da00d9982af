"""The small file beside a log: how far the log goes, and the lock of those who write to it.

It is overwritten in place, one sector of 512 bytes, rather than replaced: that takes no space on a full
disk and no sync to be there whole after a power failure (a sector is old or new), and a file that stays
can be locked. It is written after the log has reached the disk, so it is never ahead of it.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from verifykit.audit.entry import sealed, unsealed
from verifykit.errors import AuditError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_SECTOR_BYTES = 512
_LOCKED_BYTE = 4096  # Windows hides a locked byte from readers: one that holds nothing


class Head(NamedTuple):
    """The last entry of a log."""

    log_id: str
    sequence: int
    hash: str


def head_path(log: Path) -> Path:
    """Where the head of a log lies."""
    return log.with_name(log.name + ".head")


@contextlib.contextmanager
def held(path: Path, timeout_s: float) -> Iterator[int]:
    """Open the head file, made if it is not there, and be the only one who has it.

    It is opened anew each time: a lock must not be shared with a forked process.

    Args:
        path: The head file.
        timeout_s: How long to wait for another process.

    Yields:
        Its file descriptor.

    Raises:
        AuditError: Another one holds it for longer.
        OSError: It cannot be opened.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        handle = _opened(path)
        try:
            _lock(handle, path, deadline)
            if _is_still(handle, path):
                try:
                    yield handle
                finally:
                    # Not by closing alone: a process that was forked meanwhile has it open too.
                    _unlock(handle)
                return
        finally:
            os.close(handle)


def read_head(handle: int) -> Head | None:
    """The head, None if there is none or it is damaged.

    Args:
        handle: Of the open head file.
    """
    os.lseek(handle, 0, os.SEEK_SET)
    data = os.read(handle, _SECTOR_BYTES)
    body, whole = unsealed(data.rstrip() + b"\n")
    if body is None or not whole or not isinstance(body.get("log_id"), str):
        return None
    return Head(body["log_id"], body["sequence"], body["previous"])


def write_head(handle: int, head: Head) -> None:
    """Overwrite the head; it reaches the disk when the system sees fit.

    Args:
        handle: Of the open head file.
        head: The log's last entry.

    Raises:
        OSError: The disk refuses.
    """
    line, _ = sealed({"log_id": head.log_id, "previous": head.hash, "sequence": head.sequence})
    os.lseek(handle, 0, os.SEEK_SET)
    full_write(handle, line[:-1].ljust(_SECTOR_BYTES - 1) + b"\n")


def full_write(handle: int, data: bytes) -> None:
    """Write all of it, in however many pieces the system takes it.

    Args:
        handle: An open file.
        data: The bytes.

    Raises:
        OSError: The disk is full, or refuses.
    """
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]


def sync(handle: int) -> None:
    """Bring a file to the disk.

    Args:
        handle: Of the open file.

    Raises:
        OSError: The disk refuses.
    """
    if sys.platform == "darwin":  # where fsync stops at the drive's cache
        fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
    else:
        os.fsync(handle)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)


def _lock(handle: int, path: Path, deadline: float) -> None:
    while not _try_lock(handle):
        if time.monotonic() >= deadline:
            raise AuditError(
                f"audit log {path.with_suffix('')}: another process holds its lock ({path.name}); "
                "nothing was logged: try again, or wait longer"
            )
        # At random, so that of several who wait none is always late.
        time.sleep(random.uniform(0.0002, 0.001))  # noqa: S311


def _is_still(handle: int, path: Path) -> bool:
    """Whether the path leads to the file that is locked: it may have been removed while we waited."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
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
