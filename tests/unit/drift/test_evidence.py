"""The sequential test: its bets, its bound on false alarms, and that evidence can be joined."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.drift_scores import calibrated_spec, drawn
from tests.helpers.model_specs import POINTS, plain_spec
from verifykit.drift.evidence import (
    BET_COUNT,
    FALSE_ALARM_PROBES,
    Bets,
    Evidence,
    Levels,
    raised_tail,
    rate_now,
    shifted,
    spread,
)
from verifykit.errors import CalibrationError
from verifykit.spec import OperatingPoint

LEVELS = Levels.of(calibrated_spec(), 1e-4)
SIZE = len(LEVELS.rates)
subjects = st.sampled_from([60, 100, 500, 10_000, math.inf])
shares = st.lists(st.floats(0, 1), min_size=SIZE, max_size=SIZE)


def _bets(count: float = math.inf) -> Bets:
    bets = LEVELS.bets(count)
    assert bets is not None
    return bets


def test_the_levels_are_the_calibrations_rates_down_to_one_in_a_hundred_thousand() -> None:
    assert LEVELS.rates[:3] == (0.5, 0.1, 0.05)
    assert LEVELS.rates[-1] == pytest.approx(1e-5)
    assert list(LEVELS.rates) == sorted(LEVELS.rates, reverse=True)
    assert LEVELS.stated == 1e-4
    tolerated = dict(zip(LEVELS.rates, LEVELS.tolerated, strict=True))
    assert tolerated[1e-4] == pytest.approx(1.5e-4)
    assert 0.5 < tolerated[0.5] < 0.55


def test_the_end_of_a_wide_interval_is_tolerated() -> None:
    wide = replace(OperatingPoint(1e-2, 0.2, 3_000_000, 30_000), fmr_interval=(1e-3, 4e-2))
    levels = Levels.of(plain_spec(operating_points=(wide, *POINTS[1:])), 1e-4)
    assert levels.rates == (1e-2, 1e-4)  # no median was measured, and 1e-6 is too rare
    assert levels.tolerated[0] == 4e-2


def test_a_calibration_without_random_forgeries_cannot_be_watched() -> None:
    skilled = OperatingPoint(1e-2, 0.2, 3_000_000, 30_000, "skilled_forgery")
    with pytest.raises(CalibrationError, match="not calibrated for random forgeries"):
        Levels.of(plain_spec(operating_points=(skilled,)), 1e-2)


@given(subjects, shares)
def test_a_bet_wins_nothing_on_average_while_no_more_reach_a_level_than_is_tolerated(
    count: float, factors: list[float]
) -> None:
    bets = _bets(count)
    assert bets.slopes.shape == (BET_COUNT, SIZE)
    assert (bets.slopes >= 0).all()
    # A bet is linear in the shares, so its mean is its value at their means.
    assert bets.values(bets.expected) == pytest.approx(1.0)
    fewer = np.minimum.accumulate(bets.expected * np.array(factors))
    assert (bets.values(fewer) <= 1 + 1e-9).all()


@given(subjects, shares)
def test_a_bet_cannot_lose_everything(count: float, drawn_shares: list[float]) -> None:
    possible = np.sort(drawn_shares)[::-1]
    assert (_bets(count).values(possible) >= 0.19).all()
    assert (_bets(count).values(np.zeros(SIZE)) >= 0.19).all()


@pytest.mark.parametrize("shape", [shifted, spread, raised_tail])
def test_the_changes_multiply_the_stated_rate(shape: object) -> None:
    tails = shape(LEVELS.rates, 1e-4, 3.0)  # type: ignore[operator]
    found = dict(zip(LEVELS.rates, tails.tolist(), strict=True))
    assert found[1e-4] == pytest.approx(3e-4)
    assert (np.diff(tails) <= 0).all()
    assert (tails >= np.array(LEVELS.rates) - 1e-12).all()


def _evidence(scores: np.ndarray, bets: Bets) -> Evidence:  # type: ignore[type-arg]
    found = Evidence.none(LEVELS)
    limits = LEVELS.thresholds(calibrated_spec(), 1)
    for row in scores:
        counts = (row[:, None] >= limits).sum(axis=0)
        found = found.then(Evidence.of_probe(bets, len(row), counts))
    return found


def test_the_evidence_is_that_of_the_recurrence() -> None:
    scores, bets = drawn(LEVELS, 3.0, 200, 5), _bets(500)
    limits = LEVELS.thresholds(calibrated_spec(), 1)
    sums = np.zeros(BET_COUNT)
    for row in scores:
        share = (row[:, None] >= limits).mean(axis=0)
        values = [1 + sum(b * (share - bets.expected)) for b in bets.slopes]
        sums = np.array(values) * (sums + 1)
    found = _evidence(scores, bets)
    assert math.exp(found.log_evidence) == pytest.approx(float(sums.mean()))
    assert (found.probes, found.scores) == (200, 1000)
    assert found.counts.tolist() == [(scores >= limit).sum() for limit in limits]


@given(st.lists(st.integers(0, 30), max_size=6), st.integers(0, 2**16))
def test_blocks_of_probes_can_be_joined_in_any_grouping(cuts: list[int], seed: int) -> None:
    scores, bets = drawn(LEVELS, 2.0, 30, 4, seed), _bets()
    whole, joined = _evidence(scores, bets), Evidence.none(LEVELS)
    edges = [0, *sorted(cuts), 30]
    blocks = [_evidence(scores[a:b], bets) for a, b in pairwise(edges)]
    last = blocks[-1]
    for block in blocks[-2::-1]:  # from the right, where probes come from the left
        last = block.then(last)
    for block in blocks:
        joined = joined.then(block)
    for found in (joined, last):
        assert found.log_evidence == pytest.approx(whole.log_evidence)
        assert found.counts.tolist() == whole.counts.tolist()
        assert (found.probes, found.scores) == (whole.probes, whole.scores)


def _alarm(ratio: float, probes: int, scores: int, seed: int) -> int:
    """Return the number of probes at the alarm, 0 for none."""
    bets, limits = _bets(10_000), LEVELS.thresholds(calibrated_spec(), 1)
    logs, limit = np.full(BET_COUNT, -np.inf), math.log(FALSE_ALARM_PROBES * BET_COUNT)
    for n, row in enumerate(drawn(LEVELS, ratio, probes, scores, seed), start=1):
        share = (row[:, None] >= limits).mean(axis=0)
        logs = np.log(bets.values(share)) + np.logaddexp(logs, 0.0)
        if np.logaddexp.reduce(logs) >= limit:
            return n
    return 0


def test_a_tripled_rate_is_found_within_2000_scores() -> None:
    found = [_alarm(3.0, 2000, 1, seed) for seed in range(20)]
    assert all(found)
    assert all(0 < _alarm(3.0, 2000, 128, seed) < 400 for seed in range(5))


def test_a_rate_as_calibrated_or_as_tolerated_is_not_found() -> None:
    for ratio in (1.0, 1.5):
        assert not any(_alarm(ratio, 5000, 8, seed) for seed in range(10))


def test_few_subjects_say_nothing_about_a_population() -> None:
    least = LEVELS.least_subjects
    assert 30 < least < 80
    assert LEVELS.bets(least - 1) is None
    assert LEVELS.bets(0) is None
    used = [LEVELS.used(count) for count in (least, 100, 200, 1000, 10_000, math.inf)]
    assert used == sorted(used)
    assert (used[0], used[-1]) == (1, SIZE)
    assert (_bets(least).slopes[:, 1:] == 0).all()


def test_the_estimate_moves_the_lowest_level_that_enough_scores_reached() -> None:
    tails = shifted(LEVELS.rates, 1e-4, 3.0)
    many = rate_now(LEVELS, 1e6, (1e6 * tails).tolist())
    assert many == pytest.approx(3e-4, rel=1e-3)
    few = rate_now(LEVELS, 1e3, np.floor(1e3 * tails).tolist())
    assert few == pytest.approx(3e-4, rel=0.3)
    assert rate_now(LEVELS, 20, [10.0] * SIZE) is None
    assert rate_now(LEVELS, 0, [0.0] * SIZE) is None


def test_the_recent_counts_forget() -> None:
    bets = _bets()
    early, late = (
        Evidence.of_probe(bets, 1, np.array([n] + [0] * (SIZE - 1), np.int64)) for n in (1, 0)
    )
    found = Evidence.none(LEVELS)
    for block in (early, late):
        for _ in range(8000):
            found = found.then(block)
    assert found.counts[0] == 8000
    assert 2000 <= found.recent[0] < 4000
    assert found.recent[2] / found.recent[1] < 0.1
