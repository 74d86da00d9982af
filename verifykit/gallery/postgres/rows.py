"""Read, store and erase a gallery's rows in PostgreSQL; each statement runs inside the caller's transaction.

Rows go in by ``COPY ... (FORMAT binary)``, one or a hundred thousand, so that float32 values travel as
their bytes: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import GalleryFormatError, InputError, shown
from verifykit.gallery.base import (
    Entry,
    embedding_from_blob,
    metadata_from_json,
    require_no_crops,
)
from verifykit.gallery.postgres.connection import Connection
from verifykit.scoring import reference_rows
from verifykit.spec import Fusion
from verifykit.types import Subject, Template

_BATCH = 1000

_COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END = struct.pack(">h", -1)

# What jsonb cannot hold, and JSON text can.
_UNFIT = re.compile("[\0\ud800-\udfff]")


def present(connection: Connection, subject_ids: Sequence[str]) -> set[str]:
    """Return those of these subjects who are enrolled."""
    query = "SELECT subject_id FROM subject WHERE subject_id = ANY(%s)"
    return {subject_id for (subject_id,) in connection.execute(query, (list(subject_ids),))}


def batches(entries: Iterable[Entry]) -> Iterator[dict[str, Entry]]:
    """Yield entries by subject, at most a thousand at a time and each subject once."""
    batch: dict[str, Entry] = {}
    for entry in map(require_no_crops, entries):
        if entry.subject_id in batch or len(batch) == _BATCH:
            yield batch
            batch = {}
        batch[entry.subject_id] = entry
    yield batch


def store(connection: Connection, entries: Sequence[Entry], old: set[str], fusion: Fusion) -> None:
    """Add entries, each subject once."""
    new = [entry for entry in entries if entry.subject_id not in old]
    _copy(connection, "subject", ("subject_id", "metadata", "filter"), map(_subject_fields, new))
    for entry in entries:
        if entry.subject_id in old and entry.metadata is not None:
            connection.execute(
                "UPDATE subject SET metadata = %s, filter = %s::jsonb WHERE subject_id = %s",
                (entry.metadata, _filter_text(entry.metadata), entry.subject_id),
            )
    before = _last_ordinals(connection, old)
    _copy(
        connection,
        "template",
        ("subject_id", "ordinal", "embedding", "reasons"),
        (fields for entry in entries for fields in _template_fields(entry, before)),
    )
    if fusion != "max" and old:
        # The one row of a subject represents all templates.
        connection.execute("DELETE FROM reference WHERE subject_id = ANY(%s)", (list(old),))
    columns = ("subject_id", "ordinal", "reference_row")
    rows = _reference_fields(connection, entries, before, fusion)
    _copy(connection, "reference", columns, rows)


def erase(connection: Connection, subject_id: str) -> int | None:
    """Delete a subject and return the number of templates; None when the subject is not enrolled."""
    gone = connection.execute("DELETE FROM subject WHERE subject_id = %s", (subject_id,)).rowcount
    if not gone:
        return None
    connection.execute("DELETE FROM reference WHERE subject_id = %s", (subject_id,))
    return connection.execute("DELETE FROM template WHERE subject_id = %s", (subject_id,)).rowcount


def count_rows(connection: Connection, table: str) -> int:
    """Return how many rows one of the gallery's tables has."""
    found = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()  # noqa: S608
    return int(found[0]) if found else 0


def read_counts(connection: Connection) -> tuple[int, int, int]:
    """Return subjects, templates, and a revision that is another after every write."""
    found = connection.execute("SELECT coalesce(sum(writes), 0)::bigint FROM revision").fetchone()
    subjects, templates = (count_rows(connection, table) for table in ("subject", "template"))
    return subjects, templates, int(found[0]) if found else 0


def read_metadata(connection: Connection, subject_ids: Iterable[str]) -> dict[str, str]:
    """Return the metadata, as JSON text, of those of these subjects who are enrolled."""
    query = "SELECT subject_id, metadata FROM subject WHERE subject_id = ANY(%s)"
    return dict(connection.execute(query, (list(subject_ids),)).fetchall())


def read_subject(
    connection: Connection, subject_id: str
) -> tuple[str, list[tuple[object, str]]] | None:
    """Return metadata and templates as they are stored; None when the subject is not enrolled."""
    metadata = read_metadata(connection, [subject_id]).get(subject_id)
    if metadata is None:
        return None
    return metadata, read_templates(connection, [subject_id]).get(subject_id, [])


def subject_from_rows(
    subject_id: str,
    rows: tuple[str, list[tuple[object, str]]],
    spec_digest: str,
    embedding_size: int,
) -> Subject:
    """Return a subject from what :func:`read_subject` read."""
    metadata, stored = rows
    templates = tuple(
        Template(
            embedding_from_blob(blob, embedding_size),
            spec_digest,
            reasons=tuple(json.loads(reasons)),
        )
        for blob, reasons in stored
    )
    return Subject(subject_id, templates, metadata_from_json(metadata))


def read_templates(
    connection: Connection, subject_ids: Iterable[str]
) -> dict[str, list[tuple[object, str]]]:
    """Return (embedding's bytes, reasons as JSON) of each subject's templates, in the order of enrolment."""
    found: dict[str, list[tuple[object, str]]] = {}
    rows = connection.execute(
        "SELECT subject_id, embedding, reasons FROM template WHERE subject_id = ANY(%s) "
        "ORDER BY subject_id, ordinal",
        (list(subject_ids),),
        binary=True,
    )
    for subject_id, embedding, reasons in rows:
        found.setdefault(subject_id, []).append((embedding, reasons))
    return found


def filter_json(where: Mapping[str, Any]) -> str:
    """Return a filter as JSON text."""
    if not isinstance(where, Mapping):
        raise InputError(f"where is a mapping of metadata, got {type(where).__name__}")
    try:
        text = json.dumps(dict(where), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"where is not a JSON object: {error}") from error
    if _is_unfit(json.loads(text)):
        raise InputError(f"where holds U+0000 or half of a surrogate pair: {shown(where)}")
    return text


def vector_from_binary(value: bytes) -> NDArray[np.float32]:
    """Return (D,) float32 from a ``vector`` as the server sends it."""
    return np.frombuffer(value, dtype=">f4", offset=4).astype(np.float32)


def _vector_to_binary(row: NDArray[np.float32]) -> bytes:
    return struct.pack(">hh", len(row), 0) + row.astype(">f4").tobytes()


def _copy(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    rows: Iterable[tuple[bytes, ...]],
) -> None:
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT binary)"
    with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        copy.write(_COPY_HEAD)
        for fields in rows:
            sized = (struct.pack(">i", len(value)) + value for value in fields)
            copy.write(struct.pack(">h", len(fields)) + b"".join(sized))
        copy.write(_COPY_END)


def _subject_fields(entry: Entry) -> tuple[bytes, ...]:
    metadata = entry.metadata or "{}"
    filter_ = b"\1" + _filter_text(metadata).encode()  # the number is jsonb's version of its format
    return entry.subject_id.encode(), metadata.encode(), filter_


def _template_fields(entry: Entry, before: Mapping[str, int]) -> Iterable[tuple[bytes, ...]]:
    first = before.get(entry.subject_id, 0) + 1
    little: NDArray[np.float32] = entry.embeddings.astype("<f4")
    for number, (embedding, reasons) in enumerate(zip(little, entry.reasons, strict=True), first):
        yield (
            entry.subject_id.encode(),
            struct.pack(">i", number),
            embedding.tobytes(),
            json.dumps(reasons).encode(),
        )


def _reference_fields(
    connection: Connection, entries: Sequence[Entry], before: Mapping[str, int], fusion: Fusion
) -> list[tuple[bytes, ...]]:
    stored = {} if fusion == "max" else read_templates(connection, before)
    fields: list[tuple[bytes, ...]] = []
    for entry in entries:
        size = entry.embeddings.shape[1]
        embeddings = entry.embeddings
        if entry.subject_id in stored:  # with those that were stored a moment ago
            blobs = stored[entry.subject_id]
            embeddings = np.stack([embedding_from_blob(blob, size) for blob, _ in blobs])
        first = before.get(entry.subject_id, 0) + 1 if fusion == "max" else 0
        for number, row in enumerate(reference_rows(embeddings, fusion), first):
            value = _vector_to_binary(row)
            fields.append((entry.subject_id.encode(), struct.pack(">i", number), value))
    return fields


def _last_ordinals(connection: Connection, subject_ids: set[str]) -> dict[str, int]:
    if not subject_ids:
        return {}
    last: dict[str, int] = dict(
        connection.execute(
            "SELECT subject_id, max(ordinal) FROM template WHERE subject_id = ANY(%s) GROUP BY 1",
            (list(subject_ids),),
        ).fetchall()
    )
    for subject_id in subject_ids - set(last):
        raise GalleryFormatError(
            f"subject {shown(subject_id)} has no template: remove it, enrol again"
        )
    return last


def _filter_text(metadata: str) -> str:
    """Return the part of the metadata that jsonb can hold."""
    body = json.loads(metadata)
    return json.dumps({key: item for key, item in body.items() if not _is_unfit({key: item})})


def _is_unfit(value: Any) -> bool:
    if isinstance(value, str):
        return _UNFIT.search(value) is not None
    if isinstance(value, dict):
        return any(_is_unfit(key) or _is_unfit(item) for key, item in value.items())
    if isinstance(value, list):
        return any(map(_is_unfit, value))
    return False
