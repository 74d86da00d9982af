"""Read a gallery file from end to end, to find what is wrong with it."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time

from verifykit.errors import GalleryFormatError, TemplateFormatError, shown
from verifykit.gallery.base import embedding_from_blob, metadata_from_json
from verifykit.gallery.sqlite.encryption import Values
from verifykit.gallery.sqlite.index import named
from verifykit.gallery.sqlite.rows import (
    StoredTemplate,
    find_row,
    read_copied_since,
    read_crops,
    read_id,
    read_metadata,
    read_revision,
    read_templates,
)
from verifykit.gallery.sqlite.schema import version_of
from verifykit.gallery.subject_ids import id_problems
from verifykit.gallery.times import time_problem
from verifykit.scoring import checked_embeddings

_MOST = 100


def problems(
    file: sqlite3.Connection, values: Values, embedding_size: int, created: int
) -> list[str]:
    """Return what is wrong, at most 100 sentences: SQLite's own check, every subject, every template."""
    found: list[str] = []
    try:
        found += [
            f"file structure: {text}"
            for (text,) in file.execute(f"PRAGMA integrity_check({_MOST})").fetchall()
            if text != "ok"
        ]
        if values.encrypted:
            found += _encrypted_problems(file, values, embedding_size)
        else:
            found += _subject_problems(file, values)
        found += _template_problems(file, values, embedding_size)
        found += _time_problems(file, values, created)
    except sqlite3.DatabaseError as error:
        found.append(f"file structure: {error}; what is stored behind it was not checked")
    return found[:_MOST]


def _subject_problems(file: sqlite3.Connection, values: Values) -> list[str]:
    found = []
    newest = read_revision(file)
    rows = file.execute("SELECT count(*) FROM subject").fetchone()[0]
    query = (
        "SELECT row, subject_id, metadata, revision, "
        "(SELECT count(*) FROM template WHERE subject = enrolled.row) FROM enrolled"
    )
    seen: dict[str, None] = {}
    for row, subject_id, metadata, revision, templates in file.execute(query):
        try:
            metadata_from_json(metadata)
        except (ValueError, TypeError) as error:
            found.append(f"subject {shown(subject_id)}: {error}")
        if subject_id in seen or find_row(file, values, subject_id) != row:
            found.append(
                f"subject {shown(subject_id)}: it is there twice, or cannot be found by its id"
            )
        if not templates:
            found.append(f"subject {shown(subject_id)}: it has no template")
        if not 0 < revision <= newest:
            found.append(
                f"subject {shown(subject_id)}: revision {revision}, the file is at {newest}"
            )
        seen[subject_id] = None
        rows -= 1
    found += id_problems(seen)
    return found + ([f"{rows} subjects have lost their id or their metadata"] if rows else [])


def _time_problems(file: sqlite3.Connection, values: Values, created: int) -> list[str]:
    if version_of(file) == 1:
        return []
    copied = read_copied_since(file)
    first, now = created if copied is None else min(created, copied), int(time.time())
    query = "SELECT row, enrolled_at FROM subject WHERE enrolled_at IS NOT NULL ORDER BY row"
    return [
        f"{named(file, values, row)}: {problem}"
        for row, enrolled_at in file.execute(query)
        if (problem := time_problem(enrolled_at, first, now))
    ]


def _encrypted_problems(file: sqlite3.Connection, values: Values, embedding_size: int) -> list[str]:
    found, seen = [], []
    for (row,) in file.execute("SELECT row FROM subject ORDER BY row").fetchall():
        found += _encrypted_subject_problems(file, values, row, embedding_size)
        with contextlib.suppress(GalleryFormatError, UnicodeDecodeError):  # said above
            seen.append(read_id(file, values, row))
    return found + id_problems(seen)


def _encrypted_subject_problems(
    file: sqlite3.Connection, values: Values, row: int, embedding_size: int
) -> list[str]:
    found = []
    try:
        subject_id = read_id(file, values, row)
        if find_row(file, values, subject_id) != row:
            found.append(f"subject {shown(subject_id)}: it cannot be found by its id")
        stored = read_templates(file, row)
        for template in stored:
            problem = _encrypted_template_problem(values, row, subject_id, template, embedding_size)
            if problem:
                found.append(f"subject {shown(subject_id)}, template row {template.row}: {problem}")
        metadata_from_json(read_metadata(file, values, row, subject_id, stored))
        read_crops(file, values, row, subject_id)
    except (GalleryFormatError, ValueError, TypeError) as error:
        found.append(f"{named(file, values, row)}: {error}")
    return found


def _encrypted_template_problem(
    values: Values, row: int, subject_id: str, template: StoredTemplate, embedding_size: int
) -> str | None:
    try:
        embedding, reasons = template.opened(values, row, subject_id)
    except (GalleryFormatError, TypeError) as error:
        return str(error)
    return _template_problem(embedding, reasons, embedding_size)


def _template_problems(file: sqlite3.Connection, values: Values, embedding_size: int) -> list[str]:
    found = []
    query = (
        "SELECT t.row, t.embedding FROM template t "
        "WHERE NOT EXISTS (SELECT 1 FROM subject s WHERE s.row = t.subject)"
    )
    for row, blob in file.execute(query):
        if any(blob):
            found.append(f"template row {row}: its subject is removed, but it is not erased")
    if values.encrypted:
        return found
    query = (
        "SELECT t.row, e.subject_id, t.embedding, t.reasons FROM template t "
        "JOIN enrolled e ON e.row = t.subject ORDER BY t.row"
    )
    for row, subject_id, blob, reasons in file.execute(query):
        problem = _template_problem(blob, reasons, embedding_size)
        if problem:
            found.append(f"subject {shown(subject_id)}, template row {row}: {problem}")
    return found


def _template_problem(blob: object, reasons: bytes, embedding_size: int) -> str | None:
    try:
        checked_embeddings(embedding_from_blob(blob, embedding_size)[None, :], embedding_size)
        listed = json.loads(reasons)
    except (TemplateFormatError, ValueError, TypeError) as error:
        return str(error)
    return None if isinstance(listed, list) else f"its reasons are not a list: {shown(reasons)}"
