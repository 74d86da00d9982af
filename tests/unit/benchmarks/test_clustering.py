"""Agreement of clusters with subjects, against loops; the other methods, against scikit-learn."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from benchmarks.clustering import agreement, average_linkage, components, shared_neighbours
from tests.unit.test_clustering import rows_of, two_cliques_and_a_bridge


def test_agreement_equals_loops_over_pairs_and_over_images() -> None:
    rng = np.random.default_rng(4)
    labels, subjects = rng.integers(0, 9, 60), rng.integers(0, 7, 60)
    pairs = list(combinations(range(60), 2))
    clustered = [(a, b) for a, b in pairs if labels[a] == labels[b]]
    mated = [(a, b) for a, b in pairs if subjects[a] == subjects[b]]
    joint = len(set(clustered) & set(mated))
    found = agreement(labels, subjects)
    assert found.pair_precision == pytest.approx(joint / len(clustered))
    assert found.pair_recall == pytest.approx(joint / len(mated))
    precisions = [(subjects[labels == labels[i]] == subjects[i]).mean() for i in range(60)]
    recalls = [(labels[subjects == subjects[i]] == labels[i]).mean() for i in range(60)]
    assert found.bcubed_precision == pytest.approx(np.mean(precisions))
    assert found.bcubed_recall == pytest.approx(np.mean(recalls))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.7])
def test_the_other_methods_equal_scikit_learn(seed: int, threshold: float) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    rows = rows_of([i % 12 for i in range(60)], noise=1.2, seed=seed)
    distances = 1.0 - rows.astype(np.float64) @ rows.T.astype(np.float64)
    for linkage, method in (("single", components), ("average", average_linkage)):
        theirs = cluster.AgglomerativeClustering(
            None, metric="precomputed", linkage=linkage, distance_threshold=1.0 - threshold
        ).fit_predict(distances)
        same = agreement(method(rows, threshold), theirs)
        assert (same.pair_precision, same.pair_recall) == (1.0, 1.0)


def test_shared_neighbours_break_a_bridge() -> None:
    rows = two_cliques_and_a_bridge()
    assert len(set(components(rows, 0.55).tolist())) == 1
    labels = shared_neighbours(rows, 0.55)
    assert len(set(labels[:5].tolist())) == len(set(labels[5:].tolist())) == 1
    assert labels[0] != labels[9]
