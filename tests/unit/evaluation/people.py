"""People without pictures: directions in a small space, as data and what they gave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from verifykit.datasets import Dataset, LabelledImage, ListedPair
from verifykit.evaluation.embedding import Embedded
from verifykit.evaluation.pairs import Comparisons
from verifykit.scoring import cosine

__all__ = ["People", "as_table", "made", "pairs_of", "rows_at"]


@dataclass(frozen=True)
class People:
    """Images by row.

    Attributes:
        rows: (N, D) float32 unit rows.
        subjects: (N,) names.
        forged: (N,) which are imitations.
        groups: (N,) further columns.
    """

    rows: NDArray[np.float32]
    subjects: list[str]
    forged: list[bool]
    groups: list[dict[str, str]] = field(default_factory=list)

    def only(self, kept: Sequence[int]) -> People:
        """Those images alone."""
        return People(
            self.rows[list(kept)], [self.subjects[i] for i in kept], [self.forged[i] for i in kept]
        )

    def data(self, pairs: Sequence[ListedPair] | None = None) -> Dataset:
        """As if a file had listed them."""
        images = tuple(
            LabelledImage(
                Path(f"{n}.png"), f"{n}.png", subject, forged, self.groups[n] if self.groups else {}
            )
            for n, (subject, forged) in enumerate(zip(self.subjects, self.forged, strict=True))
        )
        kind = "images" if pairs is None else "pairs"
        return Dataset(Path("made.csv"), kind, images, None if pairs is None else tuple(pairs))

    def embedded(self, lost: Mapping[int, str] | None = None) -> Embedded:
        """As if the lost ones had given no template, for the reasons stated."""
        reasons = dict(lost or {})
        kept = np.array([n not in reasons for n in range(len(self.rows))], bool)
        row_of = np.where(kept, np.cumsum(kept) - 1, -1).astype(np.int64)
        digests = tuple(f"{n:064d}" for n in range(len(self.rows)))
        return Embedded(self.rows[kept], row_of, reasons, digests)

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) place of each image's subject among the sorted names."""
        names = sorted(set(self.subjects))
        return np.array([names.index(subject) for subject in self.subjects])


def made(subjects: int, images: int, forgeries: int = 0, *, spread: float = 0.8) -> People:
    """Images near their subject's direction, in a random order; forgeries lie farther from it."""
    random = np.random.default_rng(subjects)
    rows, names, forged = [], [], []
    for subject in range(subjects):
        centre = random.normal(size=8)
        for number in range(images + forgeries):
            away = spread * (1.5 if number >= images else 1.0)
            rows.append(centre + random.normal(0, away, 8))
            names.append(f"s{subject:02}")
            forged.append(number >= images)
    order = random.permutation(len(rows)).tolist()
    found = np.asarray(rows, np.float32)[order]
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return People(found, [names[i] for i in order], [forged[i] for i in order])


def rows_at(*angles: float) -> NDArray[np.float32]:
    """Rows in a plane: a score is the cosine of the angle between two."""
    return np.array([[np.cos(a), np.sin(a)] for a in angles], np.float32)


def pairs_of(
    people: People, populations: Sequence[str] | None = None
) -> Iterator[tuple[str, int, int, float]]:
    """(kind, image, other image, score) of every pair that is mated or non-mated, one after the other."""
    for i, j in combinations(range(len(people.subjects)), 2):
        same = people.subjects[i] == people.subjects[j]
        forgeries = people.forged[i] + people.forged[j]
        score = cosine(people.rows[i], people.rows[j])
        if same and not forgeries:
            yield "mated", i, j, score
        elif same and forgeries == 1:
            yield "skilled", i, j, score
        elif not same and not forgeries and (not populations or populations[i] == populations[j]):
            yield "random", i, j, score


def as_table(kind: Comparisons) -> dict[frozenset[int], float]:
    """Scores by their two images, each pair once."""
    ends = zip(kind.probe.tolist(), kind.reference.tolist(), strict=True)
    table = dict(zip(map(frozenset, ends), kind.scores.tolist(), strict=True))
    assert len(table) == len(kind.scores)
    return table
