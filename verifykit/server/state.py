"""The state file of the service, SQLite: API keys and the answers to enrolments."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
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

_ADVICE: _sqlite.Advice = (
    ("is locked", GalleryLockedError, "another process is writing to it: try again"),
    ("not a database", GalleryFormatError, "not a verifykit state file: choose another path"),
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
        "the file, or the -wal and -shm files next to it, cannot be opened: check the permissions",
    ),
)


def state_path(gallery: str) -> Path:
    """Return where the state file of a service on a gallery's file is, unless another place was chosen."""
    return Path(f"{gallery}.server")


class ServerState:
    """The state file of a service: durable, for all threads of several processes; no biometric data.

    Readers wait for no other process. A file that was exchanged, such as a restored copy, is
    opened again; one that is gone is an error, so that deleting it under a running service opens no door.
    """

    def __init__(self, path: Path, *, create: bool = True, timeout_s: float = 5.0) -> None:
        self.path = path
        self._timeout_s = timeout_s
        self._locks = {"reader": threading.Lock(), "writer": threading.Lock()}
        self._open: dict[str, tuple[tuple[int, ...], sqlite3.Connection]] = {}
        if create:
            _make(path)
        with self._connection("writer") as connection:
            _prepare(connection, path, timeout_s)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Run the block in a read transaction: one state of the file, whatever others write meanwhile."""
        with self._connection("reader") as connection, _sqlite.reading(connection):
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Run the block in a write transaction, durable when it ends, undone when it raises."""
        with self._connection("writer") as connection, _sqlite.writing(connection):
            yield connection

    def close(self) -> None:
        """Close the connections; the next use opens them again. May be called twice."""
        with self._locks["reader"], self._locks["writer"]:
            while self._open:
                identity, connection = self._open.popitem()[1]
                _sqlite.discard(connection, identity[0])

    @contextlib.contextmanager
    def _connection(self, role: str) -> Iterator[sqlite3.Connection]:
        lock = self._locks[role]
        if not lock.acquire(timeout=self._timeout_s):
            raise GalleryLockedError(
                f"server state {shortened(self.path)}: another thread has been writing for "
                f"{self._timeout_s} s: try again"
            )
        try:
            with _sqlite.translated(f"server state {shortened(self.path)}", _ADVICE, GalleryError):
                yield self._current(role)
        finally:
            lock.release()

    def _current(self, role: str) -> sqlite3.Connection:
        try:
            status = self.path.stat()
        except OSError as error:
            raise GalleryError(
                f"server state {shortened(self.path)}: there is no such file ({error.strerror}): put it "
                "back, or make it with `verifykit serve keys create`"
            ) from shortened_path(error)
        identity = (os.getpid(), status.st_dev, status.st_ino)
        if role in self._open:
            held, connection = self._open[role]
            if held == identity:
                return connection
            del self._open[role]
            _sqlite.discard(connection, held[0])
        connection = _sqlite.connect(self.path, timeout_s=self._timeout_s)
        self._open[role] = (identity, connection)
        return connection


def _make(path: Path) -> None:
    if not path.parent.is_dir():
        raise GalleryError(
            f"server state {shortened(path)}: folder {shortened(path.parent)} does not exist; make it first"
        )
    try:
        _sqlite.make_private_file(path)
    except OSError as error:
        raise GalleryError(
            f"server state {shortened(path)}: it cannot be made in this folder: {error.strerror}; choose "
            "another place (--state) or change the folder's permissions"
        ) from shortened_path(error)


def _prepare(connection: sqlite3.Connection, path: Path, timeout_s: float) -> None:
    """Make the tables of a new file, and refuse a file that is something else."""
    if _sqlite.is_fresh(connection):
        _sqlite.set_wal(connection, timeout_s)
        with _sqlite.writing(connection):
            if _sqlite.is_fresh(connection):  # another process may have been quicker
                for statement in _SCHEMA:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    if _sqlite.pragma(connection, "application_id") != _APPLICATION_ID:
        raise GalleryFormatError(
            f"server state {shortened(path)}: not a verifykit state file; choose another path (--state)"
        )
    version = _sqlite.pragma(connection, "user_version")
    if version != SCHEMA_VERSION:
        raise GalleryFormatError(
            f"server state {shortened(path)}: it has schema {version}, this verifykit reads "
            f"{SCHEMA_VERSION}: install the verifykit that wrote it"
        )
