"""The two connections of an open gallery file: one that reads, and one that writes when it must."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

from verifykit import _sqlite
from verifykit.errors import (
    GalleryError,
    GalleryFormatError,
    GalleryLockedError,
    shortened,
    shortened_path,
)

_DAMAGED = (
    "the file is damaged: run `verifykit gallery check`, and restore it from an export or a copy"
)

_ADVICE: _sqlite.Advice = (
    (
        "is locked",
        GalleryLockedError,
        "another process is writing to it: try again, or wait longer",
    ),
    ("not a database", GalleryFormatError, "it is not a verifykit gallery: choose another path"),
    ("malformed", GalleryFormatError, _DAMAGED),
    ("Could not decode", GalleryFormatError, _DAMAGED),
    ("is full", GalleryError, "the disk is full, nothing was stored: free space and try again"),
    (
        "readonly",
        GalleryError,
        "the file or its folder cannot be written, nothing was stored: change the permissions or copy it",
    ),
    (
        "unable to open",
        GalleryError,
        "the file, or the -wal and -shm files next to it, cannot be opened: check the folder's permissions",
    ),
    (
        "disk I/O error",
        GalleryError,
        "the disk refused to read or to write, nothing was stored: check its space and its health",
    ),
)


def translated(path: Path) -> contextlib.AbstractContextManager[None]:
    """Turn SQLite's errors into ours."""
    return _sqlite.translated(f"gallery {shortened(path)}", _ADVICE, GalleryError)


def connect(path: Path, *, read_only: bool, timeout_s: float) -> sqlite3.Connection:
    """Return a connection that commits durably and leaves no copy of what it deletes in the file.

    Where the folder cannot be written and there is no write-ahead log to read, a read-only connection
    takes the file as unchanging, as SQLite needs a writable folder even to read a log. Its user opens it
    again when :func:`signature` changes.
    """
    require_file(path)
    with translated(path):
        try:
            return _sqlite.connect(path, mode="ro" if read_only else "rw", timeout_s=timeout_s)
        except sqlite3.OperationalError:
            if not read_only or os.access(path.parent, os.W_OK) or log_bytes(path):
                raise
            return _sqlite.connect(path, mode="ro&immutable=1", timeout_s=timeout_s)


def require_file(path: Path) -> None:
    """Raise :class:`GalleryError` when there is no file at this path."""
    if path.is_dir():
        raise GalleryError(
            f"gallery {shortened(path)}: this is a folder; give the path of a file in it"
        )
    if not path.exists():
        raise GalleryError(f"gallery {shortened(path)}: there is no such file; check the path")


def signature(path: Path) -> tuple[int, ...]:
    """Return what changes when the file is exchanged (the first two numbers) or written to."""
    try:
        status = path.stat()
    except OSError as error:
        raise GalleryError(
            f"gallery {shortened(path)}: the file is gone while it was open ({error.strerror}): put it "
            "back, and open it again"
        ) from shortened_path(error)
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, log_bytes(path))


def log_bytes(path: Path) -> int:
    """Return the size of the write-ahead log, 0 when there is none."""
    try:
        return path.with_name(path.name + "-wal").stat().st_size
    except FileNotFoundError:
        return 0


class Connections:
    """Transactions on a gallery file, for all threads of a process.

    Readers wait for no other process. Writers wait for other writers.
    """

    def __init__(self, path: Path, *, read_only: bool, timeout_s: float) -> None:
        self.path, self.read_only = path, read_only
        self._timeout_s = timeout_s
        self._read_lock, self._write_lock = threading.RLock(), threading.Lock()
        self._open: dict[str, sqlite3.Connection] = {}
        self._pid = os.getpid()
        self._closed = False
        self._signature = signature(path)
        self._finalizer = weakref.finalize(self, _close, self._open, self._pid)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Run the block in a read transaction: one state of the file, whatever others write meanwhile."""
        with self._read_lock, translated(self.path):
            self._require_same_file()
            connection = self._connection("reader", read_only=self._reads_only())
            with _sqlite.reading(connection):
                yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Run the block in a write transaction, durable when it ends, undone when it raises."""
        if self.read_only:
            raise GalleryError(
                f"gallery {shortened(self.path)}: it was opened read-only, nothing was stored"
            )
        with self._exclusively(), translated(self.path):
            self._require_same_file()
            with _sqlite.writing(self._connection("writer", read_only=False)) as connection:
                yield connection

    def wipe_log(self, *, wait: bool = True) -> bool:
        """Move the write-ahead log into the file and empty it; false when another process still needs it."""
        with self._exclusively(), translated(self.path):
            connection = self._connection("writer", read_only=False)
            patience_ms = int(1000 * self._timeout_s)
            connection.execute(f"PRAGMA busy_timeout={patience_ms if wait else 0}").fetchall()
            try:
                busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                connection.execute(f"PRAGMA busy_timeout={patience_ms}").fetchall()
            return not busy

    def close(self) -> None:
        """Close both connections; the last one to the file removes its log. May be called twice."""
        with self._read_lock, self._write_lock:
            self._closed = True
            self._finalizer()

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        if not self._write_lock.acquire(timeout=self._timeout_s or 0.001):
            raise GalleryLockedError(
                f"gallery {shortened(self.path)}: another thread has been writing for {self._timeout_s} s: "
                "try again, or wait longer (timeout_s)"
            )
        try:
            yield
        finally:
            self._write_lock.release()

    def _connection(self, role: str, *, read_only: bool) -> sqlite3.Connection:
        if self._closed:
            raise GalleryError(f"gallery {shortened(self.path)}: it was closed; open it again")
        if self._pid != os.getpid():
            _close(self._open, self._pid)
            self._open, self._pid = {}, os.getpid()
            self._finalizer = weakref.finalize(self, _close, self._open, self._pid)
        if role not in self._open:
            self._open[role] = connect(self.path, read_only=read_only, timeout_s=self._timeout_s)
        return self._open[role]

    def _reads_only(self) -> bool:
        return self.read_only or not os.access(self.path.parent, os.W_OK)

    def _require_same_file(self) -> None:
        now = signature(self.path)
        if now[:2] != self._signature[:2]:
            raise GalleryError(
                f"gallery {shortened(self.path)}: another file was put in its place while it was open: "
                "open it again"
            )
        if now != self._signature:
            self._signature = now
            if self._reads_only() and "reader" in self._open:
                # It may have been opened as unchanging.
                self._open.pop("reader").close()


def _close(connections: dict[str, sqlite3.Connection], pid: int) -> None:
    while connections:
        _sqlite.discard(connections.popitem()[1], pid)
