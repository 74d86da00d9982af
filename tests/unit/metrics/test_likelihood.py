"""Log-likelihood ratios against scikit-learn and against the truth that the scores were drawn from."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from sklearn.linear_model import LogisticRegression

from verifykit.errors import InputError
from verifykit.metrics import LogisticFit, cllr, fit_log_likelihood_ratio

LLRS = st.lists(st.integers(-20, 20).map(lambda value: value / 4), min_size=1, max_size=30)
TIED = st.lists(st.integers(-4, 4).map(lambda value: value / 4), min_size=1, max_size=30)


def normal_scores(mated: int, non_mated: int) -> tuple[ArrayLike, ArrayLike]:
    rng = np.random.default_rng(5)
    return rng.normal(0.6, 0.2, mated), rng.normal(0.1, 0.2, non_mated)


def smoothed(mated: ArrayLike, non_mated: ArrayLike) -> LogisticRegression:
    """Platt's targets as scikit-learn can say them: each score once in both classes, by weight."""
    m, n = np.asarray(mated), np.asarray(non_mated)
    high, low = (m.size + 1) / (m.size + 2), 1 / (n.size + 2)
    scores = np.concatenate([m, m, n, n])
    labels = np.repeat([1, 0, 1, 0], [m.size, m.size, n.size, n.size])
    weights = np.repeat(
        [high / m.size, (1 - high) / m.size, low / n.size, (1 - low) / n.size],
        [m.size, m.size, n.size, n.size],
    )
    model = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000, solver="newton-cholesky")
    return model.fit(scores[:, None], labels, sample_weight=weights)


@given(LLRS, LLRS)
def test_cllr_is_the_loop(mated: list[float], non_mated: list[float]) -> None:
    missed = math.fsum(math.log2(1 + math.exp(-llr)) for llr in mated) / len(mated)
    false = math.fsum(math.log2(1 + math.exp(llr)) for llr in non_mated) / len(non_mated)
    assert cllr(mated, non_mated) == pytest.approx((missed + false) / 2, rel=1e-12)


def test_cllr_of_nothing_everything_and_the_opposite() -> None:
    assert cllr([0.0, 0.0], [0.0]) == 1.0
    assert cllr([800.0], [-800.0]) == 0.0
    # Linear for large ratios that mislead, where exp would overflow.
    assert cllr([-1000.0], [1000.0]) == pytest.approx(1000 / math.log(2))


def test_the_truth_is_found_and_costs_least() -> None:
    mated, non_mated = normal_scores(60_000, 90_000)
    fit = fit_log_likelihood_ratio(mated, non_mated)
    # Two normal distributions of one variance: (m - n) / var, and zero half way between.
    assert fit.slope == pytest.approx(0.5 / 0.04, rel=0.02)
    assert -fit.intercept / fit.slope == pytest.approx(0.35, abs=0.005)

    def cost(slope: float, intercept: float) -> float:
        return cllr(
            slope * np.asarray(mated) + intercept, slope * np.asarray(non_mated) + intercept
        )

    least = cost(fit.slope, fit.intercept)
    for factor, shift in ((0.9, 0.0), (1.1, 0.0), (1.0, 0.1), (1.0, -0.1)):
        assert cost(fit.slope * factor, fit.intercept + shift) > least


def test_a_large_sample_is_fitted_as_scikit_learn_does() -> None:
    mated, non_mated = normal_scores(20_000, 60_000)
    labels = np.repeat([1, 0], [20_000, 60_000])
    model = LogisticRegression(C=1e12, class_weight="balanced", tol=1e-8)
    model.fit(np.concatenate([mated, non_mated])[:, None], labels)
    fit = fit_log_likelihood_ratio(mated, non_mated)
    # Platt's targets move both by about one score in the sample.
    assert fit.slope == pytest.approx(model.coef_[0, 0], rel=2e-3)
    assert fit.intercept == pytest.approx(model.intercept_[0], rel=2e-3)


@pytest.mark.parametrize("shift", [0.0, 1e3])
@pytest.mark.parametrize(("mated", "non_mated"), [(1, 1), (5, 400), (70_000, 300)])
def test_the_targets_are_platts(mated: int, non_mated: int, shift: float) -> None:
    m, n = normal_scores(mated, non_mated)
    model = smoothed(m, n)
    fit = fit_log_likelihood_ratio(np.add(m, shift), np.add(n, shift))
    assert fit.slope == pytest.approx(model.coef_[0, 0], rel=1e-5)
    assert fit.slope * shift + fit.intercept == pytest.approx(model.intercept_[0], rel=1e-5)


def gradient(
    mated: list[float], non_mated: list[float], slope: float, intercept: float
) -> tuple[float, float]:
    """How the loss changes with slope and intercept, score by score."""
    along = across = 0.0
    high, low = (len(mated) + 1) / (len(mated) + 2), 1 / (len(non_mated) + 2)
    for scores, target in ((mated, high), (non_mated, low)):
        for score in scores:
            excess = 1 / (1 + math.exp(-slope * score - intercept)) - target
            along += excess * score / len(scores)
            across += excess / len(scores)
    return along, across


@given(TIED, TIED)
def test_the_loss_is_level_at_the_fit(mated: list[float], non_mated: list[float]) -> None:
    fit = fit_log_likelihood_ratio(mated, non_mated)
    if fit.slope > 0:
        found = gradient(mated, non_mated, fit.slope, fit.intercept)
        assert found == pytest.approx((0.0, 0.0), abs=1e-9)
    else:
        assert fit == LogisticFit(0.0, 0.0)
        # Convex: where a greater slope costs more at slope 0 and its best intercept, it always does.
        share = ((len(mated) + 1) / (len(mated) + 2) + 1 / (len(non_mated) + 2)) / 2
        level = math.log(share / (1 - share))
        assert gradient(mated, non_mated, 0.0, level)[0] >= -1e-9


def test_steps_that_go_too_far_are_taken_back() -> None:
    # Newton's method by itself runs off to where no score has any curvature left.
    mated, non_mated = [-0.2] * 85 + [17.5] * 4282, [-1.6] * 1562
    fit = fit_log_likelihood_ratio(mated, non_mated)
    assert fit.slope == pytest.approx(5.2, abs=1.0)
    found = gradient(mated, non_mated, fit.slope, fit.intercept)
    assert found == pytest.approx((0.0, 0.0), abs=1e-9)


def test_separable_scores_have_a_finite_fit() -> None:
    fit = fit_log_likelihood_ratio([0.8] * 1000, [0.1] * 1000)
    # Both predictions reach their targets: 1001 to 1, and 1 to 1001.
    assert fit.slope * 0.8 + fit.intercept == pytest.approx(math.log(1001))
    assert fit.slope * 0.1 + fit.intercept == pytest.approx(-math.log(1001))


def test_an_outlier_far_away_does_not_stop_the_fit() -> None:
    mated, non_mated = normal_scores(2_000, 5_000)
    far = np.append(non_mated, -1e7)
    fit, model = fit_log_likelihood_ratio(mated, far), smoothed(mated, far)
    # The far score costs in proportion to the slope; the loss at both is compared, not the slope.
    labels = [(mated, 2001 / 2002), (far, 1 / 5003)]

    def loss(slope: float, intercept: float) -> float:
        return sum(
            float((np.logaddexp(0, z) - target * z).mean())
            for scores, target in labels
            for z in [slope * np.asarray(scores) + intercept]
        )

    assert loss(fit.slope, fit.intercept) <= loss(model.coef_[0, 0], model.intercept_[0]) + 1e-12
    assert fit.slope > 0


@pytest.mark.parametrize(
    ("mated", "non_mated"),
    [([0.1, 0.2], [0.8, 0.9]), ([0.1] * 3, [0.1] * 7), ([0.2, 0.4], [0.2, 0.4])],
)
def test_no_evidence_is_zero(mated: list[float], non_mated: list[float]) -> None:
    assert fit_log_likelihood_ratio(mated, non_mated) == LogisticFit(0.0, 0.0)


@pytest.mark.parametrize("function", [cllr, fit_log_likelihood_ratio])
def test_scores_that_cannot_be_fitted_are_refused(
    function: Callable[[ArrayLike, ArrayLike], object],
) -> None:
    with pytest.raises(InputError, match=r"mated.*: there are no scores"):
        function([], [0.1])
    with pytest.raises(InputError, match=r"non_mated.*: 1 of 2 scores are NaN"):
        function([0.1], [0.1, math.nan])
    with pytest.raises(InputError, match=r"mated.*: 1 of 1 scores are infinite"):
        function([-math.inf], [0.1])


@given(TIED, TIED)
def test_counted_scores_are_those_written_out(mated: list[float], non_mated: list[float]) -> None:
    (mates, often), (others, others_often) = (
        np.unique(each, return_counts=True) for each in (mated, non_mated)
    )
    counts: dict[str, ArrayLike] = {"mated_counts": often, "non_mated_counts": others_often}
    assert cllr(mates, others, **counts) == pytest.approx(cllr(mated, non_mated))
    found = fit_log_likelihood_ratio(mates, others, **counts)
    wanted = fit_log_likelihood_ratio(mated, non_mated)
    assert (found.slope, found.intercept) == pytest.approx(
        (wanted.slope, wanted.intercept), rel=1e-5, abs=1e-6
    )


@pytest.mark.parametrize("counts", [[1.0], [1.0, 0.0], [1.0, math.nan], [1.0, -2.0]])
def test_counts_that_are_none_are_refused(counts: list[float]) -> None:
    for measure in (cllr, fit_log_likelihood_ratio):
        with pytest.raises(InputError, match="mated_counts are 2 finite numbers above 0"):
            measure([0.5, 0.6], [0.1, 0.2], mated_counts=counts)
