"""The tables of a gallery file: making them, migrating them, and reading what a file says about itself."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from verifykit import _sqlite
from verifykit.errors import GalleryError, GalleryFormatError, shortened, shortened_path, shown
from verifykit.gallery.base import GalleryIdentity
from verifykit.gallery.sqlite import log_mark
from verifykit.gallery.sqlite.connection import (
    Connections,
    connect,
    require_file,
    require_length,
    translated,
)
from verifykit.gallery.sqlite.encryption import salted
from verifykit.gallery.times import iso_now

APPLICATION_ID = 0x564B4701
SCHEMA_VERSION = 3

# AUTOINCREMENT: a row number is never given twice, so a reader that knows the last one knows what is
# new. `removal` tells it what has gone, and holds nothing but the number of a row that is no more.
#
# `content` (subject ids, metadata), `template` and `crop` are only appended to, and erased by writing zeros
# over the row, which stays: when SQLite rebalances a page after an insertion or deletion in the middle, it
# leaves copies of moved rows in the page's unused space, where secure_delete does not reach. Everything
# else is integers. `id_key` is a keyed hash, see encryption. `crop` is filled in encrypted files only.
TABLES = {
    "meta": "(key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
    "content": "(row INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL)",
    "subject": """(
        row INTEGER PRIMARY KEY AUTOINCREMENT,
        id_key INTEGER NOT NULL,
        id_content INTEGER NOT NULL,
        metadata_content INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        enrolled_at INTEGER)""",
    "template": """(
        row INTEGER PRIMARY KEY AUTOINCREMENT,
        subject INTEGER NOT NULL,
        embedding BLOB NOT NULL,
        reasons BLOB NOT NULL)""",
    "crop": """(
        row INTEGER PRIMARY KEY AUTOINCREMENT,
        subject INTEGER NOT NULL,
        template INTEGER NOT NULL,
        body BLOB NOT NULL)""",
    "removal": "(revision INTEGER PRIMARY KEY, subject INTEGER NOT NULL)",
}

INDEXES = (
    "CREATE INDEX subject_id_key ON subject (id_key)",
    "CREATE INDEX subject_revision ON subject (revision)",
    "CREATE INDEX template_subject ON template (subject)",
    "CREATE INDEX crop_subject ON crop (subject)",
)

# The subjects as one reads them; not in encrypted files.
_VIEW = """CREATE VIEW enrolled AS
    SELECT s.row AS row, s.revision AS revision, CAST(i.body AS TEXT) AS subject_id,
        CAST(m.body AS TEXT) AS metadata
    FROM subject s
    JOIN content i ON i.row = s.id_content JOIN content m ON m.row = s.metadata_content"""

# Schema 1 had neither `subject.enrolled_at` nor `crop`, schema 2 no mark of the log (log_mark.py).
_MIGRATION = (
    "ALTER TABLE subject ADD COLUMN enrolled_at INTEGER",
    f"CREATE TABLE crop {TABLES['crop']}",
    INDEXES[3],
)

# A copy that `cp` makes while a checkpoint writes has pages of two moments, and SQLite does not notice. No
# row of `content`, `template` and `crop` is ever deleted and each removal leaves its row, so the counts of
# tables, indexes and AUTOINCREMENT's numbers agree in a file of one moment. Counting runs over the indexes,
# which is nearly all of what `python -m benchmarks.search --opening 1000000` prints as opening without a
# search.
_WHOLE = """
    WITH made AS (SELECT
        coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'content'), 0) AS content,
        coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'subject'), 0) AS subject,
        coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'template'), 0) AS template,
        coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'crop'), 0) AS crop)
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
        {crops}
    FROM made"""
_WHOLE_CROPS = """,
        (SELECT coalesce(max(row), 0) FROM crop) = made.crop,
        (SELECT count(*) FROM crop INDEXED BY crop_subject) = made.crop"""


def version_of(file: sqlite3.Connection) -> int:
    """Return the number of the file's schema."""
    return _sqlite.pragma(file, "user_version")


def migrate(file: sqlite3.Connection) -> None:
    """Bring a file of an earlier schema to the present one, before anything else is written to it."""
    version = version_of(file)
    if version == 1:
        for statement in _MIGRATION:
            file.execute(statement)
    if version < SCHEMA_VERSION:
        file.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def is_whole(file: sqlite3.Connection) -> bool:
    """Return whether the tables are of one moment."""
    crops = _WHOLE_CROPS if version_of(file) > 1 else ""
    return all(file.execute(_WHOLE.format(crops=crops)).fetchone())


def create_file(path: Path, identity: GalleryIdentity, timeout_s: float, key: bytes | None) -> None:
    """Make the file if there is none, or if it is empty; safe when two processes do it at once.

    Only its owner can read and write it: embeddings are biometric data.
    """
    if not path.parent.is_dir():
        raise GalleryError(
            f"gallery {shortened(path)}: folder {shortened(path.parent)} does not exist; make it first"
        )
    require_length(path)
    try:
        _sqlite.make_private_file(path)
    except OSError as error:
        raise GalleryError(
            f"gallery {shortened(path)}: it cannot be made in this folder: {error.strerror}; choose another "
            "folder or change its permissions"
        ) from shortened_path(error)
    connection = connect(path, read_only=False, timeout_s=timeout_s)
    with contextlib.closing(connection), translated(path):
        if not _sqlite.is_fresh(connection):
            return
        connection.execute("PRAGMA page_size=8192").fetchall()
        with log_mark.opening():
            _sqlite.set_wal(connection, timeout_s)
        with _sqlite.writing(connection):
            if _sqlite.is_fresh(connection):  # another process may have been quicker
                _create_tables(connection, identity, key)


def _create_tables(file: sqlite3.Connection, identity: GalleryIdentity, key: bytes | None) -> None:
    for name, columns in TABLES.items():
        file.execute(f"CREATE TABLE {name} {columns}")
    for statement in INDEXES:
        file.execute(statement)
    if key is None:
        file.execute(_VIEW)
    file.execute(f"PRAGMA application_id={APPLICATION_ID}")
    file.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    values = {
        "spec_digest": identity.spec_digest,
        "embedding_size": identity.embedding_size,
        "model": identity.model,
        "created": iso_now(),
        "revision": 0,
    }
    values |= salted(values, key)
    file.executemany("INSERT INTO meta VALUES (?, ?)", values.items())


def read_identity(file: sqlite3.Connection, path: Path) -> GalleryIdentity:
    """Return what the file says about itself, if it is a gallery of one moment; it keeps no fusion."""
    with translated(path):
        if _sqlite.pragma(file, "application_id") != APPLICATION_ID:
            raise GalleryFormatError(
                f"gallery {shortened(path)}: this is not a verifykit gallery; choose another path"
            )
        version = version_of(file)
        if not 1 <= version <= SCHEMA_VERSION:
            raise GalleryFormatError(
                f"gallery {shortened(path)}: it has schema {version}, this verifykit reads 1 to "
                f"{SCHEMA_VERSION}: install the verifykit that wrote it"
            )
        values = dict(file.execute("SELECT key, value FROM meta").fetchall())
    try:
        identity = GalleryIdentity(
            str(values["spec_digest"]),
            int(values["embedding_size"]),
            model=str(values["model"]),
            created=str(values["created"]),
            version=version,
        )
        salt = values["file_salt" if "file_salt" in values else "id_salt"]
        sound = isinstance(values["revision"], int) and isinstance(salt, bytes)
    except (KeyError, ValueError) as error:
        raise GalleryFormatError(
            f"gallery {shortened(path)}: its meta table is damaged: {shown(error)}"
        ) from error
    if identity.embedding_size < 1 or not identity.spec_digest or not sound:
        raise GalleryFormatError(
            f"gallery {shortened(path)}: its meta table is damaged: {shown(identity)}"
        )
    with translated(path):
        whole = is_whole(file)
    if not whole:
        raise GalleryFormatError(
            f"gallery {shortened(path)}: its parts are of different moments, as in a copy that was "
            "made during a "
            "write: export the original (verifykit gallery export), or copy it when no process has it open"
        )
    return identity


def is_finished(path: Path, timeout_s: float) -> bool:
    """Return whether there surely is a gallery; not so when one is being made, or its maker was killed.

    By SQLite: to open and close the file otherwise drops the locks that this process has on it, and another
    one that closes it then deletes the log which this one still writes to
    (https://www.sqlite.org/howtocorrupt.html, 2.2).
    """
    if not path.is_file():
        return False
    try:
        connection = connect(path, read_only=True, timeout_s=timeout_s)
    except GalleryFormatError:
        raise
    except GalleryError:
        return False
    with contextlib.closing(connection), translated(path):
        return _sqlite.pragma(connection, "application_id") == APPLICATION_ID


def identity_of(path: Path, timeout_s: float) -> GalleryIdentity:
    """Return what a file says about itself; takes no key."""
    require_file(path)
    connections = Connections(path, read_only=True, timeout_s=timeout_s)
    with contextlib.closing(connections), connections.reading() as file:
        return read_identity(file, path)
