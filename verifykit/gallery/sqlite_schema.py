"""The schema of a gallery file: making one, and reading what one says about itself."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from verifykit.errors import GalleryError, GalleryFormatError, TemplateMismatchError
from verifykit.gallery.sqlite_file import connect, translated

__all__ = [
    "SCHEMA_VERSION",
    "FileIdentity",
    "create_file",
    "is_finished",
    "read_identity",
    "require_model",
]

APPLICATION_ID = 0x564B4701
SCHEMA_VERSION = 1

# AUTOINCREMENT: a row number is never given twice, so a reader that knows the last one knows what is
# new. `removal` tells it what has gone, and holds nothing but the number of a row that is no more.
#
# `content` (subject ids, metadata) and `template` are only appended to, and erased by writing zeros over
# the row, which stays: when SQLite rebalances a page after an insertion or deletion in the middle, it
# leaves copies of moved rows in the page's unused space, where secure_delete does not reach. Everything
# else is integers. `id_key` is a keyed hash, see sqlite_rows.
_SCHEMA = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
    "CREATE TABLE content (row INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL)",
    """CREATE TABLE subject (
        row INTEGER PRIMARY KEY AUTOINCREMENT,
        id_key INTEGER NOT NULL,
        id_content INTEGER NOT NULL,
        metadata_content INTEGER NOT NULL,
        revision INTEGER NOT NULL)""",
    "CREATE INDEX subject_id_key ON subject (id_key)",
    "CREATE INDEX subject_revision ON subject (revision)",
    """CREATE TABLE template (
        row INTEGER PRIMARY KEY AUTOINCREMENT,
        subject INTEGER NOT NULL,
        embedding BLOB NOT NULL,
        reasons BLOB NOT NULL)""",
    "CREATE INDEX template_subject ON template (subject)",
    "CREATE TABLE removal (revision INTEGER PRIMARY KEY, subject INTEGER NOT NULL)",
    # The subjects as one reads them.
    """CREATE VIEW enrolled AS
        SELECT s.row AS row, s.revision AS revision, CAST(i.body AS TEXT) AS subject_id,
            CAST(m.body AS TEXT) AS metadata
        FROM subject s
        JOIN content i ON i.row = s.id_content JOIN content m ON m.row = s.metadata_content""",
)

# A copy that `cp` makes while a checkpoint writes has pages of two moments, and SQLite does not notice. No
# row of `content` and `template` is ever deleted and each removal leaves its row, so the counts of tables,
# indexes and AUTOINCREMENT's numbers agree in a file of one moment. Counting runs over the indexes: 35 ms
# for a million subjects of one template each.
_WHOLE = """
    WITH made AS (SELECT
        coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'content'), 0) AS content,
        coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'subject'), 0) AS subject,
        coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'template'), 0) AS template)
    SELECT
        (SELECT coalesce(max(row), 0) FROM content) = made.content,
        (SELECT coalesce(max(row), 0) FROM template) = made.template,
        (SELECT count(*) FROM template INDEXED BY template_subject) = made.template,
        (SELECT count(*) FROM subject INDEXED BY subject_id_key)
            = (SELECT count(*) FROM subject NOT INDEXED),
        (SELECT count(*) FROM subject INDEXED BY subject_revision)
            = (SELECT count(*) FROM subject NOT INDEXED),
        (SELECT count(*) FROM subject NOT INDEXED) + (SELECT count(*) FROM removal) = made.subject,
        coalesce((SELECT max(revision) FROM subject), 0)
            <= (SELECT value FROM meta WHERE key = 'revision'),
        coalesce((SELECT max(revision) FROM removal), 0)
            <= (SELECT value FROM meta WHERE key = 'revision')
    FROM made"""


@dataclass(frozen=True)
class FileIdentity:
    """What a gallery file says about itself.

    Attributes:
        spec_digest: Digest of the model whose templates it holds.
        embedding_size: D.
        model: That model's name, for people; may be empty.
        created: ISO 8601, UTC.
    """

    spec_digest: str
    embedding_size: int
    model: str
    created: str


def create_file(path: Path, identity: FileIdentity, timeout_s: float) -> None:
    """Make the file if there is none, or if it is empty; safe when two processes do it at once.

    Only its owner can read and write it: embeddings are biometric data.

    Raises:
        GalleryError: The folder is missing or cannot be written, or the disk is full.
        GalleryFormatError: There is a file, and it is not an SQLite database.
        GalleryLockedError: Another process held it for longer than the time-out.
    """
    if not path.parent.is_dir():
        raise GalleryError(f"gallery {path}: folder {path.parent} does not exist; make it first")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        _sync_folder(path.parent)
    except FileExistsError:
        pass
    except OSError as error:
        raise GalleryError(
            f"gallery {path}: it cannot be made in this folder: {error.strerror}; choose another "
            "folder or change its permissions"
        ) from error
    connection = connect(path, read_only=False, timeout_s=timeout_s)
    with contextlib.closing(connection), translated(path):
        if not _is_fresh(connection):
            return
        connection.execute("PRAGMA page_size=8192").fetchall()
        _set_wal(connection, timeout_s)
        connection.execute("BEGIN IMMEDIATE")
        if _is_fresh(connection):  # another process may have been quicker
            for statement in _SCHEMA:
                connection.execute(statement)
            values = {
                "spec_digest": identity.spec_digest,
                "embedding_size": identity.embedding_size,
                "model": identity.model,
                "created": identity.created or _now(),
                "revision": 0,
                "id_salt": secrets.token_bytes(16),
            }
            connection.executemany("INSERT INTO meta VALUES (?, ?)", values.items())
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.execute("COMMIT")


def _set_wal(connection: sqlite3.Connection, timeout_s: float) -> None:
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


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder durable; systems that cannot open a folder do it by themselves."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _is_fresh(connection: sqlite3.Connection) -> bool:
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return not tables and not _pragma(connection, "application_id")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def read_identity(connection: sqlite3.Connection, path: Path) -> FileIdentity:
    """What the file says about itself.

    Raises:
        GalleryFormatError: Not a gallery, not finished, damaged, of a newer schema, or a copy that was
            made while somebody wrote.
    """
    with translated(path):
        if _pragma(connection, "application_id") != APPLICATION_ID:
            raise GalleryFormatError(
                f"gallery {path}: this is not a verifykit gallery; give another path"
            )
        version = _pragma(connection, "user_version")
        if version != SCHEMA_VERSION:
            raise GalleryFormatError(
                f"gallery {path}: it has schema {version}, this verifykit reads {SCHEMA_VERSION}: "
                "install the verifykit that wrote it"
            )
        values = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    try:
        identity = FileIdentity(
            str(values["spec_digest"]),
            int(values["embedding_size"]),
            str(values["model"]),
            str(values["created"]),
        )
        sound = isinstance(values["revision"], int) and isinstance(values["id_salt"], bytes)
    except (KeyError, ValueError) as error:
        raise GalleryFormatError(f"gallery {path}: its meta table is damaged: {error!r}") from error
    if identity.embedding_size < 1 or not identity.spec_digest or not sound:
        raise GalleryFormatError(f"gallery {path}: its meta table is damaged: {identity}")
    with translated(path):
        whole = all(connection.execute(_WHOLE).fetchone())
    if not whole:
        raise GalleryFormatError(
            f"gallery {path}: its parts are of different moments, as in a copy that was made while somebody "
            "wrote: export the original (verifykit gallery export), or copy it when nobody has it open"
        )
    return identity


def is_finished(path: Path) -> bool:
    """Whether there surely is a gallery; not so when one is being made, or its maker was killed.

    Looks at the file's first bytes only, so a gallery whose first changes are still in the log may be
    told to be unfinished: :func:`create_file` then finds it whole.
    """
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError:
        return False
    # https://www.sqlite.org/fileformat2.html, 1.3: the application id is at offset 68.
    return header[68:72] == APPLICATION_ID.to_bytes(4, "big")


def require_model(
    path: Path, identity: FileIdentity, spec_digest: str, embedding_size: int, model: str
) -> None:
    """Whether a file was made with this model.

    Raises:
        TemplateMismatchError: It was made with another.
        GalleryFormatError: The digest agrees but the length of an embedding does not.
    """
    if identity.spec_digest != spec_digest:
        raise TemplateMismatchError(
            f"gallery {path} holds templates of model {identity.model or 'without a name'} "
            f"({identity.spec_digest[:12]}), not of {model or 'this one'} ({spec_digest[:12]}), and the "
            "two cannot be compared: open it with that model, or enrol the subjects again into a new "
            "gallery"
        )
    if identity.embedding_size != embedding_size:
        raise GalleryFormatError(
            f"gallery {path} holds embeddings of {identity.embedding_size} values, the model makes "
            f"{embedding_size}: the file is damaged"
        )
