"""Rates over every pair, counted in tiles: those of all scores, in memory that stays flat."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from verifykit.evaluation.pair_tiles import PairTiles
from verifykit.evaluation.pairs import every_pair
from verifykit.evaluation.tiles import PairCounts
from verifykit.metrics import equal_error_rate, fnmr_at_fmr


def _rows(count: int, size: int, seed: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def _counts(
    rows: NDArray[np.float32],
    subjects: list[str],
    forged: list[bool],
    *,
    bins: int = 1 << 18,
    tile: int = 1024,
) -> PairCounts:
    labels = np.unique(np.asarray(subjects, np.str_), return_inverse=True)[1]
    return PairCounts(PairTiles(rows, labels, np.array(forged, bool), tile=tile), bins=bins)


def _assert_plain(
    rows: NDArray[np.float32], subjects: list[str], forged: list[bool], **sizes: int
) -> None:
    plain = every_pair(rows, subjects, forged)
    found = _counts(rows, subjects, forged, **sizes)
    kinds = {"mated": plain.mated, "random": plain.random, "skilled": plain.skilled}
    assert {kind: found.size(kind) for kind in kinds} == {
        kind: pairs.scores.size for kind, pairs in kinds.items()
    }
    for kind in ("random", "skilled"):
        others = kinds[kind].scores
        if not others.size or not plain.mated.scores.size:
            continue
        assert found.equal_error_rate(kind) == equal_error_rate(plain.mated.scores, others)
        for fmr in (0.0, 0.01, 0.1, 0.29, 0.5, 1.0):
            assert found.fnmr_at_fmr(kind, fmr) == fnmr_at_fmr(plain.mated.scores, others, fmr)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 40),
    st.integers(1, 6),
    st.integers(2, 4),
    st.integers(0, 99),
    st.sampled_from([1 << 18, 7, 1]),
    st.sampled_from([1024, 5]),
)
def test_rates_are_those_of_all_scores(
    count: int, people: int, size: int, seed: int, bins: int, tile: int
) -> None:
    random = np.random.default_rng(seed)
    # Rows of few values give equal scores.
    rows = np.round(_rows(count, size, seed), 1) + np.float32(0.01)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    subjects = [f"s{number}" for number in random.integers(0, people, count)]
    forged = (random.random(count) < 0.3).tolist()
    _assert_plain(rows.astype(np.float32), subjects, forged, bins=bins, tile=tile)


def test_a_collapsed_network_has_rates() -> None:
    rows = np.repeat(_rows(1, 8, 0), 30, axis=0)
    _assert_plain(rows, [f"s{number % 5}" for number in range(30)], [False] * 30)


def test_people_who_are_apart_have_rates() -> None:
    rows = np.repeat(np.eye(6, 8, dtype=np.float32), 4, axis=0)
    subjects = [f"s{number // 4}" for number in range(24)]
    _assert_plain(rows, subjects, [False] * 24)
    assert _counts(rows, subjects, [False] * 24).equal_error_rate("random").eer == 0.0


@pytest.mark.parametrize("collapsed", [False, True])
def test_memory_is_flat(collapsed: bool) -> None:
    peaks = []
    for count in (1500, 6000):
        rows = np.repeat(_rows(1, 16, 0), count, axis=0) if collapsed else _rows(count, 16, 0)
        subjects = [f"s{number % (count // 5)}" for number in range(count)]
        tracemalloc.start()
        began = time.perf_counter()
        _counts(rows, subjects, [False] * count).equal_error_rate("random")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert time.perf_counter() - began < 60
    # Sixteen times the pairs; all scores of the larger set alone take 72 MB.
    assert peaks[1] < 1.3 * peaks[0] + 4e6
    assert peaks[1] < 110e6


def test_so_many_pairs_that_their_product_overflows_cross_where_they_do() -> None:
    counts = _counts(_rows(8, 4, 0), list("aabbccdd"), [False] * 8, bins=4)
    for kind, of_bins in (("mated", (1, 2, 3, 94)), ("random", (94, 3, 2, 1))):
        counts.counts(kind)[:] = np.array(of_bins, np.int64)
    few = counts.crossing_bins("random").tolist()
    for kind in ("mated", "random"):
        counts.counts(kind)[:] *= 100_000_000
    assert counts.crossing_bins("random").tolist() == few == [1, 2, 3]
