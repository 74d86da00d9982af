"""What the service keeps beside the gallery: API keys and the answers to enrolments, in one SQLite file."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from verifykit.errors import GalleryError, GalleryFormatError, GalleryLockedError
from verifykit.gallery.sqlite.connection import set_wal

_APPLICATION_ID = 0x564B5301
SCHEMA_VERSION = 1

_SCHEMA = (
    """CREATE TABLE api_key (
        key_id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        secret_hash BLOB NOT NULL,
        scopes TEXT NOT NULL,
        created REAL NOT NULL,
        expires REAL,
        revoked REAL) WITHOUT ROWID""",
    """CREATE TABLE answer (
        owner TEXT NOT NULL,
        key_hash BLOB NOT NULL,
        digest BLOB NOT NULL,
        worker TEXT NOT NULL,
        started REAL NOT NULL,
        status INTEGER,
        body BLOB,
        PRIMARY KEY (owner, key_hash)) WITHOUT ROWID""",
    "CREATE INDEX answer_started ON answer (started)",
)

# SQLite's texts for its result codes; Python 3.10 gives no code.
_REASONS: tuple[tuple[str, type[GalleryError], str], ...] = (
    ("is locked", GalleryLockedError, "another process is writing to it: try again"),
    ("not a database", GalleryFormatError, "it is no state file of the service: give another path"),
    (
        "malformed",
        GalleryFormatError,
        "the file is damaged: move it away, and make the API keys again",
    ),
    ("is full", GalleryError, "the disk is full, nothing was stored: free space"),
    (
        "readonly",
        GalleryError,
        "the file or its folder cannot be written, nothing was stored: change the permissions",
    ),
    (
        "unable to open",
        GalleryError,
        "the file, or the -wal and -shm files beside it, cannot be opened: check the permissions",
    ),
)


class ServerState:
    """The state file of a service: durable, for all threads of several processes; no biometric data.

    Readers wait for nobody outside the process. A file that was exchanged, such as a restored copy, is
    opened anew; one that is gone is an error, so that deleting it under a running service opens no door.

    Args:
        path: The file; made, readable and writable by its owner only, if there is none.
        create: Whether to make it.
        timeout_s: How long a writer waits for another.

    Raises:
        GalleryFormatError: The file is something else, is damaged, or is of a newer schema.
        GalleryError: It is missing or cannot be made or opened, and why.
    """

    def __init__(self, path: Path, *, create: bool = True, timeout_s: float = 5.0) -> None:
        self.path = path
        self._timeout_s = timeout_s
        self._locks = {"reader": threading.Lock(), "writer": threading.Lock()}
        self._open: dict[str, tuple[tuple[int, ...], sqlite3.Connection]] = {}
        self._inherited: list[sqlite3.Connection] = []
        if create:
            _make(path)
        with self._connection("writer") as connection:
            _prepare(connection, path, timeout_s)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A read transaction: one state of the file, whatever others write meanwhile.

        Raises:
            GalleryError: The file is gone or cannot be read.
        """
        with self._connection("reader") as connection:
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
            GalleryError: The file is gone or cannot be written, or the disk is full.
        """
        with self._connection("writer") as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.rollback()
                raise

    def close(self) -> None:
        """Close the connections; the next use opens them again. May be called twice."""
        with self._locks["reader"], self._locks["writer"]:
            while self._open:
                identity, connection = self._open.popitem()[1]
                self._discard(identity, connection)

    @contextlib.contextmanager
    def _connection(self, role: str) -> Iterator[sqlite3.Connection]:
        lock = self._locks[role]
        if not lock.acquire(timeout=self._timeout_s):
            raise GalleryLockedError(
                f"server state {self.path}: another thread has been writing for {self._timeout_s} s: "
                "try again"
            )
        try:
            with _translated(self.path):
                yield self._current(role)
        finally:
            lock.release()

    def _current(self, role: str) -> sqlite3.Connection:
        try:
            status = self.path.stat()
        except OSError as error:
            raise GalleryError(
                f"server state {self.path}: there is no such file ({error.strerror}): put it back, or "
                "make it with `verifykit serve keys create`"
            ) from error
        identity = (os.getpid(), status.st_dev, status.st_ino)
        if role in self._open:
            held, connection = self._open[role]
            if held == identity:
                return connection
            del self._open[role]
            self._discard(held, connection)
        connection = _connect(self.path, self._timeout_s)
        self._open[role] = (identity, connection)
        return connection

    def _discard(self, identity: tuple[int, ...], connection: sqlite3.Connection) -> None:
        if identity[0] == os.getpid():
            connection.close()
        else:  # a child after fork must neither use nor close its parent's connection
            self._inherited.append(connection)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        for text, kind, advice in _REASONS:
            if text in str(error):
                raise kind(f"server state {path}: {error}; {advice}") from error
        raise GalleryError(f"server state {path}: {error}") from error


def _make(path: Path) -> None:
    if not path.parent.is_dir():
        raise GalleryError(
            f"server state {path}: folder {path.parent} does not exist; make it first"
        )
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise GalleryError(
            f"server state {path}: it cannot be made in this folder: {error.strerror}; choose another "
            "place (--state) or change the folder's permissions"
        ) from error
    with contextlib.suppress(
        OSError
    ):  # systems that cannot open a folder make names durable themselves
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _connect(path: Path, timeout_s: float) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(
        uri, uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=False
    )
    for setting in (
        "synchronous=FULL",
        "fullfsync=ON",
        "secure_delete=ON",
        "trusted_schema=OFF",
        "temp_store=MEMORY",
    ):
        connection.execute(f"PRAGMA {setting}").fetchall()
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, timeout_s: float) -> None:
    """Make the tables of a new file, and refuse a file that is something else."""
    if _is_fresh(connection):
        set_wal(connection, timeout_s)
        connection.execute("BEGIN IMMEDIATE")
        if _is_fresh(connection):  # another process may have been quicker
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.execute("COMMIT")
    if _pragma(connection, "application_id") != _APPLICATION_ID:
        raise GalleryFormatError(
            f"server state {path}: this is no state file of the service; give another path (--state)"
        )
    version = _pragma(connection, "user_version")
    if version != SCHEMA_VERSION:
        raise GalleryFormatError(
            f"server state {path}: it has schema {version}, this verifykit reads {SCHEMA_VERSION}: "
            "install the verifykit that wrote it"
        )


def _is_fresh(connection: sqlite3.Connection) -> bool:
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return not tables and not _pragma(connection, "application_id")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
