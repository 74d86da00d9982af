"""The statements on a gallery file's rows; each runs inside the caller's transaction."""

from __future__ import annotations

import hashlib
import json
import sqlite3

import numpy as np
from numpy.typing import NDArray

from verifykit.gallery.intake import Entry

__all__ = ["erase", "find_row", "next_revision", "read_subject", "store"]

_ERASE = "UPDATE content SET body = zeroblob(length(body)) WHERE row = ?"
_ERASE_TEMPLATES = (
    "UPDATE template SET embedding = zeroblob(length(embedding)), "
    "reasons = zeroblob(length(reasons)) WHERE subject = ?"
)


def next_revision(file: sqlite3.Connection) -> int:
    """Raise the file's revision by one and return it."""
    file.execute("UPDATE meta SET value = value + 1 WHERE key = 'revision'")
    return int(file.execute("SELECT value FROM meta WHERE key = 'revision'").fetchone()[0])


def find_row(file: sqlite3.Connection, subject_id: str) -> int | None:
    """A subject's row number, None when nobody is enrolled under this id."""
    found = file.execute(
        "SELECT s.row FROM subject s JOIN content i ON i.row = s.id_content "
        "WHERE s.id_key = ? AND i.body = ?",
        (_id_key(file, subject_id), subject_id.encode()),
    ).fetchone()
    return None if found is None else int(found[0])


def _id_key(file: sqlite3.Connection, subject_id: str) -> int:
    # What an index of the ids themselves would spread over the file, a hash does not give away.
    salt = file.execute("SELECT value FROM meta WHERE key = 'id_salt'").fetchone()[0]
    digest = hashlib.blake2b(subject_id.encode(), digest_size=8, key=salt).digest()
    return int.from_bytes(digest, "little", signed=True)


def store(file: sqlite3.Connection, row: int | None, entry: Entry, revision: int) -> None:
    """Add an entry: to the subject in this row, or with None as a new subject."""
    if row is None:
        row = file.execute(
            "INSERT INTO subject (id_key, id_content, metadata_content, revision) VALUES (?, ?, ?, ?)",
            (
                _id_key(file, entry.subject_id),
                _keep(file, entry.subject_id),
                _keep(file, entry.metadata or "{}"),
                revision,
            ),
        ).lastrowid
    else:
        file.execute("UPDATE subject SET revision = ? WHERE row = ?", (revision, row))
        if entry.metadata is not None:
            query = "SELECT metadata_content FROM subject WHERE row = ?"
            file.execute(_ERASE, file.execute(query, (row,)).fetchone())
            file.execute(
                "UPDATE subject SET metadata_content = ? WHERE row = ?",
                (_keep(file, entry.metadata), row),
            )
    little: NDArray[np.float32] = entry.embeddings.astype("<f4")
    file.executemany(
        "INSERT INTO template (subject, embedding, reasons) VALUES (?, ?, ?)",
        [
            (row, embedding.tobytes(), json.dumps(reasons).encode())
            for embedding, reasons in zip(little, entry.reasons, strict=True)
        ],
    )


def _keep(file: sqlite3.Connection, text: str) -> int | None:
    return file.execute("INSERT INTO content (body) VALUES (?)", (text.encode(),)).lastrowid


def erase(file: sqlite3.Connection, row: int, revision: int) -> int:
    """Write zeros over a subject, leave its row number for readers, and return its template count."""
    contents = file.execute(
        "SELECT id_content, metadata_content FROM subject WHERE row = ?", (row,)
    ).fetchone()
    file.executemany(_ERASE, [(content,) for content in contents])
    count = file.execute(_ERASE_TEMPLATES, (row,)).rowcount
    file.execute("DELETE FROM subject WHERE row = ?", (row,))
    file.execute("INSERT INTO removal VALUES (?, ?)", (revision, row))
    return count


def read_subject(file: sqlite3.Connection, row: int) -> tuple[str, list[tuple[object, bytes]]]:
    """Metadata as JSON text, and (embedding, reasons) of each template in the order of enrolment."""
    metadata = file.execute("SELECT metadata FROM enrolled WHERE row = ?", (row,)).fetchone()[0]
    query = "SELECT embedding, reasons FROM template WHERE subject = ? ORDER BY row"
    return metadata, file.execute(query, (row,)).fetchall()
