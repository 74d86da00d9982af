"""The tables of a gallery file: their shape, their migration, and whether they are of one moment."""

from __future__ import annotations

import sqlite3

__all__ = [
    "APPLICATION_ID",
    "INDEXES",
    "SCHEMA_VERSION",
    "TABLES",
    "create_tables",
    "is_whole",
    "migrate",
    "version_of",
]

APPLICATION_ID = 0x564B4701
SCHEMA_VERSION = 2

# AUTOINCREMENT: a row number is never given twice, so a reader that knows the last one knows what is
# new. `removal` tells it what has gone, and holds nothing but the number of a row that is no more.
#
# `content` (subject ids, metadata), `template` and `crop` are only appended to, and erased by writing zeros
# over the row, which stays: when SQLite rebalances a page after an insertion or deletion in the middle, it
# leaves copies of moved rows in the page's unused space, where secure_delete does not reach. Everything
# else is integers. `id_key` is a keyed hash, see sqlite_values. `crop` is filled in sealed files only.
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

# The subjects as one reads them; not in sealed files.
_VIEW = """CREATE VIEW enrolled AS
    SELECT s.row AS row, s.revision AS revision, CAST(i.body AS TEXT) AS subject_id,
        CAST(m.body AS TEXT) AS metadata
    FROM subject s
    JOIN content i ON i.row = s.id_content JOIN content m ON m.row = s.metadata_content"""

# Schema 1 had neither `subject.enrolled_at` nor `crop`.
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


def create_tables(file: sqlite3.Connection, *, sealed: bool) -> None:
    """Make the tables of an empty file.

    Args:
        file: In a write transaction.
        sealed: Whether values will be sealed.
    """
    for name, columns in TABLES.items():
        file.execute(f"CREATE TABLE {name} {columns}")
    for statement in INDEXES:
        file.execute(statement)
    if not sealed:
        file.execute(_VIEW)
    file.execute(f"PRAGMA application_id={APPLICATION_ID}")
    file.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def version_of(file: sqlite3.Connection) -> int:
    """The number of the file's schema."""
    return int(file.execute("PRAGMA user_version").fetchone()[0])


def migrate(file: sqlite3.Connection) -> None:
    """Bring a file of schema 1 to the present one, with the transaction that writes to it.

    Args:
        file: In a write transaction.
    """
    if version_of(file) == 1:
        for statement in _MIGRATION:
            file.execute(statement)
        file.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def is_whole(file: sqlite3.Connection) -> bool:
    """Whether the tables are of one moment."""
    crops = _WHOLE_CROPS if version_of(file) > 1 else ""
    return all(file.execute(_WHOLE.format(crops=crops)).fetchone())
