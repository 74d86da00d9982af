"""The two connections of an open gallery file: one that reads, and one that writes when it must."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

from verifykit.errors import GalleryError, GalleryLockedError
from verifykit.gallery.sqlite_file import connect, signature, translated

__all__ = ["Connections"]

# A child after fork must neither use nor close its parent's connections, so they are kept for ever.
_inherited: list[sqlite3.Connection] = []


class Connections:
    """Transactions on a gallery file, for all threads of a process.

    Readers wait for nobody outside the process. Writers wait for other writers.

    Args:
        path: The file, which exists.
        read_only: Whether :meth:`writing` refuses.
        timeout_s: How long a writer waits for another.
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
        """A read transaction: one state of the file, whatever others write meanwhile.

        Raises:
            GalleryError: See :func:`~verifykit.gallery.sqlite_file.translated`.
        """
        with self._read_lock, translated(self.path):
            self._require_same_file()
            connection = self._connection("reader", read_only=self._reads_only())
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A write transaction, durable when the block ends, undone when it raises.

        Raises:
            GalleryLockedError: Another thread or process writes for longer than the time-out.
            GalleryError: Opened read-only; see :func:`~verifykit.gallery.sqlite_file.translated`.
        """
        if self.read_only:
            raise GalleryError(f"gallery {self.path}: it was opened read-only, nothing was stored")
        with self._exclusively(), translated(self.path):
            self._require_same_file()
            connection = self._connection("writer", read_only=False)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.rollback()
                raise

    def wipe_log(self, *, wait: bool = True) -> bool:
        """Move the write-ahead log into the file and empty it, so that it holds no erased content.

        Args:
            wait: Whether to wait for readers and writers in other processes, up to the time-out.

        Returns:
            False when one of them still needs the log.

        Raises:
            GalleryError: See :func:`~verifykit.gallery.sqlite_file.translated`.
        """
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
                f"gallery {self.path}: another thread has been writing for {self._timeout_s} s: try "
                "again, or wait longer (timeout_s)"
            )
        try:
            yield
        finally:
            self._write_lock.release()

    def _connection(self, role: str, *, read_only: bool) -> sqlite3.Connection:
        if self._closed:
            raise GalleryError(f"gallery {self.path}: it was closed; open it again")
        if self._pid != os.getpid():
            _inherited.extend(self._open.values())
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
                f"gallery {self.path}: another file was put in its place while it was open: open it again"
            )
        if now != self._signature:
            self._signature = now
            if self._reads_only() and "reader" in self._open:
                # It may have been opened as unchanging.
                self._open.pop("reader").close()


def _close(connections: dict[str, sqlite3.Connection], pid: int) -> None:
    if pid != os.getpid():
        _inherited.extend(connections.values())
        return
    while connections:
        connections.popitem()[1].close()
