"""Identification errors against searching one by one."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifykit.errors import InputError
from verifykit.metrics import fmr_of_fpir, fpir_of_fmr, hit_rate, open_set_curve

# Few distinct values, so that ties are the rule.
SCORE = st.integers(-4, 4).map(lambda value: value / 4)
BEST = st.lists(SCORE, min_size=1, max_size=20)
MATES = st.lists(st.tuples(SCORE, st.integers(1, 5)), min_size=1, max_size=20)


def fnir(mates: list[tuple[float, int]], threshold: float, rank: float) -> float:
    missed = 0
    for score, place in mates:
        if not (place <= rank and score >= threshold):
            missed += 1
    return missed / len(mates)


@given(BEST, MATES, st.integers(1, 6))
def test_the_curve_is_a_count_at_each_threshold(
    best: list[float], mates: list[tuple[float, int]], rank: int
) -> None:
    scores, ranks = [score for score, _ in mates], [place for _, place in mates]
    curve = open_set_curve(best, scores, ranks, rank)
    assert list(curve.thresholds) == [*sorted({*best, *scores}), math.inf]
    for threshold, positive, negative in zip(curve.thresholds, curve.fpir, curve.fnir, strict=True):
        assert positive == sum(score >= threshold for score in best) / len(best)
        assert negative == fnir(mates, threshold, rank)
    assert hit_rate(ranks, rank) == pytest.approx(1 - fnir(mates, -math.inf, rank))


def test_a_search_in_scores_of_a_whole_gallery() -> None:
    """Ranks and best scores from comparison scores, the errors counted in the scores themselves."""
    rng = np.random.default_rng(11)
    non_mated = rng.normal(0, 1, (40, 25))
    mated = rng.normal(0, 1, (60, 25))
    mated[:, 0] += 2  # the mate is the first of the gallery
    ranks = 1 + (mated[:, 1:] > mated[:, :1]).sum(axis=1)
    curve = open_set_curve(non_mated.max(axis=1), mated[:, 0], ranks, rank=3)
    for at in range(0, len(curve.thresholds), 9):
        threshold = curve.thresholds[at]
        reported = sum(any(score >= threshold for score in row) for row in non_mated)
        missed = sum(
            0 not in [i for i in np.argsort(-row)[:3] if row[i] >= threshold] for row in mated
        )
        assert (curve.fpir[at], curve.fnir[at]) == (reported / 40, missed / 60)


def test_a_search_without_candidates_reports_nobody() -> None:
    curve = open_set_curve([-math.inf, 0.5], [-math.inf, 0.5], [9, 1])
    assert curve.thresholds.tolist() == [-math.inf, 0.5, math.inf]
    assert (curve.fpir[1], curve.fnir[1]) == (0.5, 0.5)


@given(st.floats(1e-9, 0.5), st.integers(1, 30))
def test_the_rates_of_a_gallery_are_those_of_fractions(rate: float, size: int) -> None:
    exact = 1 - (1 - Fraction(rate)) ** size
    assert fpir_of_fmr(rate, size) == pytest.approx(float(exact), rel=1e-12)


@given(st.floats(1e-300, 1e-12), st.integers(1, 1_000))
def test_tiny_rates_keep_their_digits(rate: float, size: int) -> None:
    assert fpir_of_fmr(rate, size) == pytest.approx(size * rate, rel=1e-8)
    assert fmr_of_fpir(rate, size) == pytest.approx(rate / size, rel=1e-8)


@given(st.floats(1e-12, 0.999), st.integers(1, 10**9))
def test_one_rate_gives_the_other_back(fpir: float, size: int) -> None:
    assert fpir_of_fmr(fmr_of_fpir(fpir, size), size) == pytest.approx(fpir, rel=1e-9)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, math.nan])
def test_rates_outside_are_refused(rate: float) -> None:
    with pytest.raises(InputError, match=r"fmr is a rate in \(0, 1\), got"):
        fpir_of_fmr(rate, 10)
    with pytest.raises(InputError, match=r"fpir is a rate in \(0, 1\), got"):
        fmr_of_fpir(rate, 10)


def test_an_empty_gallery_is_refused() -> None:
    with pytest.raises(InputError, match="gallery_size must be an integer of at least 1, got 0"):
        fpir_of_fmr(0.1, 0)
    with pytest.raises(InputError, match="gallery_size must be an integer of at least 1, got 0"):
        fmr_of_fpir(0.1, 0)


@pytest.mark.parametrize(
    ("scores", "ranks", "rank", "what"),
    [
        ([0.1], [], 1, "there are no mated searches"),
        ([0.1], [0], 1, "integers from 1, the best, got int64 from 0"),
        ([0.1], [1.0], 1, "integers from 1, the best, got float64"),
        ([0.1, 0.2], [1], 1, "got 2 mate_scores and 1 mate_ranks"),
        ([0.1], [1], 0, "rank must be an integer of at least 1, got 0"),
        ([math.nan], [1], 1, "mate_scores: 1 of 1 scores are NaN"),
    ],
)
def test_searches_that_are_none_are_refused(
    scores: list[float], ranks: list[int], rank: int, what: str
) -> None:
    with pytest.raises(InputError, match=what):
        open_set_curve([0.1], scores, ranks, rank)


def test_the_other_inputs_are_checked_too() -> None:
    with pytest.raises(InputError, match="best_scores: there are no scores"):
        open_set_curve([], [0.5], [1])
    with pytest.raises(InputError, match="rank must be an integer of at least 1, got 0"):
        hit_rate([1], 0)
