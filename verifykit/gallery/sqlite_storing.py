"""Storing entries in a gallery file, inside the caller's transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path

from verifykit.errors import SubjectExistsError
from verifykit.gallery.intake import Entry, require_no_crops
from verifykit.gallery.protocol import OnExisting, TransferReport
from verifykit.gallery.sqlite_rows import find_row, next_revision, store
from verifykit.gallery.sqlite_values import Values

__all__ = ["store_entries"]


def store_entries(
    path: Path,
    file: sqlite3.Connection,
    values: Values,
    entries: Iterable[Entry],
    on_existing: OnExisting,
) -> TransferReport:
    """Store entries as one revision of the file.

    Args:
        path: The file, for messages.
        file: In a write transaction.
        values: The file's.
        entries: Checked entries.
        on_existing: What to do with a subject who was enrolled before.

    Raises:
        SubjectExistsError: ``on_existing="error"``, and a subject is there.
        GalleryFormatError: A subject who is there is damaged.
        GalleryError: Crops are to be kept in a file that is not encrypted.
    """
    subjects = templates = skipped = 0
    revision, now = next_revision(file), int(time.time())
    for entry in entries if values.sealed else map(require_no_crops, entries):
        row = find_row(file, values, entry.subject_id)
        if row is not None and on_existing == "error":
            raise SubjectExistsError(
                f"gallery {path}: subject {entry.subject_id!r} is already enrolled; nothing was stored"
            )
        if row is not None and on_existing == "skip":
            skipped += 1
            continue
        enrolled_at = now if entry.enrolled_at is None else entry.enrolled_at
        store(file, values, row, entry, revision, enrolled_at)
        subjects += 1
        templates += len(entry.embeddings)
    return TransferReport(subjects, templates, skipped)
