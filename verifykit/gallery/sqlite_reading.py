"""What a gallery file says of one subject, of all of them, and of itself."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from verifykit.errors import GalleryFormatError, SubjectNotFoundError, TemplateFormatError
from verifykit.gallery.intake import metadata_from_json
from verifykit.gallery.sqlite_index import embedding_from_blob
from verifykit.gallery.sqlite_keyring import key_description
from verifykit.gallery.sqlite_rows import find_row, read_metadata, read_templates
from verifykit.gallery.sqlite_tables import version_of
from verifykit.gallery.sqlite_values import Values
from verifykit.types import Subject, Template

__all__ = ["describe", "read_subject", "required_row"]


def read_subject(
    path: Path,
    file: sqlite3.Connection,
    values: Values,
    row: int,
    subject_id: str,
    *,
    spec_digest: str,
    embedding_size: int,
) -> Subject:
    """All that is stored of a subject, but crops.

    Args:
        path: The file, for messages.
        file: In a transaction.
        values: The file's.
        row: The subject's.
        subject_id: The subject's.
        spec_digest: Digest of the file's model.
        embedding_size: D.

    Raises:
        GalleryFormatError: It is damaged, or was changed.
    """
    try:
        stored = read_templates(file, row)
        metadata = metadata_from_json(read_metadata(file, values, row, subject_id, stored))
        templates = []
        for template in stored:
            embedding, reasons = template.opened(values, row, subject_id)
            vector = embedding_from_blob(embedding, embedding_size)
            templates.append(Template(vector, spec_digest, reasons=tuple(json.loads(reasons))))
        return Subject(subject_id, tuple(templates), metadata, _enrolled_at(file, row))
    except (GalleryFormatError, TemplateFormatError, ValueError, TypeError) as error:
        raise GalleryFormatError(
            f"gallery {path}: what is stored of {subject_id!r} is damaged: {error}; run "
            "`verifykit gallery check`, remove the subject and enrol again"
        ) from error


def required_row(path: Path, file: sqlite3.Connection, values: Values, subject_id: str) -> int:
    """A subject's row number.

    Raises:
        SubjectNotFoundError: Nobody is enrolled under this id.
        GalleryFormatError: A subject is in the place of another.
    """
    row = find_row(file, values, subject_id)
    if row is None:
        raise SubjectNotFoundError(f"gallery {path}: nobody is enrolled as {subject_id!r}")
    return row


def _enrolled_at(file: sqlite3.Connection, row: int) -> int | None:
    if version_of(file) == 1:
        return None
    found: tuple[int | None] = file.execute(
        "SELECT enrolled_at FROM subject WHERE row = ?", (row,)
    ).fetchone()
    return found[0]


def describe(file: sqlite3.Connection) -> dict[str, Any]:
    """Schema, encryption and counts, JSON-ready."""
    subjects, templates, revision = file.execute(
        "SELECT (SELECT count(*) FROM subject), "
        "(SELECT count(*) FROM subject s JOIN template t ON t.subject = s.row), "
        "(SELECT value FROM meta WHERE key = 'revision')"
    ).fetchone()
    crops = "SELECT count(*) FROM subject s JOIN crop c ON c.subject = s.row"
    version = version_of(file)
    unfinished = "SELECT 1 FROM sqlite_master WHERE name = 'sealing_state'"
    return {
        "schema_version": version,
        **key_description(file),
        "subject_count": subjects,
        "template_count": templates,
        "crop_count": file.execute(crops).fetchone()[0] if version > 1 else 0,
        "revision": revision,
        **({"sealing_unfinished": True} if file.execute(unfinished).fetchone() else {}),
    }
