"""Compare four methods of clustering unknown faces on the same graph.

``python -m benchmarks.clustering --data PATH``

The labelled face of every image is embedded; pairs whose score reaches the threshold of a false match rate
are edges. ``whispers`` is :func:`verifykit.clustering.cluster_rows`. ``pairs`` are precision and recall over
pairs of images, ``BCubed`` (Amigo et al., "A comparison of extrinsic clustering evaluation metrics",
Information Retrieval 12, 2009) over images, so that a subject with a hundred images does not count ten
thousand times. SFace was not trained on these sets; its thresholds were measured on lfw_train.
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

from benchmarks.face.data import add_data_argument, embed, read_subjects
from verifykit import models
from verifykit.clustering import cluster_rows, cluster_rule
from verifykit.encoder import Encoder
from verifykit.types import Embeddings

RATES = (None, 1e-6, 1e-5, 1e-4, 1e-3)
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """Agreement of clusters with subjects.

    Attributes:
        pair_precision: Share of the pairs in one cluster that are of one subject; 1 without pairs.
        pair_recall: Share of the pairs of one subject that are in one cluster; 1 without pairs.
        bcubed_precision: Mean over images of the share of its cluster that is of its subject.
        bcubed_recall: Mean over images of the share of its subject that is in its cluster.
    """

    pair_precision: float
    pair_recall: float
    bcubed_precision: float
    bcubed_recall: float

    @property
    def bcubed_f(self) -> float:
        """Return the harmonic mean of BCubed precision and recall."""
        precision, recall = self.bcubed_precision, self.bcubed_recall
        return 2 * precision * recall / (precision + recall)


def agreement(labels: ArrayLike, subjects: ArrayLike) -> Agreement:
    """Compare (N,) cluster labels with the (N,) subjects of the same images."""
    _, cluster = np.unique(labels, return_inverse=True)
    _, subject = np.unique(subjects, return_inverse=True)
    joint = np.zeros((cluster.max() + 1, subject.max() + 1))
    np.add.at(joint, (cluster, subject), 1)
    cluster_sizes, subject_sizes = joint.sum(1), joint.sum(0)
    joint_pairs = _pair_count(joint)
    return Agreement(
        joint_pairs / _pair_count(cluster_sizes) if _pair_count(cluster_sizes) else 1.0,
        joint_pairs / _pair_count(subject_sizes) if _pair_count(subject_sizes) else 1.0,
        float((joint**2 / cluster_sizes[:, None]).sum() / len(cluster)),
        float((joint**2 / subject_sizes[None, :]).sum() / len(cluster)),
    )


def _pair_count(sizes: NDArray[np.float64]) -> float:
    return float((sizes * (sizes - 1) / 2).sum())


def edges(rows: Embeddings, threshold: float) -> list[tuple[int, int]]:
    """Return the pairs of rows whose score reaches the threshold, lower index first."""
    return [(int(i), int(j)) for i, j in np.argwhere(np.triu(rows @ rows.T >= threshold, 1))]


def components(rows: Embeddings, threshold: float) -> Labels:
    """Return connected components: single linkage."""
    return _join(len(rows), edges(rows, threshold))


def shared_neighbours(rows: Embeddings, threshold: float) -> Labels:
    """Return components over the edges whose ends have half of their neighbours in common.

    After Jarvis and Patrick, "Clustering using a similarity measure based on shared near neighbors", IEEE
    Transactions on Computers C-22, 1973; a row is one of its own neighbours.
    """
    found = edges(rows, threshold)
    neighbours = [{index} for index in range(len(rows))]
    for a, b in found:
        neighbours[a].add(b)
        neighbours[b].add(a)
    kept = [
        (a, b)
        for a, b in found
        if 2 * len(neighbours[a] & neighbours[b]) >= len(neighbours[a] | neighbours[b])
    ]
    return _join(len(rows), kept)


def average_linkage(rows: Embeddings, threshold: float) -> Labels:
    """Join the two clusters with the best mean score, as long as it reaches the threshold.

    Exact although it looks at neighbours only: where a mean reaches the threshold, some pair does.
    """
    sums = {index: row.astype(np.float64) for index, row in enumerate(rows)}
    neighbours: dict[int, set[int]] = {index: set() for index in sums}
    members = {index: [index] for index in sums}
    queue = []
    for a, b in edges(rows, threshold):
        neighbours[a].add(b)
        neighbours[b].add(a)
        queue.append((-float(rows[a] @ rows[b]), a, b))
    heapq.heapify(queue)
    new = len(rows)
    while queue:
        _, a, b = heapq.heappop(queue)
        if a not in sums or b not in sums:
            continue
        sums[new] = sums.pop(a) + sums.pop(b)
        members[new] = members.pop(a) + members.pop(b)
        neighbours[new] = (neighbours.pop(a) | neighbours.pop(b)) - {a, b}
        for other in neighbours[new]:
            neighbours[other] = (neighbours[other] - {a, b}) | {new}
            mean = sums[new] @ sums[other] / (len(members[new]) * len(members[other]))
            if mean >= threshold:
                heapq.heappush(queue, (-float(mean), other, new))
        new += 1
    labels = np.empty(len(rows), np.int64)
    for label, indices in members.items():
        labels[indices] = label
    return labels


def _join(count: int, pairs: list[tuple[int, int]]) -> Labels:
    parents = list(range(count))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    for a, b in pairs:
        parents[root(a)] = root(b)
    return np.array([root(index) for index in range(count)])


METHODS: dict[str, Callable[[Embeddings, float], Labels]] = {
    "components": components,
    "shared neighbours": shared_neighbours,
    "average linkage": average_linkage,
    "whispers": cluster_rows,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.clustering", description=__doc__)
    add_data_argument(parser)
    parser.add_argument(
        "--sets", nargs="+", default=["orl", "lfw_val"], help="of orl, lfw_val, lfw_train"
    )
    arguments = parser.parse_args()
    encoder = Encoder.open(models.load("face"), threads=2)
    console = Console(width=140)
    for name in arguments.sets:
        faces = embed(encoder, read_subjects(arguments.data, name))
        table = Table(
            title=f"{name}: {len(faces.subjects)} faces, {len(set(faces.subjects))} people"
        )
        for column in ("FMR", "threshold", "method", "clusters"):
            table.add_column(column)
        for column in ("pairs: precision", "recall", "BCubed: precision", "recall", "F", "s"):
            table.add_column(column, justify="right")
        for rate in RATES:
            rule = cluster_rule(encoder.spec, len(faces.subjects), fmr=rate)
            shown = f"{rule.fmr:g}{'' if rate else ' (default)'}"
            for method, cluster in METHODS.items():
                start = time.perf_counter()
                labels = cluster(faces.embeddings, rule.threshold)
                elapsed_s = time.perf_counter() - start
                found = agreement(labels, faces.subjects)
                cells = (*vars(found).values(), found.bcubed_f)
                table.add_row(
                    *(shown, f"{rule.threshold:.4f}", method, str(len(set(labels.tolist())))),
                    *(f"{100 * cell:.2f}" for cell in cells),
                    f"{elapsed_s:.2f}",
                )
                shown = ""
            table.add_section()
        console.print(table)


if __name__ == "__main__":
    main()
