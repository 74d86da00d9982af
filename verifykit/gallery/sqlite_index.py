"""The in-memory copy of a gallery file, brought up to date with what changed since the last look.

Every write transaction raises the file's revision by one and stamps the subjects it touched with it; a
removal leaves the number of the subject's row with the revision. So a look that finds the revision it
knows reads one row, and another reads what is stamped later: templates are only ever added behind the
last row number that was seen.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import GalleryFormatError, TemplateFormatError
from verifykit.gallery.index import ExactIndex, IndexView
from verifykit.scoring import checked_embeddings, fused_rows, reference_rows
from verifykit.spec import Fusion

__all__ = ["FileIndex", "embedding_from_blob", "living_text"]

_BATCH = 16_384


def embedding_from_blob(blob: object, embedding_size: int) -> NDArray[np.float32]:
    """(D,) float32 from little-endian bytes.

    Raises:
        TemplateFormatError: Not bytes, or another number of them.
    """
    if not isinstance(blob, bytes) or len(blob) != 4 * embedding_size:
        size = f"{len(blob)} bytes" if isinstance(blob, bytes) else type(blob).__name__
        raise TemplateFormatError(f"an embedding has {4 * embedding_size} bytes, got {size}")
    return np.frombuffer(blob, dtype="<f4").astype(np.float32)


def living_text(path: Path, text: str) -> str:
    """An id or metadata of somebody who is enrolled: neither can hold the zeros of an erasure.

    Raises:
        GalleryFormatError: It is erased, so its subject's row is of an earlier moment.
    """
    if "\0" in text:
        raise GalleryFormatError(
            f"gallery {path}: an enrolled subject's id or metadata are erased: the file is damaged, or a "
            "copy that was made while somebody wrote; restore it from an export"
        )
    return text


class FileIndex:
    """The rows of a file's subjects; :meth:`refresh` needs the caller's lock.

    Args:
        path: The file, for messages.
        embedding_size: D.
        fusion: What a subject's rows are.
    """

    def __init__(self, path: Path, embedding_size: int, fusion: Fusion) -> None:
        self._path, self._embedding_size, self._fusion = path, embedding_size, fusion
        self._forget()

    def _forget(self) -> None:
        self._index = ExactIndex(self._embedding_size)
        self._known: dict[int, str] = {}
        self._metadata: dict[str, str] = {}
        self._revision = 0
        self._last_template = 0

    def refresh(self, file: sqlite3.Connection) -> tuple[IndexView, Mapping[str, str]]:
        """The file's content as the transaction sees it.

        Args:
            file: In a read transaction.

        Returns:
            The rows, and the metadata (JSON text) of those subjects that have any.

        Raises:
            GalleryFormatError: An embedding in the file is damaged.
        """
        revision = file.execute("SELECT value FROM meta WHERE key = 'revision'").fetchone()[0]
        if revision != self._revision:
            try:
                self._take_removals(file)
                self._take_subjects(file)
                self._take_templates(file)
            except KeyError as error:
                self._forget()
                raise GalleryFormatError(
                    f"gallery {self._path}: the subject in row {error} has lost its id or its metadata: the "
                    "file is damaged, restore it from an export or a copy"
                ) from error
            except BaseException:
                self._forget()  # half of a change would be worse than reading it all again
                raise
            self._revision = revision
        return self._index.view(), self._metadata

    def _take_removals(self, file: sqlite3.Connection) -> None:
        query = "SELECT subject FROM removal WHERE revision > ?"
        for (row,) in file.execute(query, (self._revision,)).fetchall():
            subject_id = self._known.pop(row, None)  # None: came and went since the last look
            if subject_id is not None:
                self._index.remove(subject_id)
                self._metadata.pop(subject_id, None)

    def _take_subjects(self, file: sqlite3.Connection) -> None:
        since = (self._revision,)
        if self._known:
            for row, subject_id in file.execute(
                "SELECT row, subject_id FROM enrolled WHERE revision > ?", since
            ):
                if self._fusion != "max" and row in self._known:
                    self._index.remove(subject_id)  # its one row stands for all its templates
                self._metadata.pop(subject_id, None)
        # Straight into the dictionaries: a loop would be most of the time of opening a large gallery.
        self._known.update(
            file.execute("SELECT row, subject_id FROM enrolled WHERE revision > ?", since)
        )
        self._metadata.update(
            file.execute(
                "SELECT subject_id, metadata FROM enrolled WHERE revision > ? AND metadata <> '{}'",
                since,
            )
        )

    def _take_templates(self, file: sqlite3.Connection) -> None:
        if self._fusion == "max":
            rows = file.execute(
                "SELECT t.row, t.subject, t.embedding FROM template t "
                "JOIN subject s ON s.row = t.subject WHERE t.row > ? ORDER BY t.row",
                (self._last_template,),
            )
            while batch := rows.fetchmany(_BATCH):
                subject_ids = [self._known[subject] for _, subject, _ in batch]
                embeddings = self._embeddings([blob for _, _, blob in batch], subject_ids)
                self._index.append(subject_ids, reference_rows(embeddings, "max"))
                self._last_template = batch[-1][0]
            return
        rows = file.execute(
            "SELECT t.subject, t.embedding FROM subject s JOIN template t ON t.subject = s.row "
            "WHERE s.revision > ? ORDER BY t.subject, t.row",
            (self._revision,),
        )
        held: list[tuple[int, object]] = []
        while batch := rows.fetchmany(_BATCH):
            held += batch
            # The last subject may go on in the next batch.
            last = held[-1][0]
            whole = len(held)
            while whole and held[whole - 1][0] == last:
                whole -= 1
            self._append_fused(held[:whole])
            held = held[whole:]
        self._append_fused(held)

    def _append_fused(self, rows: Sequence[tuple[int, object]]) -> None:
        """Templates of whole subjects, one subject's after the other's."""
        if not rows:
            return
        owners = np.fromiter((subject for subject, _ in rows), np.int64, count=len(rows))
        firsts = np.flatnonzero(np.diff(owners, prepend=owners[0] - 1))
        subject_ids = [self._known[subject] for subject in owners[firsts].tolist()]
        embeddings = self._embeddings([blob for _, blob in rows], subject_ids)
        counts = np.diff(firsts, append=len(rows))
        self._index.append(subject_ids, fused_rows(embeddings, counts, self._fusion))

    def _embeddings(self, blobs: list[object], subject_ids: list[str]) -> NDArray[np.float32]:
        size = self._embedding_size
        try:
            if set(map(type, blobs)) == {bytes} and set(map(len, blobs)) == {4 * size}:  # type: ignore[arg-type]
                rows = np.frombuffer(b"".join(blobs), "<f4").reshape(-1, size)  # type: ignore[arg-type]
            else:
                rows = np.stack([embedding_from_blob(blob, size) for blob in blobs])
            return checked_embeddings(rows, size)
        except TemplateFormatError as error:
            raise GalleryFormatError(
                f"gallery {self._path}: an embedding between subjects {subject_ids[0]!r} and "
                f"{subject_ids[-1]!r} is damaged: {error}; run `verifykit gallery check`, which names "
                "it, remove that subject and enrol again"
            ) from error
