"""A gallery in memory: gone with the process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from verifykit.errors import GalleryError, SubjectExistsError, SubjectNotFoundError, shown
from verifykit.gallery.base import (
    Entry,
    GalleryInfo,
    OnExisting,
    StoredGallery,
    TransferReport,
    checked_identity,
    checked_question,
    metadata_from_json,
    new_entry,
    require_no_crops,
)
from verifykit.gallery.index import ExactIndex
from verifykit.gallery.snapshot import IndexSnapshot
from verifykit.gallery.subject_ids import find_subject
from verifykit.scoring import checked_embeddings, checked_fusion, reference_rows
from verifykit.spec import Fusion
from verifykit.types import Candidate, Embeddings, Subject, Template


class MemoryGallery(StoredGallery):
    """A :class:`~verifykit.gallery.Gallery` without a file.

    Args:
        spec_digest: Digest of the model whose templates it holds.
        embedding_size: D.
        fusion: How the scores of a subject's templates become one.
        model: Name of the model, human-readable.

    Raises:
        TemplateMismatchError: ``spec_digest`` is empty.
        TemplateFormatError: ``embedding_size`` is not positive.
        InputError: No such fusion.
    """

    def __init__(
        self, *, spec_digest: str, embedding_size: int, fusion: Fusion = "max", model: str = ""
    ) -> None:
        checked_identity(spec_digest, embedding_size)
        self.spec_digest = spec_digest
        self.embedding_size = embedding_size
        self.fusion = checked_fusion(fusion)
        self.model = model
        self._lock = threading.RLock()
        self._entries: dict[str, Entry] = {}
        self._index = ExactIndex(embedding_size)

    def __reduce__(self) -> tuple[Callable[[], MemoryGallery], tuple[()]]:
        if self._entries:
            raise GalleryError(
                f"a gallery in memory with {len(self._entries)} subjects cannot be pickled, since every "
                "process would have a copy that no other sees: give Verifier a file or a URL (gallery=)"
            )
        opened = partial(
            MemoryGallery,
            spec_digest=self.spec_digest,
            embedding_size=self.embedding_size,
            fusion=self.fusion,
            model=self.model,
        )
        return opened, ()

    def add(
        self,
        subject_id: str,
        templates: Sequence[Template],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """See :meth:`Gallery.add`."""
        self.add_entries([new_entry(self, subject_id, templates, metadata)], "append")

    def add_entries(self, entries: Iterable[Entry], on_existing: OnExisting) -> TransferReport:
        """See :meth:`SupportsTransfer.add_entries`."""
        with self._lock:
            accepted, skipped = [], 0
            for entry in map(require_no_crops, entries):
                if on_existing != "append" and entry.subject_id in self._entries:
                    if on_existing == "error":
                        raise SubjectExistsError(
                            f"subject {shown(entry.subject_id)} is already enrolled; nothing was stored"
                        )
                    skipped += 1
                else:
                    accepted.append(entry)
            for entry in accepted:
                self._store(entry)
            return TransferReport(
                len(accepted), sum(len(entry.embeddings) for entry in accepted), skipped
            )

    def _store(self, entry: Entry) -> None:
        old = self._entries.get(entry.subject_id)
        new = entry
        if old is not None:
            new = Entry(
                entry.subject_id,
                np.concatenate([old.embeddings, entry.embeddings]),
                old.reasons + entry.reasons,
                old.metadata if entry.metadata is None else entry.metadata,
            )
        self._entries[entry.subject_id] = new
        if self.fusion == "max":
            rows = reference_rows(entry.embeddings, self.fusion)
        else:
            self._index.remove(entry.subject_id)
            rows = reference_rows(new.embeddings, self.fusion)
        self._index.append([entry.subject_id] * len(rows), rows)

    def get(self, subject_id: str) -> Subject:
        """See :meth:`Gallery.get`."""
        with self._lock:
            subject_id, entry = self._found(subject_id)
        templates = tuple(
            Template(embedding, self.spec_digest, reasons=reasons)
            for embedding, reasons in zip(entry.embeddings, entry.reasons, strict=True)
        )
        return Subject(subject_id, templates, metadata_from_json(entry.metadata or "{}"))

    def _found(self, subject_id: str) -> tuple[str, Entry]:
        """Return the id of a subject as it is stored, and what is stored."""
        found = find_subject(subject_id, self._entries.get)
        if found is None:
            raise SubjectNotFoundError(f"subject {shown(subject_id)} is not enrolled")
        return found

    def remove(self, subject_id: str) -> int:
        """See :meth:`Gallery.remove`."""
        with self._lock:
            subject_id, entry = self._found(subject_id)
            del self._entries[subject_id]
            self._index.remove(subject_id)
        return len(entry.embeddings)

    def search(self, probes: Embeddings, limit: int, threshold: float) -> list[list[Candidate]]:
        """See :meth:`Gallery.search`."""
        rows = checked_embeddings(probes, self.embedding_size)
        limit, threshold = checked_question(limit, threshold)
        with self._lock:
            view = self._index.view()
        hits = view.search(rows, limit, threshold)
        return [[self._candidate(s, score, threshold) for s, score in found] for found in hits]

    def _candidate(self, subject_id: str, score: float, threshold: float) -> Candidate:
        entry = self._entries.get(subject_id)  # None: removed while the search ran
        text = (entry.metadata if entry else None) or "{}"
        return Candidate(subject_id, score, threshold, metadata=metadata_from_json(text))

    def snapshot(self) -> IndexSnapshot:
        """See :meth:`SupportsSnapshot.snapshot`."""
        with self._lock:
            return IndexSnapshot(self.info(), self._index.view())

    def subject_ids(self) -> Iterator[str]:
        """See :meth:`Gallery.subject_ids`."""
        with self._lock:
            return iter(sorted(self._entries))

    def info(self) -> GalleryInfo:
        """See :meth:`Gallery.info`."""
        with self._lock:
            return {
                "model": self.model,
                "spec_digest": self.spec_digest,
                "embedding_size": self.embedding_size,
                "fusion": self.fusion,
                "subject_count": len(self._entries),
                "template_count": sum(len(e.embeddings) for e in self._entries.values()),
            }

    def __len__(self) -> int:
        return len(self._entries)
