"""Reading a gallery on a PostgreSQL server from end to end, to find what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import InputError, TemplateFormatError
from verifykit.gallery.intake import metadata_from_json
from verifykit.gallery.postgres_connections import Connection
from verifykit.gallery.postgres_rows import read_templates, vector_from_binary
from verifykit.gallery.sqlite_index import embedding_from_blob
from verifykit.gallery.subject_id import checked_subject_id
from verifykit.scoring import checked_embeddings, reference_rows
from verifykit.spec import Fusion

__all__ = ["problems"]

_MOST = 100
_BATCH = 1000


def problems(connection: Connection, embedding_size: int, fusion: Fusion) -> list[str]:
    """What is wrong: every subject, every template, and what is searched against what is stored.

    Args:
        connection: In a read transaction.
        embedding_size: D.
        fusion: What a subject's reference rows are.

    Returns:
        A sentence a problem, the first 100 of them; empty for a sound gallery.
    """
    found: list[str] = []
    last = ""
    query = "SELECT subject_id, metadata FROM subject WHERE subject_id > %s ORDER BY subject_id LIMIT %s"
    while batch := connection.execute(query, (last, _BATCH)).fetchall():
        last = batch[-1][0]
        subject_ids = [subject_id for subject_id, _ in batch]
        templates = read_templates(connection, subject_ids)
        references = _references(connection, subject_ids)
        for subject_id, metadata in batch:
            stored = templates.get(subject_id, [])
            searched = references.get(subject_id, [])
            problem = _problem(subject_id, metadata, stored, searched, embedding_size, fusion)
            found += [f"subject {subject_id!r}: {problem}"] if problem else []
    for table in ("template", "reference"):
        orphans = connection.execute(
            f"SELECT DISTINCT subject_id FROM {table} t WHERE NOT EXISTS "  # noqa: S608
            f"(SELECT FROM subject s WHERE s.subject_id = t.subject_id) LIMIT {_MOST}".encode()
        )
        found += [f"subject {name!r}: in {table}, but not enrolled" for (name,) in orphans]
    return found[:_MOST]


def _problem(
    subject_id: str,
    metadata: str,
    stored: Sequence[tuple[object, str]],
    searched: Sequence[NDArray[np.float32]],
    embedding_size: int,
    fusion: Fusion,
) -> str | None:
    try:
        checked_subject_id(subject_id)
        metadata_from_json(metadata)
        rows = _embeddings(stored, embedding_size)
    except (InputError, TemplateFormatError, ValueError, TypeError) as error:
        return str(error)
    if not np.array_equal(reference_rows(rows, fusion), np.array(searched)):
        return "what is searched is not what is stored"
    return None


def _embeddings(stored: Sequence[tuple[object, str]], embedding_size: int) -> NDArray[np.float32]:
    if not stored:
        raise ValueError("it has no template")
    for _, reasons in stored:
        if not isinstance(json.loads(reasons), list):
            raise TypeError(f"its reasons are not a list: {reasons!r}")
    rows = np.stack([embedding_from_blob(blob, embedding_size) for blob, _ in stored])
    return checked_embeddings(rows, embedding_size)


def _references(
    connection: Connection, subject_ids: Sequence[str]
) -> dict[str, list[NDArray[np.float32]]]:
    found: dict[str, list[NDArray[np.float32]]] = {}
    rows = connection.execute(
        "SELECT subject_id, reference_row FROM reference WHERE subject_id = ANY(%s) "
        "ORDER BY subject_id, ordinal",
        (list(subject_ids),),
        binary=True,
    )
    for subject_id, value in rows:
        found.setdefault(subject_id, []).append(vector_from_binary(value))
    return found
