"""1:1 error rates against plain counting, and what they look like at the ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_curve

from tests.unit.evaluation.people import made
from verifykit.evaluation.one_to_one import REPORTED_FMRS, measure_attack, rate_of, supported
from verifykit.evaluation.pairs import Comparisons, score_comparisons
from verifykit.evaluation.results import AttackResult
from verifykit.metrics import SubjectBootstrap, det_curve, equal_error_rate
from verifykit.spec import OperatingPoint

SUBJECTS = 6
LABELS = np.repeat(np.arange(SUBJECTS), 2)
# Coarse, so that scores are tied, or any float32.
SCORES = st.integers(-4, 4).map(lambda n: n / 4) | st.floats(-1.0, 1.0, width=32)


def _mated(scores: Sequence[float]) -> Comparisons:
    """Of one subject after the other."""
    ends = (np.arange(len(scores)) % SUBJECTS).astype(np.int32) * 2
    return Comparisons(ends, ends + 1, np.array(scores, np.float32))


def _non_mated(scores: Sequence[float]) -> Comparisons:
    """Of one subject and the next."""
    ends = (np.arange(len(scores)) % SUBJECTS).astype(np.int32) * 2
    return Comparisons(ends, (ends + 2) % len(LABELS), np.array(scores, np.float32))


def measure(mated: Sequence[float], others: Sequence[float], **options: object) -> AttackResult:
    return measure_attack(
        "random_forgery",
        _mated(mated),
        _non_mated(others),
        LABELS,
        **options,  # type: ignore[arg-type]
    )


@given(
    st.lists(SCORES, min_size=1, max_size=12),
    st.lists(SCORES, min_size=1, max_size=40),
    st.lists(st.floats(0.05, 0.9), max_size=3),
)
def test_rates_are_those_of_counting(
    mated: list[float], others: list[float], fmrs: list[float]
) -> None:
    found = measure(mated, others, fmrs=[*fmrs, 0.1])
    assert (found.attack, found.mated_count) == ("random_forgery", len(mated))
    assert found.non_mated_count == len(others)
    possible = [fmr for fmr in [*fmrs, 0.1] if len(others) >= 3 / fmr * (1 - 1e-9)]
    assert [row.asked_fmr for row in found.rates] == possible
    assert list(found.unsupported) == [fmr for fmr in [*fmrs, 0.1] if fmr not in possible]
    for row in found.rates:
        assert row.fmr.value <= row.asked_fmr
        assert row.fmr.errors == sum(score >= row.threshold for score in others)
        assert row.fmr.trials == len(others)
        assert row.fnmr.errors == sum(score < row.threshold for score in mated)
        assert row.fnmr.trials == len(mated)
        # No lower threshold has such a rate: one step of float64 down, and too many match.
        below = math.nextafter(row.threshold, -math.inf)
        assert sum(score >= below for score in others) > row.asked_fmr * len(others)
        for rate in (row.fmr, row.fnmr):
            assert 0.0 <= rate.low <= rate.value <= rate.high <= 1.0
            assert rate.value == rate.errors / rate.trials


@given(st.lists(SCORES, min_size=1, max_size=30), st.lists(SCORES, min_size=1, max_size=30))
def test_the_eer_lies_in_its_interval(mated: list[float], others: list[float]) -> None:
    found = measure(mated, others)
    crossing = equal_error_rate(mated, others)
    assert (found.eer.value, found.eer_threshold) == (crossing.eer, crossing.threshold)
    assert 0.0 <= found.eer.low <= found.eer.value <= found.eer.high <= 1.0


@given(st.lists(SCORES, min_size=1, max_size=30), st.lists(SCORES, min_size=1, max_size=30))
def test_points_lie_on_the_exact_curve(mated: list[float], others: list[float]) -> None:
    det, curve = measure(mated, others).det, det_curve(mated, others)
    there = set(
        zip(curve.thresholds.tolist(), curve.fmr.tolist(), curve.fnmr.tolist(), strict=True)
    )
    points = list(zip(det.thresholds, det.fmr, det.fnmr, strict=True))
    assert points
    assert set(points) <= there
    assert min(det.fmr) > 0.0
    for one, other in pairwise(points):
        assert one[0] < other[0]
        assert one[1] > other[1]
        assert one[2] <= other[2]
    # Of points with one FMR that of the lowest FNMR; and a point at or little above every FMR.
    best = {fmr: min(p[2] for p in there if p[1] == fmr) for _, fmr, _ in there if fmr > 0}
    assert all(fnmr == best[fmr] for _, fmr, fnmr in points)
    step = len(others) ** (1 / 59) * (1 + 1e-9)
    assert all(any(fmr <= each <= fmr * step for each in det.fmr) for fmr in best)
    for low, value, high in zip(det.fnmr_low, det.fnmr, det.fnmr_high, strict=True):
        assert 0.0 <= low <= value <= high <= 1.0


def test_a_long_curve_is_thinned_and_reaches_one_false_match() -> None:
    random = np.random.default_rng(3)
    mated, others = random.normal(0.5, 0.2, 400), random.normal(0.0, 0.2, 3000)
    mated, others = (np.clip(s, -1, 1).astype(np.float32) for s in (mated, others))
    det = measure(mated.tolist(), others.tolist()).det
    assert 40 <= len(det.fmr) <= 60
    assert (det.fmr[0], det.fmr[-1]) == (1.0, 1 / 3000)
    # Evenly spaced where scores are not scarce.
    steps = [high / low for high, low in pairwise(det.fmr) if low > 0.01]
    assert max(steps) < 10**0.1
    truth = np.repeat([1, 0], [400, 3000])
    false, true, _ = roc_curve(truth, np.concatenate([mated, others]), drop_intermediate=False)
    on_curve = set(zip(np.round(false, 9), np.round(1 - true, 9), strict=True))
    assert {(round(f, 9), round(n, 9)) for f, n in zip(det.fmr, det.fnmr, strict=True)} <= on_curve


def test_rates_of_people_have_intervals_over_subjects() -> None:
    people = made(12, 5, forgeries=4)
    scored = score_comparisons(people.data(), people.embedded())
    for attack, kind in (("random_forgery", scored.random), ("skilled_forgery", scored.skilled)):
        found = measure_attack(attack, scored.mated, kind, people.labels)  # type: ignore[arg-type]
        assert found.attack == attack
        assert found.rates
        for row in found.rates:
            for rate in (row.fmr, row.fnmr):
                if rate.errors:
                    wilson = binomtest(rate.errors, rate.trials).proportion_ci(method="wilson")
                    assert rate.low <= wilson.low + 1e-12
                    assert rate.high >= wilson.high - 1e-12
        # Comparisons that share a subject are not independent: wider than Wilson's.
        widest = max(found.rates, key=lambda row: row.fnmr.value).fnmr
        wilson = binomtest(widest.errors, widest.trials).proportion_ci(method="wilson")
        assert widest.high - widest.low > 1.2 * (wilson.high - wilson.low)
        again = measure_attack(attack, scored.mated, kind, people.labels, seed=0)  # type: ignore[arg-type]
        other = measure_attack(attack, scored.mated, kind, people.labels, seed=1)  # type: ignore[arg-type]
        assert again == found
        assert other.eer.value == found.eer.value
        assert other.eer != found.eer


def test_what_comes_out_at_the_models_own_thresholds() -> None:
    mated, others = [0.875, 0.625, 0.375, 0.25], [0.5, 0.25, 0.125]
    points = [
        OperatingPoint(1e-1, 0.375, 10**7, 1),
        OperatingPoint(1e-3, 0.5, 10**7, 1),
        OperatingPoint(1e-6, 0.875, 10**7, 1),
        OperatingPoint(1e-2, 0.1, 10**7, 1, reference_count=2),
        OperatingPoint(1e-2, 0.1, 10**7, 1, "skilled_forgery"),
    ]
    found = measure(mated, others, own=points)
    assert found.rates == ()
    assert [(row.asked_fmr, row.threshold) for row in found.own] == [
        (1e-1, 0.375), (1e-3, 0.5), (1e-6, 0.875),
    ]  # fmt: skip
    assert [(row.fmr.errors, row.fmr.trials) for row in found.own] == [(1, 3), (1, 3), (0, 3)]
    assert [(row.fnmr.errors, row.fnmr.trials) for row in found.own] == [(1, 4), (2, 4), (3, 4)]
    assert measure(mated, others).own == ()


def test_perfect_separation_has_bounds_all_the_same() -> None:
    found = measure([0.9] * 40, [0.1] * 400)
    assert found.eer.value == 0.0
    # 40 mated comparisons show no rate below 3 / 40.
    assert found.eer.low == 0.0
    assert found.eer.high == pytest.approx(3 / 40)
    assert [row.asked_fmr for row in found.rates] == [1e-1, 1e-2]
    for row in found.rates:
        assert 0.1 < row.threshold <= 0.9
        assert (row.fmr.errors, row.fmr.high) == (0, 3 / 400)
        assert (row.fnmr.errors, row.fnmr.high) == (0, 3 / 40)
    assert found.unsupported == REPORTED_FMRS[2:]
    assert (found.det.fmr, found.det.fnmr) == ((1.0,), (0.0,))


def test_all_scores_tied() -> None:
    found = measure([0.5] * 8, [0.5] * 40)
    assert (found.eer.value, found.d_prime) == (0.5, 0.0)
    (row,) = found.rates
    assert row.threshold == math.nextafter(0.5, 1.0)
    assert (row.fmr.errors, row.fnmr.errors) == (0, 8)
    assert (row.fnmr.low, row.fnmr.high) == (1 - 3 / 8, 1.0)
    assert (found.det.thresholds, found.det.fmr, found.det.fnmr) == ((0.5,), (1.0,), (0.0,))
    assert sum(found.histogram.mated) == 8
    assert sum(found.histogram.non_mated) == 40


def test_too_few_comparisons_support_no_rate() -> None:
    found = measure([0.9], [0.1] * 29)
    assert (found.rates, found.unsupported) == ((), REPORTED_FMRS)
    assert [supported(0.1, n) for n in (29, 30)] == [False, True]
    # 3 / 1e-6 is not quite three million.
    assert [supported(1e-6, n) for n in (2_999_999, 3_000_000)] == [False, True]


def test_the_histogram_counts_every_score() -> None:
    people = made(8, 4)
    scored = score_comparisons(people.data(), people.embedded())
    found = measure_attack("random_forgery", scored.mated, scored.random, people.labels)
    edges = found.histogram.edges
    assert len(edges) == len(found.histogram.mated) + 1 == len(found.histogram.non_mated) + 1
    for counts, kind in (
        (found.histogram.mated, scored.mated),
        (found.histogram.non_mated, scored.random),
    ):
        last = len(counts) - 1
        for n, count in enumerate(counts):
            inside = [
                edges[n] <= s < edges[n + 1] or (n == last and s == edges[-1])
                for s in kind.scores.tolist()
            ]
            assert count == sum(inside)


def test_a_rate_without_subjects_takes_comparisons_for_independent() -> None:
    events = np.array([True] * 3 + [False] * 17)
    wilson = binomtest(3, 20).proportion_ci(method="wilson")
    found = rate_of(events, None)
    assert (found.value, found.errors, found.trials) == (0.15, 3, 20)
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high))
    none, every = (rate_of(np.full(20, happened), None) for happened in (False, True))
    assert (none.low, none.high) == (0.0, 3 / 20)
    assert (every.low, every.high) == (1 - 3 / 20, 1.0)
    # All of them in one subject's comparisons: that subject is drawn, or not.
    owner = np.repeat([0, 1, 2, 3], [3, 6, 6, 5])
    clustered = rate_of(events, SubjectBootstrap(owner, owner))
    assert clustered.low == 0.0
    assert clustered.high > found.high
