"""Open SQLite files: durable settings, write-ahead log, transactions, fork safety, errors in words."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from verifykit.errors import VerifyKitError

# fullfsync: on macOS fsync alone does not reach the disk. temp_store: no copy in a temporary file.
DURABLE = (
    "synchronous=FULL",
    "fullfsync=ON",
    "secure_delete=ON",
    "trusted_schema=OFF",
    "temp_store=MEMORY",
)

# A child after fork must neither use nor close its parent's connections, so they are kept for ever.
_inherited: list[sqlite3.Connection] = []

Advice = tuple[tuple[str, type[VerifyKitError], str], ...]
"""A part of SQLite's text for a result code (Python 3.10 gives no code), our error, and what to do."""


def connect(
    path: Path,
    *,
    mode: str = "rw",
    timeout_s: float,
    settings: Iterable[str] = DURABLE,
    one_thread: bool = False,
) -> sqlite3.Connection:
    """Open an SQLite file that exists; transactions are begun and ended by the caller."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=timeout_s,
        isolation_level=None,
        check_same_thread=one_thread,
    )
    try:
        for setting in settings:
            connection.execute(f"PRAGMA {setting}").fetchall()
        connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def make_private_file(path: Path) -> None:
    """Make an empty file, durably, that only its owner may read and write; one that exists is left."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    with contextlib.suppress(
        OSError
    ):  # systems that cannot open a folder make names durable themselves
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def set_wal(connection: sqlite3.Connection, timeout_s: float) -> None:
    """Give a new file a write-ahead log. SQLite does not wait for the lock here, whatever its timeout."""
    end = time.monotonic() + timeout_s
    while True:
        last_try = time.monotonic() > end
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchall()
        except sqlite3.OperationalError as error:
            if last_try or "is locked" not in str(error):
                raise
            time.sleep(0.01)
        else:
            return


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """Return a setting of the file that is a number."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Return whether a file has a table."""
    query = "SELECT 1 FROM sqlite_master WHERE name = ?"
    return connection.execute(query, (name,)).fetchone() is not None


def is_fresh(connection: sqlite3.Connection) -> bool:
    """Return whether a file has no tables and no application id."""
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return not tables and not pragma(connection, "application_id")


@contextlib.contextmanager
def reading(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Run the block in a read transaction: one state of the file, whatever others write meanwhile."""
    connection.execute("BEGIN")
    try:
        yield connection
    finally:
        connection.rollback()


@contextlib.contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Run the block in a write transaction, durable when the block ends, undone when it raises."""
    connection.execute("BEGIN IMMEDIATE")
    with committing(connection):
        yield connection


@contextlib.contextmanager
def committing(connection: sqlite3.Connection) -> Iterator[None]:
    """End the write transaction that has begun: durable when the block ends, undone when it raises."""
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


@contextlib.contextmanager
def translated(place: str, advice: Advice, otherwise: type[VerifyKitError]) -> Iterator[None]:
    """Turn SQLite's errors into ours, with what to do."""
    try:
        yield
    except sqlite3.Error as error:
        said = str(error).partition(" with text ")[0]  # which would be what is stored
        for text, kind, then in advice:
            if text in said:
                raise kind(f"{place}: {said}; {then}") from error
        raise otherwise(f"{place}: {said}") from error


def discard(connection: sqlite3.Connection, pid: int) -> None:
    """Close a connection that the process ``pid`` opened; in a child of that process, only forget it."""
    if pid == os.getpid():
        connection.close()
    else:
        _inherited.append(connection)
