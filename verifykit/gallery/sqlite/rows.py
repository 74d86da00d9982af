"""Read, store and erase the rows of a gallery file; each statement runs inside the caller's transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verifykit import _sqlite
from verifykit.errors import GalleryFormatError
from verifykit.gallery.base import Enrolment, Entry
from verifykit.gallery.sqlite.encryption import (
    Values,
    crop_place,
    embedding_place,
    id_place,
    nonces,
    pack_record,
    reasons_place,
    record_place,
    unpack_record,
)
from verifykit.gallery.sqlite.schema import version_of

BESIDE = "sealing_"
"""Prefix of the tables of an unfinished encryption, next to those in use; part of the file format."""


@dataclass(frozen=True)
class StoredTemplate:
    """A template's row as it is stored: little-endian float32 and a JSON list, or both encrypted."""

    row: int
    embedding: bytes
    reasons: bytes

    def opened(self, values: Values, subject: int, subject_id: str) -> tuple[bytes, bytes]:
        """Return embedding and reasons, if they were stored for this subject in this row."""
        name = subject_id.encode()
        return (
            values.decrypt(self.embedding, embedding_place(subject, self.row, name)),
            values.decrypt(self.reasons, reasons_place(subject, self.row, name, self.embedding)),
        )


def next_revision(file: sqlite3.Connection) -> int:
    """Raise the file's revision by one and return it."""
    file.execute("UPDATE meta SET value = value + 1 WHERE key = 'revision'")
    return read_revision(file)


def read_revision(file: sqlite3.Connection) -> int:
    """Return the file's revision, which every write transaction raises."""
    return int(file.execute("SELECT value FROM meta WHERE key = 'revision'").fetchone()[0])


def note_copied_since(file: sqlite3.Connection, enrolled_at: int) -> None:
    """Note that a copy brought a time of enrolment, which may be earlier than the gallery itself."""
    known = read_copied_since(file)
    if known is None or enrolled_at < known:
        file.execute("INSERT OR REPLACE INTO meta VALUES ('copied_since', ?)", (enrolled_at,))


def read_copied_since(file: sqlite3.Connection) -> int | None:
    """Return the earliest time of enrolment that a copy brought, None without one."""
    found = file.execute("SELECT value FROM meta WHERE key = 'copied_since'").fetchone()
    return None if found is None else int(found[0])


def find_row(file: sqlite3.Connection, values: Values, subject_id: str) -> int | None:
    """Return a subject's row number, None when no subject is enrolled under this id."""
    found = file.execute(
        "SELECT s.row, i.body FROM subject s JOIN content i ON i.row = s.id_content WHERE s.id_key = ?",
        (values.id_key(subject_id),),
    ).fetchall()
    name = subject_id.encode()
    rows = [row for row, body in found if values.decrypt(body, id_place(row)) == name]
    return int(rows[0]) if rows else None


def read_id(file: sqlite3.Connection, values: Values, row: int) -> str:
    """Return the id of the subject in a row."""
    query = "SELECT i.body FROM subject s JOIN content i ON i.row = s.id_content WHERE s.row = ?"
    found = file.execute(query, (row,)).fetchone()
    if found is None:
        raise GalleryFormatError(f"the subject in row {row} has lost its id")
    return values.decrypt(found[0], id_place(row)).decode()


def read_ids(file: sqlite3.Connection, values: Values) -> list[str]:
    """Return the ids of all subjects, in no order."""
    query = "SELECT s.row, i.body FROM subject s JOIN content i ON i.row = s.id_content"
    return [values.decrypt(body, id_place(row)).decode() for row, body in file.execute(query)]


def read_templates(file: sqlite3.Connection, row: int) -> list[StoredTemplate]:
    """Return a subject's templates in the order of enrolment, as they are stored."""
    query = "SELECT row, embedding, reasons FROM template WHERE subject = ? ORDER BY row"
    return [StoredTemplate(*found) for found in file.execute(query, (row,))]


def read_metadata(
    file: sqlite3.Connection,
    values: Values,
    row: int,
    subject_id: str,
    stored: list[StoredTemplate],
) -> str:
    """Return a subject's metadata as JSON text; ``stored`` is all its templates, for the check."""
    # A file of schema 1, which is not encrypted, has no `enrolled_at`.
    encrypted, plain = "m.body, s.revision, s.enrolled_at", "m.body, 0, 0"
    query = (
        "SELECT COLUMNS FROM subject s JOIN content m ON m.row = s.metadata_content WHERE s.row = ?"
    )
    query = query.replace("COLUMNS", encrypted if values.encrypted else plain)
    found = file.execute(query, (row,)).fetchone()
    if found is None:
        raise GalleryFormatError("its metadata are lost")
    body, revision, enrolled_at = found
    if not values.encrypted:
        return str(body.decode() if isinstance(body, bytes) else body)
    place = record_place(row, revision, enrolled_at, nonces([t.embedding for t in stored]))
    name, metadata = unpack_record(values.decrypt(body, place))
    if name != subject_id.encode():
        raise GalleryFormatError("it has the id of another subject")
    return metadata.decode()


def read_crops(file: sqlite3.Connection, values: Values, row: int, subject_id: str) -> list[bytes]:
    """Return a subject's crops in the order of enrolment."""
    found = stored_crops(file, row, subject_id)
    return [values.decrypt(body, place) for _, _, body, place in found]


def stored_crops(
    file: sqlite3.Connection, row: int, subject_id: str
) -> Iterator[tuple[int, int, bytes, bytes]]:
    """Yield a subject's crops: row number, template, what is stored, and its place."""
    query = "SELECT row, template, body FROM crop WHERE subject = ? ORDER BY row"
    for crop, template, body in file.execute(query, (row,)):
        yield crop, template, body, crop_place(row, template, crop, subject_id.encode())


_SCHEMA_2 = """
    SELECT row, enrolled_at,
        (SELECT count(*) FROM template t WHERE t.subject = subject.row),
        (SELECT count(*) FROM crop c WHERE c.subject = subject.row)
    FROM subject {condition}"""
_SCHEMA_1 = """
    SELECT row, NULL, (SELECT count(*) FROM template t WHERE t.subject = subject.row), 0
    FROM subject {condition}"""


def read_enrolments(
    file: sqlite3.Connection,
    values: Values,
    condition: str = "",
    parameters: tuple[int, ...] = (),
) -> list[tuple[int, Enrolment]]:
    """Return row number and enrolment of every subject, in the order of first enrolment."""
    query = _SCHEMA_1 if version_of(file) == 1 else _SCHEMA_2
    found = file.execute(query.format(condition=condition), parameters).fetchall()
    return [(row, Enrolment(read_id(file, values, row), *counts)) for row, *counts in found]


def store(
    file: sqlite3.Connection,
    values: Values,
    row: int | None,
    entry: Entry,
    revision: int,
    enrolled_at: int,
) -> None:
    """Add an entry: to the subject in this row, or with None as a new subject."""
    metadata, stored = entry.metadata, list[StoredTemplate]()
    if row is None:
        row, is_new, metadata = _next(file, "subject"), True, metadata or "{}"
    else:
        is_new = False
        if values.encrypted:  # read before it is encrypted again, which vouches for it
            stored = read_templates(file, row)
            old = read_metadata(file, values, row, entry.subject_id, stored)
            metadata = old if metadata is None else metadata
    name = entry.subject_id.encode()
    added = _add_templates(file, values, row, entry)
    body = None if metadata is None else metadata.encode()
    if body is not None and values.encrypted:
        all_nonces = nonces([t.embedding for t in (*stored, *added)])
        place = record_place(row, revision, enrolled_at, all_nonces)
        body = values.encrypt(pack_record(name, body), place)
    if is_new:
        id_content = _keep(file, values.encrypt(name, id_place(row)))
        file.execute(
            "INSERT INTO subject (row, id_key, id_content, metadata_content, revision, enrolled_at) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (
                row,
                values.id_key(entry.subject_id),
                id_content,
                _keep(file, body or b"{}"),
                revision,
                enrolled_at,
            ),
        )
        return
    erase_beside(file, row)
    file.execute(
        "UPDATE subject SET revision = ?, enrolled_at = ? WHERE row = ?",
        (revision, enrolled_at, row),
    )
    if body is not None:
        query = "SELECT metadata_content FROM subject WHERE row = ?"
        erase_content(file, file.execute(query, (row,)).fetchone())
        file.execute(
            "UPDATE subject SET metadata_content = ? WHERE row = ?", (_keep(file, body), row)
        )


def _add_templates(
    file: sqlite3.Connection, values: Values, row: int, entry: Entry
) -> list[StoredTemplate]:
    little: NDArray[np.float32] = entry.embeddings.astype("<f4")
    name, first, added = entry.subject_id.encode(), _next(file, "template"), []
    for number, (vector, reasons) in enumerate(
        zip(little, entry.reasons, strict=True), start=first
    ):
        embedding = values.encrypt(vector.tobytes(), embedding_place(row, number, name))
        listed = json.dumps(reasons).encode()
        stored = values.encrypt(listed, reasons_place(row, number, name, embedding))
        added.append(StoredTemplate(number, embedding, stored))
    file.executemany(
        "INSERT INTO template (row, subject, embedding, reasons) VALUES (?, ?, ?, ?)",
        [(t.row, row, t.embedding, t.reasons) for t in added],
    )
    if entry.crops:
        crops = [
            (number, row, t.row, values.encrypt(crop, crop_place(row, t.row, number, name)))
            for number, t, crop in zip(
                range(_next(file, "crop"), 2**62), added, entry.crops, strict=False
            )
        ]
        file.executemany("INSERT INTO crop VALUES (?, ?, ?, ?)", crops)
    return added


def _keep(file: sqlite3.Connection, body: bytes) -> int | None:
    return file.execute("INSERT INTO content (body) VALUES (?)", (body,)).lastrowid


def _next(file: sqlite3.Connection, table: str) -> int:
    """Return the row number that AUTOINCREMENT gives next: values are encrypted for it before."""
    query = "SELECT seq FROM sqlite_sequence WHERE name = ?"
    found = file.execute(query, (table,)).fetchone()
    return found[0] + 1 if found else 1


_CONTENTS = "SELECT id_content, metadata_content FROM {}subject WHERE row = ?"
_CONTENT = "UPDATE {}content SET body = zeroblob(length(body)) WHERE row = ?"
_TEMPLATES = (
    "UPDATE {}template SET embedding = zeroblob(length(embedding)), "
    "reasons = zeroblob(length(reasons)) WHERE row IN (SELECT row FROM template WHERE subject = ?)"
)
_CROPS = (
    "UPDATE {}crop SET body = zeroblob(length(body)) "
    "WHERE row IN (SELECT row FROM crop WHERE subject = ?)"
)


def erase(file: sqlite3.Connection, row: int, revision: int) -> int:
    """Write zeros over a subject, leave its row number for readers, and return its template count."""
    erase_beside(file, row)
    count = _zero(file, "", row)
    file.execute("DELETE FROM subject WHERE row = ?", (row,))
    file.execute("INSERT INTO removal VALUES (?, ?)", (revision, row))
    return count


def erase_content(file: sqlite3.Connection, rows: Iterable[int]) -> None:
    """Write zeros over rows of ``content``."""
    file.executemany(_CONTENT.format(""), [(row,) for row in rows])


def erase_beside(file: sqlite3.Connection, row: int) -> None:
    """Write zeros over what an unfinished encryption holds of a subject; it copies it again."""
    if _sqlite.has_table(file, f"{BESIDE}subject"):
        _zero(file, BESIDE, row)


def _zero(file: sqlite3.Connection, prefix: str, row: int) -> int:
    for contents in file.execute(_CONTENTS.format(prefix), (row,)).fetchall():
        file.executemany(_CONTENT.format(prefix), [(content,) for content in contents])
    file.execute(_CROPS.format(prefix), (row,))
    return file.execute(_TEMPLATES.format(prefix), (row,)).rowcount
