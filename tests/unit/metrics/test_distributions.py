"""Histograms against counting one by one, the decidability index against statistics."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from verifykit.errors import InputError
from verifykit.metrics import d_prime, score_histogram

TIED = st.lists(st.integers(-4, 4).map(lambda value: value / 4), min_size=1, max_size=30)
ANY = st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=10)


def counted(scores: list[float], edges: NDArray[np.float64]) -> list[int]:
    """Each score in the last bin whose lower edge it reaches."""
    counts = [0] * (len(edges) - 1)
    for score in scores:
        reached = sum(edge <= score for edge in edges)
        counts[min(reached, len(counts)) - 1] += 1
    return counts


@given(TIED, TIED, st.integers(1, 12))
def test_every_score_is_in_its_bin(mated: list[float], non_mated: list[float], bins: int) -> None:
    found = score_histogram(mated, non_mated, bins)
    assert found.mated.tolist() == counted(mated, found.edges)
    assert found.non_mated.tolist() == counted(non_mated, found.edges)
    assert found.mated.dtype == found.non_mated.dtype == np.int64
    lowest, highest = min(mated + non_mated), max(mated + non_mated)
    if lowest < highest:
        assert (found.edges[0], found.edges[-1]) == (lowest, highest)
    np.testing.assert_allclose(np.diff(found.edges), (found.edges[-1] - found.edges[0]) / bins)


@given(ANY, ANY, st.integers(1, 200))
def test_no_score_is_lost(mated: list[float], non_mated: list[float], bins: int) -> None:
    found = score_histogram(mated, non_mated, bins)
    assert found.edges.shape == (bins + 1,)
    assert (np.diff(found.edges) > 0).all()
    assert (found.mated.sum(), found.non_mated.sum()) == (len(mated), len(non_mated))


@pytest.mark.parametrize("score", [0.0, 0.25, -1e300, float(np.nextafter(0.25, 1))])
def test_scores_too_close_for_bins_lie_in_the_middle(score: float) -> None:
    found = score_histogram([score, score], [0.25 if abs(score) < 1 and score else score], 101)
    assert found.mated[50] == 2
    assert found.non_mated[50] == 1
    if abs(score) < 1:
        assert found.edges[-1] - found.edges[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("mated", "bins", "what"),
    [
        ([0.1], 0, "bins must be an integer of at least 1, got 0"),
        ([0.1, -math.inf], 5, "mated: 1 of 2 scores are infinite"),
        ([math.nan], 5, "mated: 1 of 1 scores are NaN"),
        ([1e308, -1e308], 5, "too far apart"),
    ],
)
def test_what_has_no_histogram_is_refused(mated: list[float], bins: int, what: str) -> None:
    with pytest.raises(InputError, match=what):
        score_histogram(mated, [0.5], bins)


@given(TIED, TIED)
def test_d_prime_is_that_of_the_statistics_module(
    mated: list[float], non_mated: list[float]
) -> None:
    distance = abs(statistics.fmean(mated) - statistics.fmean(non_mated))
    variance = (statistics.pvariance(mated) + statistics.pvariance(non_mated)) / 2
    expected = distance / math.sqrt(variance) if variance else math.inf if distance else 0.0
    assert d_prime(mated, non_mated) == pytest.approx(expected, abs=1e-12)


def test_d_prime_of_known_normal_distributions() -> None:
    rng = np.random.default_rng(3)
    mated, non_mated = rng.normal(2.0, 0.5, 200_000), rng.normal(-1.0, 1.5, 200_000)
    assert d_prime(mated, non_mated) == pytest.approx(3 / math.sqrt((0.25 + 2.25) / 2), rel=0.01)


def test_d_prime_of_constants() -> None:
    # Their mean is rounded: 0.1 + 0.1 + 0.1 is not three times 0.1.
    assert d_prime([0.1] * 3, [0.1] * 7) == 0.0
    assert d_prime([0.1] * 3, [0.2] * 7) == math.inf


def test_d_prime_refuses_infinite_scores() -> None:
    with pytest.raises(InputError, match="non_mated: 1 of 1 scores are infinite"):
        d_prime([0.1], [-math.inf])
