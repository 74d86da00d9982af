"""The statements on a gallery file's rows; each runs inside the caller's transaction."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
from numpy.typing import NDArray

from verifykit.gallery.intake import Entry

__all__ = ["erase", "next_revision", "read_subject", "row_of", "store"]


def next_revision(file: sqlite3.Connection) -> int:
    """Raise the file's revision by one and return it."""
    file.execute("UPDATE meta SET value = value + 1 WHERE key = 'revision'")
    return int(file.execute("SELECT value FROM meta WHERE key = 'revision'").fetchone()[0])


def row_of(file: sqlite3.Connection, subject_id: str) -> int | None:
    """A subject's row number, None when nobody is enrolled under this id."""
    found = file.execute("SELECT row FROM subject WHERE subject_id = ?", (subject_id,)).fetchone()
    return None if found is None else int(found[0])


def store(file: sqlite3.Connection, row: int | None, entry: Entry, revision: int) -> None:
    """Add an entry: to the subject in this row, or with None as a new subject."""
    if row is None:
        row = file.execute(
            "INSERT INTO subject (subject_id, metadata, revision) VALUES (?, ?, ?)",
            (entry.subject_id, entry.metadata or "{}", revision),
        ).lastrowid
    else:
        file.execute(
            "UPDATE subject SET revision = ?, metadata = coalesce(?, metadata) WHERE row = ?",
            (revision, entry.metadata, row),
        )
    little: NDArray[np.float32] = entry.embeddings.astype("<f4")
    file.executemany(
        "INSERT INTO template (subject, embedding, reasons) VALUES (?, ?, ?)",
        [(row, e.tobytes(), json.dumps(r)) for e, r in zip(little, entry.reasons, strict=True)],
    )


def erase(file: sqlite3.Connection, row: int, revision: int) -> int:
    """Delete a subject, leave its row number for readers, and return how many templates it had."""
    count = file.execute("DELETE FROM template WHERE subject = ?", (row,)).rowcount
    file.execute("DELETE FROM subject WHERE row = ?", (row,))
    file.execute("INSERT INTO removal VALUES (?, ?)", (revision, row))
    return count


def read_subject(file: sqlite3.Connection, row: int) -> tuple[str, list[tuple[object, str]]]:
    """Metadata as JSON text, and (embedding, reasons) of each template in the order of enrolment."""
    metadata = file.execute("SELECT metadata FROM subject WHERE row = ?", (row,)).fetchone()[0]
    query = "SELECT embedding, reasons FROM template WHERE subject = ? ORDER BY row"
    return metadata, file.execute(query, (row,)).fetchall()
