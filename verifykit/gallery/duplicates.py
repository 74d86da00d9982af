"""Search a gallery for itself: subjects who are enrolled under two ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import GalleryError
from verifykit.gallery.base import Gallery, each_subject
from verifykit.gallery.penalised import Search
from verifykit.types import Embeddings

# One tile of the exact search: fewer probes read the whole gallery as often.
_BATCH = 256
# Nearly every subject is found by itself only, so most lists are complete with this.
_FIRST_LIMIT = 8


@dataclass(frozen=True)
class DuplicatePair:
    """Two ids that may be one person.

    Attributes:
        subject_id: The id that comes first by code point.
        other_id: The other.
        score: The best fused score of a template of either against the other, in [-1, 1].
    """

    subject_id: str
    other_id: str
    score: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready plain values."""
        return asdict(self)


@dataclass(frozen=True)
class LookAlikes:
    """A subject with others who are like it.

    Attributes:
        subject_id: The subject.
        count: How many others reach the threshold.
        nearest_id: The one with the highest score.
        score: That score.
    """

    subject_id: str
    count: int
    nearest_id: str
    score: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready plain values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Enrolled:
    """All templates of a gallery, to be its probes.

    Attributes:
        subject_ids: All subjects, sorted by code point.
        embeddings: (T, D) float32, a subject's own one after the other.
        owners: (T,) whose row it is: the place in ``subject_ids``.
    """

    subject_ids: tuple[str, ...]
    embeddings: Embeddings
    owners: NDArray[np.int64]

    @property
    def comparison_count(self) -> int:
        """Return the number of different scores between different subjects.

        It is T (N - 1), less what is the same both ways: between two subjects of one template each there is
        one score, so N of them make N (N - 1) / 2.
        """
        single = int((np.bincount(self.owners) == 1).sum())
        return len(self.owners) * max(0, len(self.subject_ids) - 1) - single * (single - 1) // 2


def read_enrolled(gallery: Gallery) -> Enrolled:
    """Read every template of a gallery into memory.

    Args:
        gallery: Any gallery; a subject who is removed meanwhile is left out.

    Returns:
        The templates; none of an empty gallery.

    Raises:
        GalleryError: It cannot be read.
    """
    subject_ids: list[str] = []
    rows: list[NDArray[np.float32]] = []
    owners: list[int] = []
    for subject in each_subject(gallery):
        owners += [len(subject_ids)] * len(subject.templates)
        rows += [template.embedding for template in subject.templates]
        subject_ids.append(subject.subject_id)
    embeddings = np.stack(rows) if rows else np.empty((0, 0), np.float32)
    return Enrolled(tuple(subject_ids), embeddings, np.array(owners, np.int64))


def find_duplicates(
    gallery: Gallery,
    threshold: float,
    *,
    search: Search | None = None,
    enrolled: Enrolled | None = None,
    on_template: Callable[[int, int], None] | None = None,
) -> list[DuplicatePair]:
    """Return every pair of subjects whose score reaches a threshold.

    Each template is searched for among all subjects, as ``identify`` would, and the better direction
    counts. No pair is left out: a list that is cut short by its limit is requested again with a higher
    one.

    Args:
        gallery: Any gallery.
        threshold: Score in [-1, 1].
        search: What searches the gallery, see :func:`searcher`; None is the gallery's own search.
        enrolled: What :func:`read_enrolled` gave for this gallery, if it is there already.
        on_template: Called with the number of templates that are done and of all, also before the first.

    Returns:
        Best score first, equal scores by ids; each pair once.

    Raises:
        GalleryError: The gallery cannot be read, or it does not find its own subjects.
        InputError: ``threshold`` is not a finite number.
    """
    mine = read_enrolled(gallery) if enrolled is None else enrolled
    search = search or gallery.search
    count = len(mine.embeddings)
    best: dict[tuple[str, str], float] = {}
    if on_template:
        on_template(0, count)
    for start in range(0, count, _BATCH):
        places = np.arange(start, min(start + _BATCH, count))
        limit = _FIRST_LIMIT
        while len(places):
            found = search(mine.embeddings[places], limit, threshold)
            if len(found) != len(places):
                raise GalleryError(
                    f"the gallery answered {len(found)} of {len(places)} probes: its search is broken"
                )
            for place, candidates in zip(places.tolist(), found, strict=True):
                own = mine.subject_ids[mine.owners[place]]
                for other in candidates:
                    if other.subject_id != own:
                        pair = min(own, other.subject_id), max(own, other.subject_id)
                        best[pair] = max(best.get(pair, -1.0), other.score)
            full = np.array([len(candidates) == limit for candidates in found])
            places = places[full]
            limit *= 8
        if on_template:
            on_template(min(start + _BATCH, count), count)
    pairs = [DuplicatePair(*ids, score) for ids, score in best.items()]
    return sorted(pairs, key=lambda pair: (-pair.score, pair.subject_id, pair.other_id))


def count_look_alikes(pairs: Sequence[DuplicatePair]) -> list[LookAlikes]:
    """Return the subjects of pairs with the number of others that each is like.

    Args:
        pairs: What :func:`find_duplicates` found, the best score first.

    Returns:
        Most look-alikes first, then by score and id; subjects without any are left out.
    """
    counts: dict[str, int] = {}
    nearest: dict[str, tuple[str, float]] = {}
    for pair in pairs:
        for one, other in (
            (pair.subject_id, pair.other_id),
            (pair.other_id, pair.subject_id),
        ):
            counts[one] = counts.get(one, 0) + 1
            nearest.setdefault(one, (other, pair.score))
    found = [LookAlikes(one, count, *nearest[one]) for one, count in counts.items()]
    return sorted(found, key=lambda each: (-each.count, -each.score, each.subject_id))
