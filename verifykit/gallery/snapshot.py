"""A gallery at one moment, so that a long run searches one state while others enroll and remove."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
from verifykit.gallery.penalised import PenalisedSnapshot, RowsSnapshot
from verifykit.scoring import checked_embeddings, reference_rows
from verifykit.spec import Cohort, Fusion
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

    def rows_of(self, subject_id: str) -> NDArray[np.float32] | None:
        """Return the reference rows of a subject, (R, D); None for an unknown one."""
        return self.view.rows_of(subject_id)

    def close(self) -> None:
        """See :meth:`GallerySnapshot.close`."""
        return


def take_snapshot(
    gallery: Gallery, embedding_size: int, fusion: Fusion, cohort: Cohort | None = None
) -> GallerySnapshot:
    """Return a gallery as it is now; one that has no :meth:`snapshot` is copied into memory.

    Args:
        gallery: Any gallery.
        embedding_size: D.
        fusion: How the scores of a subject's templates become one, where the gallery does not say so.
        cohort: Lowers the scores of look-alikes; None for bare cosines.

    Returns:
        What can be searched whatever is written since; the caller closes it.

    Raises:
        GalleryError: It cannot be read, or was written to during each of several copies.
    """
    if isinstance(gallery, SupportsSnapshot):
        taken = gallery.snapshot()
        if cohort is None:
            return taken
        if isinstance(taken, RowsSnapshot):
            return PenalisedSnapshot(taken, cohort)
        taken.close()
    for _ in range(_TRIES):
        before = gallery_info(gallery)
        view = _copied(gallery, embedding_size, getattr(gallery, "fusion", fusion))
        if gallery_info(gallery) == before:
            copied = IndexSnapshot(before, view)
            return copied if cohort is None else PenalisedSnapshot(copied, cohort)
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
