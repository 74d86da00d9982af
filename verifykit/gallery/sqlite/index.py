"""The in-memory copy of a gallery file, brought up to date with what changed since the last refresh.

Every write transaction raises the file's revision by one and stamps the subjects it touched with it; a
removal leaves the number of the subject's row with the revision. So a refresh that finds the revision it
knows reads one row, and another reads what is stamped later: templates are only ever added behind the
last row number that was seen. Of an encrypted file every subject is checked as a whole.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import GalleryFormatError, TemplateFormatError, shortened, shown
from verifykit.gallery.base import embedding_from_blob, metadata_from_json
from verifykit.gallery.index import IndexView, RowStore
from verifykit.gallery.sqlite.encryption import (
    Values,
    embedding_place,
    nonces,
    record_place,
    unpack_record,
)
from verifykit.gallery.sqlite.rows import read_id, read_revision
from verifykit.scoring import checked_embeddings, fused_rows
from verifykit.spec import Fusion

_BATCH = 512

_Stored = tuple[int, object]  # the row number of a subject, and an embedding of it


class FileIndex:
    """The rows of a file's subjects; :meth:`refresh` needs the caller's lock."""

    def __init__(self, path: Path, embedding_size: int, fusion: Fusion) -> None:
        self._path, self._embedding_size, self._fusion = path, embedding_size, fusion
        self._forget()

    def _forget(self) -> None:
        self._rows = RowStore(self._embedding_size)
        # A subject's slot is its row number in the file, which is never given twice: the file keeps a row of
        # `subject` or `removal` for each, so the list has no more places than the file has rows.
        self._ids: list[str] = []
        self._metadata: dict[str, str] = {}
        self._revision = 0
        self._last_template = 0

    def refresh(
        self, file: sqlite3.Connection, values: Values
    ) -> tuple[IndexView, Mapping[str, str]]:
        """Return the rows, and the metadata as JSON text, as the transaction sees them."""
        revision = read_revision(file)
        if revision != self._revision:
            try:
                self._take_removals(file)
                if values.encrypted:
                    self._take_encrypted(file, values)
                else:
                    self._take_subjects(file)
                    self._take_templates(file)
            except BaseException:
                self._forget()  # half of a change would be worse than reading it all again
                raise
            self._revision = revision
        return IndexView.of(self._rows, self._ids), self._metadata

    def _take_removals(self, file: sqlite3.Connection) -> None:
        query = "SELECT subject FROM removal WHERE revision > ?"
        gone = [row for (row,) in file.execute(query, (self._revision,)) if self._id_of(row)]
        if gone:
            self._ids = self._ids.copy()  # views still read the old list
        for row in gone:
            self._metadata.pop(self._ids[row], None)
            self._ids[row] = ""
            self._rows.remove(row)

    def _id_of(self, row: int) -> str:
        """Return a known row's subject; empty for a row that came since, or came and went."""
        return self._ids[row] if 0 <= row < len(self._ids) else ""

    def _take_subjects(self, file: sqlite3.Connection) -> None:
        known = len(self._ids)
        self._make_places(file)
        query = "SELECT row, subject_id, nullif(metadata, '{}') FROM enrolled WHERE revision > ?"
        if not known:
            # The sign keeps SQLite from the index of revisions, a detour for one who reads everything.
            query = query.replace("revision", "+revision")
        for batch in _batches(file.execute(query, (self._revision,))):
            rows, subject_ids, metadata = zip(*batch, strict=True)
            living_text(self._path, "".join(subject_ids))
            for row, subject_id, text in batch if known or any(metadata) else ():
                self._note(row, subject_id, text, known)
            for row, subject_id in zip(rows, subject_ids, strict=True):
                self._ids[row] = subject_id

    def _note(self, row: int, subject_id: str, metadata: str | None, known: int) -> None:
        if metadata is None:
            self._metadata.pop(subject_id, None)
        else:
            self._metadata[subject_id] = metadata
        if self._fusion != "max" and row < known:
            self._rows.remove(row)  # its one row represents all its templates

    def _make_places(self, file: sqlite3.Connection) -> None:
        first, last, made = file.execute(
            "SELECT coalesce(min(row), 1), coalesce(max(row), 0), "
            "coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'subject'), 0) FROM subject"
        ).fetchone()
        if first < 1 or last > made:
            raise GalleryFormatError(
                f"gallery {shortened(self._path)}: subjects have the row numbers {first} to {last}, and "
                f"{made} were given: the file is damaged, restore it from an export or a copy"
            )
        self._ids += [""] * (last + 1 - len(self._ids))

    def _take_templates(self, file: sqlite3.Connection) -> None:
        if self._fusion == "max":
            query = (
                "SELECT t.subject, t.embedding FROM template t JOIN subject s ON s.row = t.subject "
                "WHERE t.row > ? ORDER BY t.row"
            )
            for batch in _batches(file.execute(query, (self._last_template,))):
                self._append(batch)
            self._note_last_template(file)
            return
        query = (
            "SELECT t.subject, t.embedding FROM subject s JOIN template t ON t.subject = s.row "
            "WHERE s.revision > ? ORDER BY t.subject, t.row"
        )
        for batch in _whole_subjects(_batches(file.execute(query, (self._revision,)))):
            self._append(batch)

    def _take_encrypted(self, file: sqlite3.Connection, values: Values) -> None:
        """Read subjects and templates in one pass, as a subject's record answers for its templates."""
        known, held = len(self._ids), list[_Stored]()
        self._make_places(file)
        for row, subject_id, metadata, embeddings in _opened_subjects(
            self._path, file, values, self._revision, self._last_template
        ):
            self._note(row, subject_id, None if metadata == "{}" else metadata, known)
            self._ids[row] = subject_id
            held += [(row, embedding) for embedding in embeddings]
            if len(held) >= _BATCH:
                self._append(held)
                held = []
        if held:
            self._append(held)
        if self._fusion == "max":
            self._note_last_template(file)

    def _note_last_template(self, file: sqlite3.Connection) -> None:
        newest = "SELECT coalesce(max(row), 0) FROM template"
        self._last_template = file.execute(newest).fetchone()[0]

    def _append(self, stored: Sequence[_Stored]) -> None:
        """Append templates; all those of a subject, one after the other, unless the fusion is ``max``."""
        owners, blobs = zip(*stored, strict=True)
        slots = np.array(owners, np.int64)
        counts = np.ones_like(slots)
        if self._fusion != "max":
            slots, counts = np.unique(slots, return_counts=True)
        subject_ids = [self._ids[slot] for slot in slots.tolist()]
        if not all(subject_ids):
            row = slots[subject_ids.index("")]
            raise GalleryFormatError(
                f"gallery {shortened(self._path)}: the subject in row {row} has lost its id or its "
                "metadata: the file is damaged, restore it from an export or a copy"
            )
        embeddings = self._embeddings(blobs, subject_ids)
        self._rows.append(slots, fused_rows(embeddings, counts, self._fusion))

    def _embeddings(self, blobs: Sequence[object], subject_ids: list[str]) -> NDArray[np.float32]:
        size = self._embedding_size
        try:
            if set(map(type, blobs)) == {bytes} and set(map(len, blobs)) == {4 * size}:  # type: ignore[arg-type]
                rows = np.frombuffer(b"".join(blobs), "<f4").reshape(-1, size)  # type: ignore[arg-type]
            else:
                rows = np.stack([embedding_from_blob(blob, size) for blob in blobs])
            return checked_embeddings(rows, size)
        except TemplateFormatError as error:
            raise GalleryFormatError(
                f"gallery {shortened(self._path)}: an embedding between subjects {shown(subject_ids[0])} and "
                f"{shown(subject_ids[-1])} is damaged: {error}; run `verifykit gallery check`, which names "
                "it, remove that subject and enrol again"
            ) from error


def _batches(found: sqlite3.Cursor) -> Iterator[list[Any]]:
    while batch := found.fetchmany(_BATCH):
        yield batch


def _whole_subjects(batches: Iterable[list[_Stored]]) -> Iterator[list[_Stored]]:
    """Yield the same rows, cut where a subject ends."""
    held: list[_Stored] = []
    for batch in batches:
        held += batch
        last = held[-1][0]
        whole = len(held)
        while whole and held[whole - 1][0] == last:
            whole -= 1
        if whole:
            yield held[:whole]
            held = held[whole:]
    if held:
        yield held


# LEFT JOIN, as what has lost its record must be found and not left out.
_SUBJECTS = """
    SELECT s.row, s.revision, s.enrolled_at, m.body, t.row, t.embedding
    FROM subject s
    LEFT JOIN content m ON m.row = s.metadata_content
    LEFT JOIN template t ON t.subject = s.row
    WHERE s.revision > ? ORDER BY s.row, t.row"""


_Opened: TypeAlias = tuple[int, str, str, list[bytes]]


def _opened_subjects(
    path: Path, file: sqlite3.Connection, values: Values, revision: int, last_template: int
) -> Iterator[_Opened]:
    """Yield the subjects who were enrolled or appended to since a revision, in the order of their rows.

    Each is checked as a whole; of templates up to ``last_template`` only the nonces are looked at. Yields row
    number, subject id, metadata as JSON text, and the embeddings in the order of enrolment.
    """
    # The sign keeps SQLite from the index of revisions, a detour for one who reads everything.
    query = _SUBJECTS if revision else _SUBJECTS.replace("s.revision >", "+s.revision >")
    for row, found in groupby(
        chain.from_iterable(_batches(file.execute(query, (revision,)))), itemgetter(0)
    ):
        rows = list(found)
        try:
            yield _opened(values, rows, last_template)
        except GalleryFormatError as error:
            raise GalleryFormatError(
                f"gallery {shortened(path)}: {named(file, values, row)}: {error}; run `verifykit gallery "
                "check`, remove the subject and enrol again, or restore the file from an export or a copy"
            ) from error


def named(file: sqlite3.Connection, values: Values, row: int) -> str:
    """Return who is in a row of a file that is damaged, for a message."""
    try:
        return f"subject {shown(read_id(file, values, row))}"
    except GalleryFormatError:
        return f"the subject in row {row}, whose id is lost too"


def _opened(values: Values, rows: list[tuple[Any, ...]], last_template: int) -> _Opened:
    row, revision, enrolled_at, record, first, _ = rows[0]
    if first is None:
        raise GalleryFormatError("it has no template")
    place = record_place(row, revision, enrolled_at, nonces([found[5] for found in rows]))
    name, metadata = unpack_record(values.decrypt(record, place))
    embeddings = [
        values.decrypt(embedding, embedding_place(row, template, name))
        for _, _, _, _, template, embedding in rows
        if template > last_template
    ]
    return row, name.decode(), metadata.decode(), embeddings


def living_text(path: Path, text: str) -> str:
    """Return an enrolled subject's id or metadata: neither can hold the zeros of an erasure."""
    if "\0" in text:
        raise GalleryFormatError(
            f"gallery {shortened(path)}: an enrolled subject's id or metadata are erased: the file is "
            "damaged, or a copy that was made during a write; restore it from an export"
        )
    return text


def stored_metadata(path: Path, subject_id: str, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return an enrolled subject's metadata, a fresh object at each call."""
    try:
        return metadata_from_json(texts.get(subject_id, "{}"))
    except ValueError as error:
        raise GalleryFormatError(
            f"gallery {shortened(path)}: the metadata of {shown(subject_id)} are damaged: {error}; run "
            "`verifykit gallery check`, remove the subject and enrol again"
        ) from error
