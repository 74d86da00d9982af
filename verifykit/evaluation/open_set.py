"""1:N error rates on galleries drawn from the data, for growing numbers of enrolled subjects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from verifykit.evaluation.results import OpenSetResult
from verifykit.metrics import hit_rate, open_set_curve
from verifykit.scoring import penalties, unit_rows
from verifykit.spec import Cohort
from verifykit.types import Embeddings

GALLERY_SIZES = (10, 30, 100, 300, 1000, 3000, 10_000)

_RANKS = (1, 5, 10)
_LEAST_STRANGERS = 5
_SEARCHES = 20_000  # of enrolled subjects; galleries are drawn until there are so many
_STRANGERS = 5_000  # of others at the most, a gallery
_MOST_GALLERIES = 300
_POINTS = 150


def measure_open_set(
    embeddings: Embeddings,
    labels: NDArray[np.int64],
    *,
    cohort: Cohort | None = None,
    sizes: Sequence[int] = GALLERY_SIZES,
    seed: int = 0,
) -> tuple[OpenSetResult, ...]:
    """Enroll N subjects with one image each, and search with their other images and with strangers'.

    Subjects who are enrolled and their images are drawn, again and again; all others are
    strangers of that draw. A search is scored against every enrolled subject.
    """
    units = unit_rows(embeddings)
    halves = (penalties(cohort, units) / 2).astype(np.float32)
    subjects, counts = np.unique(labels, return_counts=True)
    able = subjects[counts > 1]
    found = []
    for size in sizes:
        if size > len(able) or len(subjects) - size < _LEAST_STRANGERS:
            break
        found.append(
            _measure((units, halves), labels, able, size, np.random.default_rng((seed, size)))
        )
    return tuple(found)


def _measure(
    samples: tuple[Embeddings, NDArray[np.float32]],
    labels: NDArray[np.int64],
    able: NDArray[np.int64],
    size: int,
    random: np.random.Generator,
) -> OpenSetResult:
    best: list[NDArray[np.float32]] = []
    scores: list[NDArray[np.float32]] = []
    ranks: list[NDArray[np.int64]] = []
    draws = 0
    # Small galleries leave few mated searches a draw, large ones many.
    while draws < _MOST_GALLERIES and sum(len(part) for part in scores) < _SEARCHES:
        enrolled = random.permutation(able)[:size]
        order = random.permutation(len(labels))
        # The first image of each enrolled subject, in a random order, is the reference.
        known, first = np.unique(labels[order], return_index=True)
        place = np.searchsorted(known, enrolled)
        references = order[first[place]]
        probes = np.setdiff1d(order, references)
        mine = probes[np.isin(labels[probes], enrolled)]
        strangers = probes[~np.isin(labels[probes], enrolled)]
        mine = random.permutation(mine)[:_SEARCHES]
        strangers = random.permutation(strangers)[:_STRANGERS]
        column = {int(subject): n for n, subject in enumerate(enrolled)}
        of_mine = np.array([column[int(label)] for label in labels[mine]])
        mated = _scores(samples, mine, references)
        own = mated[np.arange(len(mine)), of_mine]
        # A tie is counted against the mate: the answer to a search must not hang on an order.
        ranks.append((mated >= own[:, None]).sum(axis=1))
        scores.append(own)
        best.append(_scores(samples, strangers, references).max(axis=1))
        draws += 1
    strange, own_scores, own_ranks = (
        np.concatenate(best),
        np.concatenate(scores),
        np.concatenate(ranks),
    )
    curve = open_set_curve(strange, own_scores, own_ranks, rank=1)
    at = _thinned(curve.fpir)
    return OpenSetResult(
        gallery_size=size,
        draws=draws,
        mated_searches=len(own_scores),
        non_mated_searches=len(strange),
        fpir=tuple(curve.fpir[at].tolist()),
        fnir=tuple(curve.fnir[at].tolist()),
        thresholds=tuple(curve.thresholds[at].tolist()),
        hit_rates={rank: hit_rate(own_ranks, rank) for rank in _RANKS if rank <= size},
    )


def _scores(
    samples: tuple[Embeddings, NDArray[np.float32]],
    probes: NDArray[np.int64],
    references: NDArray[np.int64],
) -> NDArray[np.float32]:
    units, halves = samples
    cosines = units[probes] @ units[references].T
    scores: NDArray[np.float32] = cosines - halves[probes][:, None] - halves[references][None]
    return scores


def _thinned(fpir: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the places of points that are evenly spaced in log FPIR, rates rising, none of them 0."""
    falling = -fpir
    there = int(np.searchsorted(falling, 0.0, side="left"))  # FPIR falls along the curve
    least = fpir[there - 1]
    targets = np.geomspace(1.0, least, _POINTS) * (1 + 1e-12)
    at = np.unique(np.minimum(np.searchsorted(falling, -targets, side="left"), there - 1))
    return at[::-1]
