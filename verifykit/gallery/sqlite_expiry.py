"""Who is in a gallery file since when, and erasing those who have been for too long."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from verifykit.gallery.sqlite_erasing import erase
from verifykit.gallery.sqlite_rows import next_revision, read_id
from verifykit.gallery.sqlite_tables import version_of
from verifykit.gallery.sqlite_values import Values

__all__ = ["ERASED_AT_ONCE", "Enrolment", "erase_expired", "read_enrolments", "unix_time"]

# Other writers wait for the end of a transaction, in which every erasure is written to the audit log.
ERASED_AT_ONCE = 20

_SCHEMA_2 = """
    SELECT row, enrolled_at,
        (SELECT count(*) FROM template t WHERE t.subject = subject.row),
        (SELECT count(*) FROM crop c WHERE c.subject = subject.row)
    FROM subject {condition}"""
_SCHEMA_1 = """
    SELECT row, NULL, (SELECT count(*) FROM template t WHERE t.subject = subject.row), 0
    FROM subject {condition}"""


@dataclass(frozen=True)
class Enrolment:
    """What a gallery says of a subject without opening what is stored.

    Attributes:
        subject_id: Who.
        enrolled_at: When templates were last enrolled, Unix seconds; None where an earlier version of
            verifykit enrolled, which did not note it: then since the gallery was made at the longest.
        template_count: Templates.
        crop_count: Images that were kept.
    """

    subject_id: str
    enrolled_at: int | None
    template_count: int
    crop_count: int


def read_enrolments(
    file: sqlite3.Connection,
    values: Values,
    condition: str = "",
    parameters: tuple[int, ...] = (),
) -> list[tuple[int, Enrolment]]:
    """Row number and enrolment of every subject, in the order of first enrolment.

    Args:
        file: In a transaction.
        values: The file's.
        condition: SQL behind the tables, for some of them only.
        parameters: Its values.

    Raises:
        GalleryFormatError: The id of a subject is not what was stored.
    """
    query = _SCHEMA_1 if version_of(file) == 1 else _SCHEMA_2
    found = file.execute(query.format(condition=condition), parameters).fetchall()
    return [(row, Enrolment(read_id(file, values, row), *counts)) for row, *counts in found]


def erase_expired(
    file: sqlite3.Connection,
    values: Values,
    created: str,
    before: int,
    on_erase: Callable[[Enrolment], None],
) -> list[Enrolment]:
    """Erase some of those whose last enrolment is older.

    Args:
        file: In a write transaction, so that nobody is enrolled again meanwhile.
        values: The file's.
        created: When the gallery was made: from then on counts who was enrolled at an unknown time.
        before: Unix seconds.
        on_erase: Told of each one before the transaction ends; what it raises undoes all of them.

    Returns:
        Those who were erased, at most ``ERASED_AT_ONCE``.

    Raises:
        GalleryFormatError: The id of a subject is not what was stored.
    """
    condition = "WHERE coalesce(enrolled_at, ?) < ? ORDER BY row LIMIT ?"
    found = read_enrolments(file, values, condition, (unix_time(created), before, ERASED_AT_ONCE))
    for row, enrolment in found:
        erase(file, row, next_revision(file))
        on_erase(enrolment)
    return [enrolment for _, enrolment in found]


def unix_time(created: str) -> int:
    """When a gallery was made, Unix seconds.

    Args:
        created: ISO 8601, as its file says it.
    """
    return int(datetime.fromisoformat(created).timestamp())
