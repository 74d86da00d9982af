"""The mark in a gallery file by which a copy without its write-ahead log is recognised.

What is committed is first in the log only, and the file alone cannot know what it lacks. So the file itself
says that a log is in use, before anything else is committed to that log, and says that the log is settled
when a checkpoint has moved all of it into the file. A file that is marked and has no log next to it, or an
empty one, is a copy that may lack what was acknowledged.

The mark is two numbers of the meta table: ``log_begun`` and ``log_settled``. They differ while a log is in
use. A number is never used twice, so a writer knows whether the mark is the one that it brought to the file.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from verifykit import _sqlite
from verifykit.errors import GalleryFormatError, shortened
from verifykit.gallery.sqlite.log_check import log_problem

_NUMBERS = "SELECT key, value FROM meta WHERE key IN ('log_begun', 'log_settled')"
_SET = "INSERT OR REPLACE INTO meta VALUES (?, ?)"

# Another process may begin and settle a log between two looks.
_LOOKS, _PAUSE_S = 3, 0.05

_opening = threading.RLock()


def _renew() -> None:
    global _opening  # another thread of the parent may have held it
    _opening = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


@contextlib.contextmanager
def opening() -> Iterator[None]:
    """Run the block while no other thread opens a gallery file, or looks into one without its log.

    To close a file that was opened without SQLite's locks drops the locks that this process has on it
    (https://www.sqlite.org/howtocorrupt.html, 2.2), and another process then takes the log for unused.
    """
    with _opening:
        yield


def current(file: sqlite3.Connection) -> int | None:
    """Return the number of the log that is in use, None while none is."""
    begun, settled = _numbers(file)
    return begun if begun != settled else None


def begin(file: sqlite3.Connection) -> int:
    """Mark the file in a transaction of its own, and return the number of the log."""
    number = max(_numbers(file)) + 1
    file.execute(_SET, ("log_begun", number))
    return number


def settle(file: sqlite3.Connection) -> None:
    """Take the mark away, in a transaction of its own, when the file holds all else that the log holds."""
    begun, settled = _numbers(file)
    if begun != settled:
        file.execute(_SET, ("log_settled", begun))


def confirm(file: sqlite3.Connection) -> None:
    """Write the mark again, in a transaction of its own, so that the log of a marked file is not empty."""
    begun, settled = _numbers(file)
    if begun != settled:
        file.execute(_SET, ("log_begun", begun))


def log_of(path: Path) -> Path:
    """Return the path of the write-ahead log."""
    return path.with_name(path.name + "-wal")


def require_log(path: Path) -> None:
    """Raise :class:`GalleryFormatError` for a marked file without a log, or a damaged log; makes no file."""
    log = log_of(path)
    with opening():
        for look in range(_LOOKS):
            if look:
                time.sleep(_PAUSE_S)
            problem = log_problem(log, lambda: _is_marked(path))
            if problem is None:
                return
    raise GalleryFormatError(
        f"gallery {shortened(path)}: this is a copy of a gallery that was in use, without its "
        f"write-ahead log ({shortened(log.name)} {problem}), so enrolments that were acknowledged before "
        "the copy may be missing: copy the original with `verifykit gallery copy` or `export`, or when no "
        "process has it open; to use this file without what it lacks, run `verifykit gallery accept-copy`"
    )


def _is_marked(path: Path) -> bool:
    try:
        file = _sqlite.connect(path, mode="ro&immutable=1", timeout_s=0, settings=())
    except sqlite3.Error:
        return False  # no database: opening it reports that
    with contextlib.closing(file):
        try:
            return current(file) is not None
        except sqlite3.Error:
            return False  # another program's file, or a gallery that is being made


def _numbers(file: sqlite3.Connection) -> tuple[int, int]:
    found = dict(file.execute(_NUMBERS).fetchall())
    return int(found.get("log_begun", 0)), int(found.get("log_settled", 0))
