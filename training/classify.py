"""The embedding as features for classification: a linear classifier and nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data import Record
from training.errors import DataError

__all__ = ["Classification", "classify"]


@dataclass(frozen=True)
class Classification:
    """Accuracy on held-out images of known subjects.

    Attributes:
        classes: Subjects told apart.
        train_images: Images that the classifiers saw.
        test_images: Images that they were tried on.
        linear: Accuracy of a logistic regression, in [0, 1].
        neighbours: Accuracy of the nearest neighbours' vote, in [0, 1].
        k: How many neighbours.
    """

    classes: int
    train_images: int
    test_images: int
    linear: float
    neighbours: float
    k: int


def classify(
    embeddings: NDArray[np.float32],
    records: Sequence[Record],
    *,
    test_share: float = 0.5,
    k: int = 1,
    subjects: int | None = None,
    seed: int = 0,
) -> Classification:
    """Learn subjects from some images of each, and try the others; the network stays as it is.

    Args:
        embeddings: (N, D) unit rows.
        records: Whose they are; forgeries are left out.
        test_share: Share of each subject's images to try, in (0, 1).
        k: Neighbours that vote.
        subjects: Only so many, chosen by ``seed``; None is all with two images or more.
        seed: Of the choice of subjects and images.

    Raises:
        DataError: Fewer than two subjects have two images or more, or fewer than were asked for.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.neighbors import KNeighborsClassifier

    owners = np.array([record.subject for record in records])
    genuine = np.array([not record.is_forgery for record in records])
    names, counts = np.unique(owners[genuine], return_counts=True)
    eligible = names[counts >= 2]
    if len(eligible) < max(2, subjects or 0):
        raise DataError(
            f"{len(eligible)} subject(s) have two images or more; {max(2, subjects or 0)} are wanted"
        )
    if subjects is not None:
        eligible = np.random.default_rng(seed).choice(eligible, subjects, replace=False)
    chosen = np.flatnonzero(genuine & np.isin(owners, eligible))
    smallest = int(counts[np.isin(names, eligible)].min())
    # Both parts of every subject hold an image at the least.
    share = min(max(test_share, 1 / smallest), 1 - 1 / smallest)
    train, test = train_test_split(
        chosen, test_size=share, random_state=seed, stratify=owners[chosen]
    )
    linear = LogisticRegression(C=100.0, max_iter=2000).fit(embeddings[train], owners[train])
    near = KNeighborsClassifier(n_neighbors=k).fit(embeddings[train], owners[train])
    return Classification(
        classes=len(eligible),
        train_images=len(train),
        test_images=len(test),
        linear=float(linear.score(embeddings[test], owners[test])),
        neighbours=float(near.score(embeddings[test], owners[test])),
        k=k,
    )
