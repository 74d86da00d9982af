"""Writing zeros over a subject, wherever a gallery file holds something of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

__all__ = ["BESIDE", "erase", "erase_beside", "erase_content"]

BESIDE = "sealing_"
"""What the names of the tables begin with that an unfinished sealing has laid beside those in use."""

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
    """Write zeros over what an unfinished sealing holds of a subject; it comes to it again."""
    query = "SELECT 1 FROM sqlite_master WHERE name = ?"
    if file.execute(query, (f"{BESIDE}subject",)).fetchone():
        _zero(file, BESIDE, row)


def _zero(file: sqlite3.Connection, prefix: str, row: int) -> int:
    for contents in file.execute(_CONTENTS.format(prefix), (row,)).fetchall():
        file.executemany(_CONTENT.format(prefix), [(content,) for content in contents])
    file.execute(_CROPS.format(prefix), (row,))
    return file.execute(_TEMPLATES.format(prefix), (row,)).rowcount
