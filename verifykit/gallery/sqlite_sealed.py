"""Reading a sealed gallery file from end to end, for the search; every subject is checked as a whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeAlias

from verifykit.errors import GalleryFormatError
from verifykit.gallery.sqlite_rows import read_id
from verifykit.gallery.sqlite_values import (
    Values,
    embedding_place,
    nonces,
    record_place,
    unpack_record,
)

__all__ = ["named", "opened_subjects"]

_BATCH = 512  # see sqlite_index

# LEFT JOIN, as what has lost its record must be found and not left out.
_SUBJECTS = """
    SELECT s.row, s.revision, s.enrolled_at, m.body, t.row, t.embedding
    FROM subject s
    LEFT JOIN content m ON m.row = s.metadata_content
    LEFT JOIN template t ON t.subject = s.row
    WHERE s.revision > ? ORDER BY s.row, t.row"""


_Opened: TypeAlias = tuple[int, str, str, list[bytes]]


def opened_subjects(
    path: Path, file: sqlite3.Connection, values: Values, revision: int, last_template: int
) -> Iterator[_Opened]:
    """The subjects who were enrolled or appended to since a revision, in the order of their rows.

    Each is checked as a whole, templates of before included; only their nonces are looked at.

    Args:
        path: The file, for messages.
        file: In a read transaction.
        values: The file's.
        revision: 0 for all subjects.
        last_template: Row number up to which embeddings are not wanted.

    Yields:
        Row number, subject id, metadata as JSON text, and the embeddings in the order of enrolment.

    Raises:
        GalleryFormatError: A subject is not what was stored, and which.
    """
    # The sign keeps SQLite from the index of revisions, a detour for one who reads everything.
    query = _SUBJECTS if revision else _SUBJECTS.replace("s.revision >", "+s.revision >")
    for row, found in groupby(_rows(file.execute(query, (revision,))), itemgetter(0)):
        rows = list(found)
        try:
            yield _opened(values, rows, last_template)
        except GalleryFormatError as error:
            raise GalleryFormatError(
                f"gallery {path}: {named(file, values, row)}: {error}; run `verifykit gallery check`, remove "
                "the subject and enrol again, or restore the file from an export or a copy"
            ) from error


def named(file: sqlite3.Connection, values: Values, row: int) -> str:
    """Who is in a row of a file that is damaged, for a message."""
    try:
        return f"subject {read_id(file, values, row)!r}"
    except GalleryFormatError:
        return f"the subject in row {row}, whose id is lost too"


def _opened(values: Values, rows: list[tuple[Any, ...]], last_template: int) -> _Opened:
    row, revision, enrolled_at, record, first, _ = rows[0]
    if first is None:
        raise GalleryFormatError("it has no template")
    place = record_place(row, revision, enrolled_at, nonces([found[5] for found in rows]))
    name, metadata = unpack_record(values.open(record, place))
    embeddings = [
        values.open(sealed, embedding_place(row, template, name))
        for _, _, _, _, template, sealed in rows
        if template > last_template
    ]
    return row, name.decode(), metadata.decode(), embeddings


def _rows(cursor: sqlite3.Cursor) -> Iterator[tuple[Any, ...]]:
    while batch := cursor.fetchmany(_BATCH):
        yield from batch
