"""Embeddings of files that were embedded before, so that a second evaluation starts at the scores."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import InputError
from verifykit.models.cache import cache_folder

__all__ = ["EmbeddingCache", "EmbeddingOrReason"]

EmbeddingOrReason: TypeAlias = NDArray[np.float32] | str
"""What a file gave: its embedding, (D,) float32 of unit length, or the reason why there is none."""

APPLICATION_ID = 0x564B4501
SCHEMA_VERSION = 1
_TIMEOUT_S = 30.0
_UNIT_TOLERANCE = 1e-3

_SCHEMA = """CREATE TABLE outcome (
    cache_key TEXT NOT NULL,
    file_sha256 TEXT NOT NULL,
    embedding BLOB,
    reason TEXT,
    PRIMARY KEY (cache_key, file_sha256),
    CHECK ((embedding IS NULL) <> (reason IS NULL)))"""


class EmbeddingCache:
    """One SQLite file that several processes may use at once; each object belongs to one thread.

    Only its owner can read it: embeddings are biometric data. It may be deleted at any time when nobody
    uses it.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open the file, or make it.

        Args:
            path: The file; None is ``embeddings.sqlite`` in verifykit's cache folder.

        Raises:
            InputError: It cannot be made or opened, is no embedding cache, or is of another schema.
        """
        self.path = cache_folder() / "embeddings.sqlite" if path is None else path
        _make_file(self.path)
        with _translated(self.path):
            self._connection = _open(self.path)

    def get(self, cache_key: str, file_digests: Iterable[str]) -> dict[str, EmbeddingOrReason]:
        """What is known of files.

        Args:
            cache_key: Of the embedder.
            file_digests: SHA-256 of each file.

        Returns:
            Digest to outcome, of those that are known.

        Raises:
            InputError: The file cannot be read, is damaged, or was closed.
        """
        known: dict[str, EmbeddingOrReason] = {}
        with _translated(self.path):
            for digest in file_digests:
                found = self._connection.execute(
                    "SELECT embedding, reason FROM outcome WHERE cache_key = ? AND file_sha256 = ?",
                    (cache_key, digest),
                ).fetchone()
                if found is not None:
                    embedding, reason = found
                    known[digest] = reason if embedding is None else self._checked(embedding)
        return known

    def put(self, cache_key: str, outcomes: Mapping[str, EmbeddingOrReason]) -> None:
        """Keep what files gave, all of it or nothing; a file that is known is written over.

        Args:
            cache_key: Of the embedder.
            outcomes: SHA-256 of each file to its embedding or reason.

        Raises:
            InputError: The file cannot be written, or was closed.
        """
        rows = [
            (cache_key, digest, None, outcome)
            if isinstance(outcome, str)
            else (cache_key, digest, outcome.astype("<f4").tobytes(), None)
            for digest, outcome in outcomes.items()
        ]
        with _translated(self.path), _transaction(self._connection):
            self._connection.executemany("INSERT OR REPLACE INTO outcome VALUES (?, ?, ?, ?)", rows)

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._connection.close()

    def __enter__(self) -> EmbeddingCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _checked(self, data: bytes) -> NDArray[np.float32]:
        if len(data) % 4 == 0:
            embedding = np.frombuffer(data, dtype="<f4").astype(np.float32)
            if abs(float(np.linalg.norm(embedding.astype(np.float64))) - 1.0) <= _UNIT_TOLERANCE:
                return embedding
        raise InputError(
            f"embedding cache {str(self.path)!r} is damaged, an embedding in it is not of unit length: "
            "delete it, it is made again"
        )


def _make_file(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as error:
        raise InputError(
            f"embedding cache {str(path)!r} cannot be made: {error.strerror or error}; set VERIFYKIT_HOME "
            "to a folder that can be written, or do without a cache"
        ) from error


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_TIMEOUT_S, isolation_level=None
    )
    try:
        if _is_fresh(connection):
            _make_schema(connection)
        _require_schema(connection, path)
        # A power failure may take the last commits back, which a cache survives; it tears nothing.
        connection.execute("PRAGMA synchronous=NORMAL").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _require_schema(connection: sqlite3.Connection, path: Path) -> None:
    if (found := _pragma(connection, "application_id")) != APPLICATION_ID:
        raise InputError(
            f"{str(path)!r} is no embedding cache, but another database (application id {found}): "
            "give another path, or delete it if nothing needs it"
        )
    if (found := _pragma(connection, "user_version")) != SCHEMA_VERSION:
        raise InputError(
            f"embedding cache {str(path)!r} has schema {found}, this verifykit reads "
            f"{SCHEMA_VERSION}: delete it, it is made again"
        )


def _make_schema(connection: sqlite3.Connection) -> None:
    end = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchall()
            break
        except sqlite3.OperationalError as error:
            # SQLite does not wait for the lock here, whatever the time-out.
            if "is locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)
    with _transaction(connection):
        if _is_fresh(connection):  # another process may have been quicker
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def _is_fresh(connection: sqlite3.Connection) -> bool:
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return not tables and not _pragma(connection, "application_id")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        # SQLite's texts for its result codes (sqlite3_errstr); Python 3.10 gives no code.
        if "not a database" in str(error) or "malformed" in str(error):
            raise InputError(
                f"{str(path)!r} is no embedding cache, or a damaged one ({error}): give another path, or "
                "delete it if nothing else needs it; a cache is made again"
            ) from error
        raise InputError(
            f"embedding cache {str(path)!r}: {error}; see that its disk has room and that its folder can "
            "be written, or do without a cache"
        ) from error
