"""A gallery at one moment, so that a long run searches one state while others enroll and remove."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verifykit.errors import GalleryError
from verifykit.gallery.base import (
    Gallery,
    GalleryInfo,
    GallerySnapshot,
    SupportsSnapshot,
    checked_question,
    each_subject,
    gallery_info,
)
from verifykit.gallery.index import ExactIndex, IndexView
from verifykit.scoring import checked_embeddings, reference_rows
from verifykit.spec import Fusion
from verifykit.types import Candidate, Embeddings

_TRIES = 3


@dataclass(frozen=True, eq=False)
class IndexSnapshot:
    """A :class:`~verifykit.gallery.base.GallerySnapshot` of an index in memory."""

    info: GalleryInfo
    view: IndexView

    def search(self, probes: Embeddings, limit: int, threshold: float) -> list[list[Candidate]]:
        """See :meth:`GallerySnapshot.search`."""
        rows = checked_embeddings(probes, self.view.embedding_size)
        limit, threshold = checked_question(limit, threshold)
        return [
            [Candidate(subject_id, score, threshold) for subject_id, score in found]
            for found in self.view.search(rows, limit, threshold)
        ]

    def close(self) -> None:
        """See :meth:`GallerySnapshot.close`."""
        return


def take_snapshot(gallery: Gallery, embedding_size: int, fusion: Fusion) -> GallerySnapshot:
    """Return a gallery as it is now; one that has no :meth:`snapshot` is copied into memory.

    Args:
        gallery: Any gallery.
        embedding_size: D.
        fusion: How the scores of a subject's templates become one, where the gallery does not say so.

    Returns:
        What can be searched whatever is written since; the caller closes it.

    Raises:
        GalleryError: It cannot be read, or was written to during each of several copies.
    """
    if isinstance(gallery, SupportsSnapshot):
        return gallery.snapshot()
    for _ in range(_TRIES):
        before = gallery_info(gallery)
        view = _copied(gallery, embedding_size, getattr(gallery, "fusion", fusion))
        if gallery_info(gallery) == before:
            return IndexSnapshot(before, view)
    raise GalleryError(
        f"the gallery was written to during each of {_TRIES} copies, and its store offers no snapshot: try "
        "again when fewer people are enrolled"
    )


def _copied(gallery: Gallery, embedding_size: int, fusion: Fusion) -> IndexView:
    index = ExactIndex(embedding_size)
    for subject in each_subject(gallery):  # if one is removed, the counts differ: copied again
        rows = reference_rows(np.stack([each.embedding for each in subject.templates]), fusion)
        index.append([subject.subject_id] * len(rows), rows)
    return index.view()
