"""Opening a gallery file, and saying in words what SQLite reports.

The two connections of an open gallery file: one that reads, and one that writes when it must.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

from verifykit.errors import GalleryError, GalleryFormatError, GalleryLockedError, InputError

# SQLite's texts for its result codes (sqlite3_errstr); Python 3.10 gives no code.
_REASONS: tuple[tuple[str, type[GalleryError], str], ...] = (
    (
        "is locked",
        GalleryLockedError,
        "another process is writing to it: try again, or wait longer",
    ),
    ("not a database", GalleryFormatError, "it is not a verifykit gallery: give another path"),
    (
        "malformed",
        GalleryFormatError,
        "the file is damaged: run `verifykit gallery check`, and restore it from an export or a copy",
    ),
    (
        "Could not decode",
        GalleryFormatError,
        "the file is damaged: run `verifykit gallery check`, and restore it from an export or a copy",
    ),
    ("is full", GalleryError, "the disk is full, nothing was stored: free space and try again"),
    (
        "readonly",
        GalleryError,
        "the file or its folder cannot be written, nothing was stored: change the permissions or copy it",
    ),
    (
        "unable to open",
        GalleryError,
        "the file, or the -wal and -shm files beside it, cannot be opened: check the folder's permissions",
    ),
    (
        "disk I/O error",
        GalleryError,
        "the disk refused to read or to write, nothing was stored: check its space and its health",
    ),
)


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours.

    Raises:
        GalleryLockedError: The write lock was not free within the time-out.
        GalleryFormatError: Not a database, or damaged.
        GalleryError: Anything else: a full disk, a read-only folder, ...
    """
    try:
        yield
    except sqlite3.Error as error:
        told = str(error).partition(" with text ")[0]  # which would be what is stored
        for text, kind, advice in _REASONS:
            if text in told:
                raise kind(f"gallery {path}: {told}; {advice}") from error
        raise GalleryError(f"gallery {path}: {told}") from error


def connect(path: Path, *, read_only: bool, timeout_s: float) -> sqlite3.Connection:
    """A connection that commits durably and leaves no copy of what it deletes in the file.

    Where the folder cannot be written and there is no write-ahead log to read, a read-only connection
    takes the file as unchanging, as SQLite needs a writable folder even to read a log. Its user opens it
    again when :func:`signature` changes.

    Raises:
        GalleryError: Missing, a folder, or not to be opened; see :func:`translated`.
    """
    require_file(path)
    uri = path.absolute().as_uri()
    with translated(path):
        try:
            return _opened(f"{uri}?mode={'ro' if read_only else 'rw'}", timeout_s)
        except sqlite3.OperationalError:
            if not read_only or os.access(path.parent, os.W_OK) or log_bytes(path):
                raise
            return _opened(f"{uri}?mode=ro&immutable=1", timeout_s)


def require_file(path: Path) -> None:
    """Raise :class:`GalleryError` when there is no file at this path."""
    if path.is_dir():
        raise GalleryError(f"gallery {path}: this is a folder; give the path of a file in it")
    if not path.exists():
        raise GalleryError(f"gallery {path}: there is no such file; check the path")


def signature(path: Path) -> tuple[int, ...]:
    """What changes when the file is exchanged (the first two numbers) or written to.

    Raises:
        GalleryError: The file is gone.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise GalleryError(
            f"gallery {path}: the file is gone while it was open ({error.strerror}): put it back, and "
            "open it again"
        ) from error
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, log_bytes(path))


def log_bytes(path: Path) -> int:
    """Size of the write-ahead log, 0 when there is none."""
    try:
        return path.with_name(path.name + "-wal").stat().st_size
    except FileNotFoundError:
        return 0


def set_wal(connection: sqlite3.Connection, timeout_s: float) -> None:
    """Give a new file a write-ahead log.

    Args:
        connection: To the file.
        timeout_s: How long to wait for whoever has it locked.

    Raises:
        sqlite3.OperationalError: It was locked for longer.
    """
    # SQLite does not wait for the lock here, whatever the time-out.
    end = time.monotonic() + timeout_s
    while not _wal_is_set(connection, last_try=time.monotonic() > end):
        time.sleep(0.01)


def _wal_is_set(connection: sqlite3.Connection, *, last_try: bool) -> bool:
    try:
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
    except sqlite3.OperationalError as error:
        if last_try or "is locked" not in str(error):
            raise
        return False
    return True


def _opened(uri: str, timeout_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri, uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=False
    )
    try:
        # fullfsync: on macOS fsync alone does not reach the disk. temp_store: no copy in a temporary file.
        for setting in (
            "synchronous=FULL",
            "fullfsync=ON",
            "secure_delete=ON",
            "trusted_schema=OFF",
            "temp_store=MEMORY",
        ):
            connection.execute(f"PRAGMA {setting}").fetchall()
        connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def checked_timeout(timeout_s: float) -> float:
    """The time-out, if it is one.

    Raises:
        InputError: Negative or not a number.
    """
    if not isinstance(timeout_s, (int, float)) or not timeout_s >= 0:
        raise InputError(f"timeout_s must be 0 or more, got {timeout_s!r}")
    return float(timeout_s)


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
            GalleryError: See :func:`~verifykit.gallery.sqlite.connection.translated`.
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
            GalleryError: Opened read-only; see :func:`~verifykit.gallery.sqlite.connection.translated`.
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
            GalleryError: See :func:`~verifykit.gallery.sqlite.connection.translated`.
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
