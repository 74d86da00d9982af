"""The two connections of an open gallery file: one that reads, and one that writes when it must."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

from verifykit import _sqlite
from verifykit.errors import (
    GalleryError,
    GalleryFormatError,
    GalleryLockedError,
    shortened,
    shortened_path,
)
from verifykit.gallery.sqlite import log_mark

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

    Raises:
        GalleryFormatError: The file is a copy without its write-ahead log, or that log is damaged.
    """
    require_file(path)
    require_length(path)
    with translated(path), log_mark.opening():
        log_mark.require_log(path)
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


def require_length(path: Path) -> None:
    """Raise :class:`GalleryError` for a path that SQLite cannot take, with the endings of its own files."""
    length = len(os.fsencode(os.path.realpath(path))) + len("-journal")
    if os.name != "nt" and length > _MOST_BYTES:
        raise GalleryError(
            f"gallery {shortened(path)}: its absolute path has {length - len('-journal')} bytes, and SQLite "
            f"takes at most {_MOST_BYTES - len('-journal')}: choose a shorter path"
        )


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
        return log_mark.log_of(path).stat().st_size
    except FileNotFoundError:
        return 0


# MAX_PATHNAME of SQLite's os_unix.c.
_MOST_BYTES = 512

# A reader who began before the mark keeps it from the file. Enrolment does not wait for long readers.
_MARK_PATIENCE_S = 1.0
_CLOSE_PATIENCE_S = 0.2


def accept_copy(path: str | os.PathLike[str]) -> bool:
    """Use a copy that was made without its write-ahead log as it is; what the log held stays missing.

    Args:
        path: The copy, which no process has open.

    Returns:
        Whether it was such a copy; a gallery that is not is left as it is.

    Raises:
        GalleryFormatError: It is not a gallery, or is damaged.
        GalleryError: There is no such file, or it cannot be written.
    """
    place = Path(path)
    require_file(place)
    with translated(place), log_mark.opening():
        try:
            log_mark.require_log(place)
        except GalleryFormatError:
            file = _sqlite.connect(place, timeout_s=0.0)
        else:
            return False
        with contextlib.closing(file), _sqlite.writing(file):
            log_mark.settle(file)
    return True


class Connections:
    """Transactions on a gallery file, for all threads of a process.

    Readers wait for no other process. Writers wait for other writers. The one that closes moves the log
    into the file, if no other process needs it and the file can be written: also one who has only read.
    """

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool,
        timeout_s: float,
        migrate: Callable[[sqlite3.Connection], None] | None = None,
    ) -> None:
        """Open nothing yet; ``migrate`` brings a file to the schema that has the mark, for writers."""
        self.path, self.read_only = path, read_only
        self._timeout_s = timeout_s
        self._migrate = migrate
        self._mark: int | None = None  # the log's number that this process brought to the file
        self._late: int | None = None  # the one that a reader has kept from it so far
        self._read_lock, self._write_lock = threading.RLock(), threading.Lock()
        self._open: dict[str, sqlite3.Connection] = {}
        self._pid = os.getpid()
        self._closed = False
        self._signature = signature(path)
        self._finalizer = self._new_finalizer()

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
            connection = self._connection("writer", read_only=False)
            self._begin(connection)
            with _sqlite.committing(connection):
                yield connection
            # Now, so that a log which is lost or damaged later takes nothing with it.
            with contextlib.suppress(sqlite3.Error):  # it is committed, whatever comes of this
                _is_in_file(connection, 0.0)

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Begin a write transaction, once the file itself says that its log is in use."""
        if self._late is not None and _is_in_file(connection, 0.0):
            self._mark, self._late = self._late, None
        while True:
            connection.execute("BEGIN IMMEDIATE")
            try:
                found = log_mark.current(connection)
                if found is not None and found in (self._mark, self._late):
                    return
                if found is None:
                    if self._migrate is not None:
                        self._migrate(connection)
                    found = log_mark.begin(connection)
                connection.execute("COMMIT")
            except BaseException:
                connection.rollback()
                raise
            is_marked = _is_in_file(connection, min(self._timeout_s, _MARK_PATIENCE_S))
            self._mark, self._late = (found, None) if is_marked else (None, found)

    def wipe_log(self, *, wait: bool = True) -> bool:
        """Move the write-ahead log into the file and empty it; false when another process still needs it."""
        with self._exclusively(), translated(self.path):
            connection = self._connection("writer", read_only=False)
            patience_ms = int(1000 * self._timeout_s)
            connection.execute(f"PRAGMA busy_timeout={patience_ms if wait else 0}").fetchall()
            try:
                if not wait and not _is_in_file(connection, 0.0):
                    return False
                _is_unmarked(connection, self._timeout_s if wait else _CLOSE_PATIENCE_S)
                return _empties_log(connection, self._timeout_s if wait else 0.0)
            finally:
                connection.execute(f"PRAGMA busy_timeout={patience_ms}").fetchall()

    def close(self) -> None:
        """Move the log into the file if possible, and close both connections. May be called twice."""
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
            self._finalizer()
            self._open, self._pid = {}, os.getpid()
            self._finalizer = self._new_finalizer()
        if role not in self._open:
            self._open[role] = connect(self.path, read_only=read_only, timeout_s=self._timeout_s)
        return self._open[role]

    def _new_finalizer(self) -> Callable[[], object]:
        identity = self._signature[:2]
        return weakref.finalize(self, _close, self._open, self._pid, self.path, identity)

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


def _is_in_file(connection: sqlite3.Connection, patience_s: float) -> bool:
    """Move the log into the file without emptying it; false while a reader keeps part of it."""
    end = time.monotonic() + patience_s
    while True:
        busy, frames, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if not busy and frames == moved:
            return True
        if time.monotonic() >= end:
            return False
        time.sleep(0.01)


def _close(
    connections: dict[str, sqlite3.Connection], pid: int, path: Path, identity: tuple[int, ...]
) -> None:
    """Close connections: the last with write access to a file deletes its log, so that one settles it."""
    if pid == os.getpid() and connections and _is_same_file(path, identity):
        keeper = _settled(connections, path)
        if keeper is not None:
            connections["keeper"] = connections.pop("keeper", keeper)
    for role in ("reader", "writer", "keeper"):
        if role in connections:
            _sqlite.discard(connections.pop(role), pid)


def _is_same_file(path: Path, identity: tuple[int, ...]) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == identity


def _is_unmarked(file: sqlite3.Connection, patience_s: float) -> bool:
    """Take the mark away once the file holds everything else; false while other processes go on writing.

    A checkpoint moves pages in the order of the file, not of the log: together with what was stored, the
    mark could leave the file before that has reached it. Long readers are not waited for: one that ends last
    and is not ours moves all of the log, and the file would stay marked for ever.
    """
    end = time.monotonic() + patience_s
    while log_mark.current(file) is not None:
        state = _sqlite.pragma(file, "data_version")
        _is_in_file(file, min(end - time.monotonic(), _CLOSE_PATIENCE_S))
        with _sqlite.writing(file):
            if _sqlite.pragma(file, "data_version") == state:
                log_mark.settle(file)
            elif time.monotonic() >= end:
                return False
    return True


def _empties_log(file: sqlite3.Connection, patience_s: float) -> bool:
    """Move the log into the file and empty it; false when another process needs it."""
    end = time.monotonic() + patience_s
    while file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() >= end:
            return False
        time.sleep(0.01)  # SQLite does not wait for another checkpoint, whatever its timeout
    if log_mark.current(file) is not None:  # of another process; a marked file has no empty log
        with _sqlite.writing(file):
            log_mark.confirm(file)
    return True


def _settled(connections: dict[str, sqlite3.Connection], path: Path) -> sqlite3.Connection | None:
    """Empty the log and take the mark away; return the connection that is to be closed last.

    Where that cannot be done, it is one that cannot write: SQLite then leaves the log where it is.
    """
    if not log_mark.log_of(path).exists():
        return None
    try:
        file = connections.get("writer") or connect(path, read_only=False, timeout_s=0.0)
        connections["writer"] = file
        file.execute(f"PRAGMA busy_timeout={int(1000 * _CLOSE_PATIENCE_S)}").fetchall()
        if _is_unmarked(file, _CLOSE_PATIENCE_S):
            if log_bytes(path):
                _empties_log(file, 0.0)
            return None
    except (sqlite3.Error, GalleryError):
        pass
    with contextlib.suppress(GalleryError):
        return connect(path, read_only=True, timeout_s=0.0)
    return None
