"""A gallery store of another package, as small as one can be: ``dummy://name``, in memory, by entry point."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from verifykit.errors import GalleryError, GalleryKeyError
from verifykit.gallery import (
    Entry,
    GalleryIdentity,
    GalleryInfo,
    KeySource,
    MemoryGallery,
    OnExisting,
    StoredGallery,
    TransferReport,
)
from verifykit.types import Candidate, Embeddings, Subject, Template

_opened: dict[str, DummyGallery] = {}


class GalleryOfVersion01:
    """What a gallery of version 0.1 had, and nothing else: kept in memory."""

    def __init__(self, kept: MemoryGallery) -> None:
        self.spec_digest = kept.spec_digest
        self._kept = kept

    def add(
        self,
        subject_id: str,
        templates: Sequence[Template],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._kept.add(subject_id, templates, metadata)

    def get(self, subject_id: str) -> Subject:
        return self._kept.get(subject_id)

    def remove(self, subject_id: str) -> int:
        return self._kept.remove(subject_id)

    def search(self, probes: Embeddings, limit: int, threshold: float) -> list[list[Candidate]]:
        return self._kept.search(probes, limit, threshold)

    def subject_ids(self) -> Iterator[str]:
        return self._kept.subject_ids()

    def __len__(self) -> int:
        return len(self._kept)


class DummyGallery(GalleryOfVersion01, StoredGallery):
    """What the store keeps outlives ``close``, as on a server."""

    def __init__(self, url: str, identity: GalleryIdentity) -> None:
        super().__init__(
            MemoryGallery(
                spec_digest=identity.spec_digest,
                embedding_size=identity.embedding_size,
                fusion=identity.fusion,
                model=identity.model,
            )
        )
        self.url, self.embedding_size, self.model = url, identity.embedding_size, identity.model

    def add_entries(self, entries: Iterable[Entry], on_existing: OnExisting) -> TransferReport:
        return self._kept.add_entries(entries, on_existing)

    def info(self) -> GalleryInfo:
        return {**self._kept.info(), "path": "dummy"}


def open_dummy(
    url: str,
    identity: GalleryIdentity | None,
    *,
    key: KeySource | None,
    create: bool,
    read_only: bool,
) -> DummyGallery:
    """See :class:`~verifykit.gallery.GalleryOpener`."""
    if key is not None:
        raise GalleryKeyError("dummy galleries are not encrypted")
    if url not in _opened:
        if identity is None or not create:
            raise GalleryError("there is no such dummy gallery")
        _opened[url] = DummyGallery(url, identity)
    return _opened[url]


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, value: str = "") -> None:
    """Install the metadata of a package that registers the scheme ``dummy``."""
    info = folder / "dummy_store-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dummy-store\nVersion: 1.0\n")
    value = value or f"{__name__}:open_dummy"
    (info / "entry_points.txt").write_text(f"[verifykit.galleries]\ndummy = {value}\n")
    monkeypatch.syspath_prepend(folder)
