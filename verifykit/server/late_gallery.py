"""A gallery's file that is made when the first subject is enrolled, and not before."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from verifykit.errors import SubjectNotFoundError
from verifykit.gallery import (
    Gallery,
    KeySource,
    OnExisting,
    PortableGallery,
    TransferReport,
    checked_question,
    checked_subject_id,
    open_gallery,
)
from verifykit.gallery.base import Entry
from verifykit.scoring import checked_embeddings
from verifykit.spec import ModelSpec
from verifykit.types import Candidate, Embeddings, Subject, Template


class LateGallery:
    """A :class:`~verifykit.gallery.PortableGallery` that is empty as long as there is no file.

    The file is looked for at each call until it is there: another process may have made it.

    Attributes:
        path: Where the file lies or will lie.
        spec_digest: Digest of the model.
        embedding_size: D.
        model: Name of the model.
        fusion: How scores fuse.
        encrypted: Whether the file is or will be.
    """

    def __init__(self, path: str, spec: ModelSpec, *, key: KeySource | None = None) -> None:
        """Name the file; it is opened if it is there.

        Args:
            path: The file.
            spec: The model.
            key: Of an encrypted file; a new file is then encrypted.

        Raises:
            TemplateMismatchError: The file was made with another model.
            GalleryKeyError: The key is another one, or only one of file and caller has one.
            GalleryError: It is there and cannot be opened.
        """
        self.path = Path(path)
        self.spec_digest, self.embedding_size = spec.digest, spec.embedding_size
        self.model, self.fusion = spec.name, spec.fusion
        self._spec, self._key = spec, key
        self.encrypted = key is not None
        self._lock = threading.Lock()
        self._gallery: PortableGallery | None = None
        self.found()

    def add(
        self,
        subject_id: str,
        templates: Sequence[Template],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """See :meth:`Gallery.add`."""
        self._made().add(subject_id, templates, metadata)

    def add_entries(self, entries: Iterable[Entry], on_existing: OnExisting) -> TransferReport:
        """See :meth:`PortableGallery.add_entries`."""
        return self._made().add_entries(entries, on_existing)

    def get(self, subject_id: str) -> Subject:
        """See :meth:`Gallery.get`."""
        return self._required(subject_id).get(subject_id)

    def remove(self, subject_id: str) -> int:
        """See :meth:`Gallery.remove`."""
        return self._required(subject_id).remove(subject_id)

    def search(self, probes: Embeddings, limit: int, threshold: float) -> list[list[Candidate]]:
        """See :meth:`Gallery.search`."""
        if gallery := self.found():
            return gallery.search(probes, limit, threshold)
        checked_question(limit, threshold)
        return [[] for _ in checked_embeddings(probes, self.embedding_size)]

    def subject_ids(self) -> Iterator[str]:
        """See :meth:`Gallery.subject_ids`."""
        gallery = self.found()
        return gallery.subject_ids() if gallery else iter(())

    def __len__(self) -> int:
        gallery = self.found()
        return len(gallery) if gallery is not None else 0

    def __bool__(self) -> bool:
        return True  # a gallery without subjects is a gallery

    def close(self) -> None:
        """Close the file, if it was opened."""
        with self._lock:
            if self._gallery is not None:
                _close(self._gallery)

    def _required(self, subject_id: str) -> PortableGallery:
        gallery = self.found()
        if gallery is None:
            checked_subject_id(subject_id)
            raise SubjectNotFoundError(
                f"gallery {self.path}: nobody is enrolled as {subject_id!r}, there is no file yet"
            )
        return gallery

    def found(self) -> PortableGallery | None:
        """The gallery in the file; None as long as there is none.

        Raises:
            TemplateMismatchError: The file was made with another model.
            GalleryError: It cannot be opened.
        """
        with self._lock:
            if self._gallery is None and self.path.exists():
                self._gallery = self._open()
            return self._gallery

    def _made(self) -> PortableGallery:
        with self._lock:
            if self._gallery is None:
                self._gallery = self._open()
            return self._gallery

    def _open(self) -> PortableGallery:
        gallery = open_gallery(str(self.path), self._spec, key=self._key)
        assert isinstance(gallery, PortableGallery)  # noqa: S101 - every gallery in a file is one
        return gallery


def _close(gallery: Gallery) -> None:
    close = getattr(gallery, "close", None)
    if close is not None:
        close()
