"""The bootstrap over subjects against a plain loop over the same draws, and its coverage."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from verifykit.errors import InputError
from verifykit.metrics import SubjectBootstrap, wilson_interval

PAIRS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans()), min_size=1, max_size=40
)


def columns(pairs: list[tuple[int, int, bool]]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    first, second, events = zip(*pairs, strict=True)
    return np.array(first), np.array(second), np.array(events)


def plain_rates(pairs: list[tuple[int, int, bool]], draws: list[list[int]]) -> list[float]:
    """Every comparison visited in every draw; NaN where none is in it."""
    rates = []
    for counts in draws:
        trials = errors = 0
        for one, two, event in pairs:
            weight = counts[one] if one == two else counts[one] * counts[two]
            trials += weight
            errors += weight * event
        rates.append(errors / trials if trials else math.nan)
    return rates


@given(PAIRS, st.integers(6, 9), st.integers(0, 5))
def test_the_rates_are_those_of_a_loop(
    pairs: list[tuple[int, int, bool]], subjects: int, seed: int
) -> None:
    first, second, events = columns(pairs)
    bootstrap = SubjectBootstrap(first, second, subjects=subjects, resamples=20, seed=seed)
    draws = np.random.default_rng(seed).multinomial(subjects, [1 / subjects] * subjects, size=20)
    np.testing.assert_array_equal(bootstrap.rates(events), plain_rates(pairs, draws.tolist()))


@given(PAIRS, st.integers(0, 5))
def test_groups_are_drawn_like_subjects(pairs: list[tuple[int, int, bool]], seed: int) -> None:
    first, second, events = columns(pairs)
    bootstrap = SubjectBootstrap(first, second, subjects=6, resamples=20, seed=seed, groups=4)
    rng = np.random.default_rng(seed)
    group = (rng.permutation(6) % 4).tolist()
    draws = rng.multinomial(4, [1 / 4] * 4, size=20).tolist()
    grouped = [(group[one], group[two], event) for one, two, event in pairs]
    np.testing.assert_array_equal(bootstrap.rates(events), plain_rates(grouped, draws))


def test_labels_may_be_any_when_no_number_of_subjects_is_given() -> None:
    first, second = np.array([0, 1, 2, 2]), np.array([1, 2, 0, 2])
    events = [True, False, False, True]
    names = np.array([-7, 40, 10**12])
    np.testing.assert_array_equal(
        SubjectBootstrap(names[first], names[second], seed=4).rates(events),
        SubjectBootstrap(first, second, subjects=3, seed=4).rates(events),
    )


def test_one_seed_draws_the_same_subjects_for_both_rates() -> None:
    """With every mated comparison of subject 0 an error, and every non-mated one with it."""
    subjects = 5
    mated = np.arange(subjects)
    first, second = np.array(list(combinations(range(subjects), 2))).T
    fnmr = SubjectBootstrap(mated, mated, subjects=subjects, seed=9).rates(mated == 0)
    fmr = SubjectBootstrap(first, second, subjects=subjects, seed=9).rates(first == 0)
    times = np.rint(fnmr * subjects)
    assert set(times) >= {0, 1, 2, 3}
    # Who is not drawn is in no comparison, and who is drawn is in one with whoever else is.
    known = ~np.isnan(fmr)
    np.testing.assert_array_equal(fmr[known] > 0, times[known] > 0)
    assert 0 < (~known).sum() < 30  # one subject, drawn five times


def test_the_interval_is_the_percentiles_of_the_rates() -> None:
    rng = np.random.default_rng(1)
    subject, events = np.repeat(np.arange(30), 4), rng.random(120) < 0.2
    bootstrap = SubjectBootstrap(subject, subject, resamples=500)
    rates = np.sort(bootstrap.rates(events))
    assert bootstrap.interval(events, 0.9) == pytest.approx(
        (np.interp(0.05 * 499, range(500), rates), np.interp(0.95 * 499, range(500), rates))
    )
    assert bootstrap.interval(events) == pytest.approx(
        (np.interp(0.025 * 499, range(500), rates), np.interp(0.975 * 499, range(500), rates))
    )


def test_subjects_cover_where_comparisons_do_not() -> None:
    """Subjects differ in how often they fail, so that their comparisons come in clusters."""
    rng = np.random.default_rng(2)
    subject = np.repeat(np.arange(60), 20)
    truth, over_subjects, over_comparisons = 0.2, 0, 0
    for _ in range(200):
        proneness = rng.beta(0.5, 2.0, 60)  # mean 0.2
        events = rng.random(subject.size) < proneness[subject]
        low, high = SubjectBootstrap(subject, subject, subjects=60, resamples=200).interval(events)
        over_subjects += low <= truth <= high
        low, high = wilson_interval(int(events.sum()), events.size)
        over_comparisons += low <= truth <= high
    assert over_subjects >= 0.88 * 200
    assert over_comparisons <= 0.75 * 200


def test_draws_without_a_comparison_are_left_out_of_the_interval() -> None:
    # A draw of two subjects holds the only comparison half of the time.
    bootstrap = SubjectBootstrap([0], [1], subjects=2, resamples=400)
    assert 150 < np.isnan(bootstrap.rates([True])).sum() < 250
    assert bootstrap.interval([True]) == (1.0, 1.0)


def test_no_draw_with_a_comparison_is_an_error() -> None:
    seed = next(
        s for s in range(50) if 0 in np.random.default_rng(s).multinomial(2, [0.5, 0.5], size=1)
    )
    with pytest.raises(InputError, match="none of 1 draws holds a comparison"):
        SubjectBootstrap([0], [1], subjects=2, resamples=1, seed=seed).interval([True])


@pytest.mark.parametrize(
    ("first", "second", "options", "what"),
    [
        ([], [], {}, r"at least one comparison, got \(0,\) and \(0,\)"),
        ([0, 1], [0], {}, r"got \(2,\) and \(1,\)"),
        ([[0]], [[0]], {}, r"got \(1, 1\) and \(1, 1\)"),
        ([0.5], [1.0], {}, "labels are integers, got float64"),
        ([0], [3], {"subjects": 3}, "0 to 2 with subjects=3, got 0 to 3"),
        ([-1], [2], {"subjects": 3}, "got -1 to 2"),
        ([0], [0], {"subjects": 0}, "subjects must be an integer of at least 1, got 0"),
        ([0], [0], {"resamples": 0}, "resamples must be an integer of at least 1, got 0"),
        ([0], [0], {"seed": -1}, "seed must be an integer of at least 0, got -1"),
        ([0], [0], {"groups": 1}, "groups must be an integer of at least 2, got 1"),
    ],
)
def test_comparisons_that_are_none_are_refused(
    first: Any, second: Any, options: dict[str, int], what: str
) -> None:
    with pytest.raises(InputError, match=what):
        SubjectBootstrap(first, second, **options)


@pytest.mark.parametrize("events", [[True], [0, 1], [[True, False]]])
def test_events_are_one_bool_a_comparison(events: Any) -> None:
    with pytest.raises(InputError, match="one bool for each of the 2 comparisons, got"):
        SubjectBootstrap([0, 1], [0, 1]).rates(events)
