"""How well unknown faces are grouped, by four ways to take groups out of the same graph.

``python -m benchmarks.clustering --data PATH``

The labelled face of every picture is embedded; pairs whose score reaches the threshold of a false match
rate are edges. ``whispers`` is :func:`verifykit.clustering.cluster_rows`. ``pairs`` are precision and
recall over pairs of pictures, ``BCubed`` (Amigo et al., "A comparison of extrinsic clustering evaluation
metrics", Information Retrieval 12, 2009) over pictures: a person with a hundred of them does not count
ten thousand times. SFace has not been trained on these sets; its thresholds were measured on lfw_train.
"""

from __future__ import annotations

import argparse
import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.faces import data_argument, embed, read_people
from verifykit import models
from verifykit.clustering import cluster_rows, cluster_rule
from verifykit.encoder import Encoder
from verifykit.types import Embeddings

RATES = (None, 1e-6, 1e-5, 1e-4, 1e-3)
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """How groups agree with people.

    Attributes:
        pair_precision: Of the pairs in one group, those of one person; 1 where there are none.
        pair_recall: Of the pairs of one person, those in one group; 1 where there are none.
        bcubed_precision: Share of a picture's group that is its person's, meaned over pictures.
        bcubed_recall: Share of a picture's person that is in its group, likewise.
    """

    pair_precision: float
    pair_recall: float
    bcubed_precision: float
    bcubed_recall: float

    @property
    def bcubed_f(self) -> float:
        """The harmonic mean of the two."""
        precision, recall = self.bcubed_precision, self.bcubed_recall
        return 2 * precision * recall / (precision + recall)


def agreement(labels: ArrayLike, subjects: ArrayLike) -> Agreement:
    """Compare groups with people.

    Args:
        labels: (N,) group of each picture.
        subjects: (N,) whose it is.
    """
    _, group = np.unique(labels, return_inverse=True)
    _, person = np.unique(subjects, return_inverse=True)
    both = np.zeros((group.max() + 1, person.max() + 1))
    np.add.at(both, (group, person), 1)
    groups, people = both.sum(1), both.sum(0)
    together = _pairs(both)
    return Agreement(
        together / _pairs(groups) if _pairs(groups) else 1.0,
        together / _pairs(people) if _pairs(people) else 1.0,
        float((both**2 / groups[:, None]).sum() / len(group)),
        float((both**2 / people[None, :]).sum() / len(group)),
    )


def _pairs(sizes: NDArray[np.float64]) -> float:
    return float((sizes * (sizes - 1) / 2).sum())


def edges(rows: Embeddings, threshold: float) -> list[tuple[int, int]]:
    """Pairs of rows that reach a threshold, lower place first."""
    return [(int(i), int(j)) for i, j in np.argwhere(np.triu(rows @ rows.T >= threshold, 1))]


def components(rows: Embeddings, threshold: float) -> Labels:
    """Whatever hangs together is one group: single linkage."""
    return _joined(len(rows), edges(rows, threshold))


def shared_neighbours(rows: Embeddings, threshold: float) -> Labels:
    """Components over those edges whose ends have half of their neighbours in common.

    After Jarvis and Patrick, "Clustering using a similarity measure based on shared near neighbors", IEEE
    Transactions on Computers C-22, 1973; a row counts among its own neighbours.
    """
    found = edges(rows, threshold)
    near = [{place} for place in range(len(rows))]
    for one, other in found:
        near[one].add(other)
        near[other].add(one)
    kept = [(a, b) for a, b in found if 2 * len(near[a] & near[b]) >= len(near[a] | near[b])]
    return _joined(len(rows), kept)


def average_linkage(rows: Embeddings, threshold: float) -> Labels:
    """Join the two groups whose mean score is best, while it reaches the threshold.

    Exact although it looks at neighbours only: where a mean reaches the threshold, some pair does.
    """
    sums = {place: row.astype(np.float64) for place, row in enumerate(rows)}
    near: dict[int, set[int]] = {place: set() for place in sums}
    members = {place: [place] for place in sums}
    queue = []
    for one, other in edges(rows, threshold):
        near[one].add(other)
        near[other].add(one)
        queue.append((-float(rows[one] @ rows[other]), one, other))
    heapq.heapify(queue)
    new = len(rows)
    while queue:
        _, one, other = heapq.heappop(queue)
        if one not in sums or other not in sums:
            continue
        sums[new] = sums.pop(one) + sums.pop(other)
        members[new] = members.pop(one) + members.pop(other)
        near[new] = (near.pop(one) | near.pop(other)) - {one, other}
        for beside in near[new]:
            near[beside] = (near[beside] - {one, other}) | {new}
            mean = sums[new] @ sums[beside] / (len(members[new]) * len(members[beside]))
            if mean >= threshold:
                heapq.heappush(queue, (-float(mean), beside, new))
        new += 1
    labels = np.empty(len(rows), np.int64)
    for label, places in members.items():
        labels[places] = label
    return labels


def _joined(count: int, pairs: list[tuple[int, int]]) -> Labels:
    parents = list(range(count))

    def root(place: int) -> int:
        while parents[place] != place:
            parents[place] = parents[parents[place]]
            place = parents[place]
        return place

    for one, other in pairs:
        parents[root(one)] = root(other)
    return np.array([root(place) for place in range(count)])


WAYS: dict[str, Callable[[Embeddings, float], Labels]] = {
    "components": components,
    "shared neighbours": shared_neighbours,
    "average linkage": average_linkage,
    "whispers": cluster_rows,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.clustering", description=__doc__)
    data_argument(parser)
    parser.add_argument(
        "--sets", nargs="+", default=["orl", "lfw_val"], help="of orl, lfw_val, lfw_train"
    )
    arguments = parser.parse_args()
    encoder = Encoder.open(models.load("face"), threads=2)
    console = Console(width=140)
    for name in arguments.sets:
        faces = embed(encoder, read_people(arguments.data, name))
        table = Table(
            title=f"{name}: {len(faces.subjects)} faces, {len(set(faces.subjects))} people"
        )
        for column in ("FMR", "threshold", "way", "groups"):
            table.add_column(column)
        for column in ("pairs: precision", "recall", "BCubed: precision", "recall", "F", "s"):
            table.add_column(column, justify="right")
        for rate in RATES:
            rule = cluster_rule(encoder.spec, len(faces.subjects), fmr=rate)
            shown = f"{rule.fmr:g}{'' if rate else ' (default)'}"
            for way, group in WAYS.items():
                start = time.perf_counter()
                labels = group(faces.embeddings, rule.threshold)
                took = time.perf_counter() - start
                found = agreement(labels, faces.subjects)
                cells = (*vars(found).values(), found.bcubed_f)
                table.add_row(
                    *(shown, f"{rule.threshold:.4f}", way, str(len(set(labels.tolist())))),
                    *(f"{100 * cell:.2f}" for cell in cells),
                    f"{took:.2f}",
                )
                shown = ""
            table.add_section()
        console.print(table)


if __name__ == "__main__":
    main()
