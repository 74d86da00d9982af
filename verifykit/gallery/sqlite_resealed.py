"""What lies in a gallery file of one subject, sealed with another key for the same rows."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from verifykit.errors import GalleryFormatError
from verifykit.gallery.sqlite_rows import StoredTemplate, read_id, read_metadata, read_templates
from verifykit.gallery.sqlite_sealed import named
from verifykit.gallery.sqlite_values import (
    Values,
    crop_place,
    embedding_place,
    id_place,
    nonces,
    pack_record,
    reasons_place,
    record_place,
)

__all__ = ["REPLACED", "Resealed", "resealed", "write_resealed"]

REPLACED = ("content", "subject", "template", "crop")
"""The tables that hold something of subjects."""


@dataclass(frozen=True)
class Resealed:
    """Rows for the tables beside those in use.

    Attributes:
        row: The subject's.
        revision: The subject's.
        subject: Its row of ``subject``.
        contents: Rows of ``content``.
        templates: Rows of ``template``.
        crops: Rows of ``crop``.
    """

    row: int
    revision: int
    subject: tuple[object, ...]
    contents: list[tuple[int, bytes]]
    templates: list[tuple[int, int, bytes, bytes]]
    crops: list[tuple[int, int, int, bytes]]


def resealed(
    path: Path,
    file: sqlite3.Connection,
    old: Values,
    new: Values,
    row: int,
    revision: int,
    enrolled_at: int | None,
    id_content: int,
    metadata_content: int,
) -> Resealed:
    """Open all that there is of a subject, and seal it.

    Args:
        path: The file, for messages.
        file: In a transaction.
        old: What opens it.
        new: What seals it.
        row: Of the subject's row, like the rest.
        revision: See there.
        enrolled_at: See there.
        id_content: See there.
        metadata_content: See there.

    Raises:
        GalleryFormatError: It is damaged, or was changed.
    """
    try:
        subject_id = read_id(file, old, row)
        stored = read_templates(file, row)
        metadata = read_metadata(file, old, row, subject_id, stored)
        name = subject_id.encode()
        templates = [_template(old, new, row, subject_id, template) for template in stored]
        crops = [
            (crop, row, template, new.seal(old.open(body, place), place))
            for crop, template, body in file.execute(
                "SELECT row, template, body FROM crop WHERE subject = ? ORDER BY row", (row,)
            )
            for place in (crop_place(row, template, crop, name),)
        ]
    except (GalleryFormatError, ValueError, TypeError, AttributeError) as error:
        raise GalleryFormatError(
            f"gallery {path}: {named(file, old, row)} is damaged: {error}; run `verifykit gallery check`, "
            "remove the subject and enrol again; nothing was changed"
        ) from error
    place = record_place(row, revision, enrolled_at, nonces([t[2] for t in templates]))
    return Resealed(
        row,
        revision,
        (row, new.id_key(subject_id), id_content, metadata_content, revision, enrolled_at),
        [
            (id_content, new.seal(name, id_place(row))),
            (metadata_content, new.seal(pack_record(name, metadata.encode()), place)),
        ],
        templates,
        crops,
    )


def _template(
    old: Values, new: Values, row: int, subject_id: str, template: StoredTemplate
) -> tuple[int, int, bytes, bytes]:
    name, (embedding, reasons) = subject_id.encode(), template.opened(old, row, subject_id)
    sealed = new.seal(embedding, embedding_place(row, template.row, name))
    place = reasons_place(row, template.row, name, sealed)
    return template.row, row, sealed, new.seal(reasons, place)


def write_resealed(file: sqlite3.Connection, subject: Resealed) -> None:
    """Lay a subject's rows beside those in use, in place of those of an earlier revision."""
    replace = "INSERT OR REPLACE INTO sealing_"
    file.execute(f"{replace}subject VALUES (?, ?, ?, ?, ?, ?)", subject.subject)
    file.executemany(f"{replace}content VALUES (?, ?)", subject.contents)
    file.executemany(f"{replace}template VALUES (?, ?, ?, ?)", subject.templates)
    file.executemany(f"{replace}crop VALUES (?, ?, ?, ?)", subject.crops)
