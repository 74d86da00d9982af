"""Operating points and evidence against plain loops over the scores."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from tests.unit.evaluation.people import People, made, pairs_of
from verifykit.evaluation.calibrate import (
    FMRS,
    Measured,
    measured_points,
    points_of,
)
from verifykit.evaluation.reference_scores import DRAWS, Pool, ReferenceScores, draw_scores
from verifykit.spec import Attack, Fusion, OperatingPoint, ScoreScale

ATTACKS: tuple[Attack, ...] = ("random_forgery", "skilled_forgery")


def measured(people: People, fusion: Fusion = "mean", **options: object) -> Measured:
    return measured_points(people.rows, people.subjects, people.forged, fusion, **options)  # type: ignore[arg-type]


def of(found: Measured, attack: Attack) -> list[OperatingPoint]:
    return [point for point in found.points if point.attack == attack]


def pool(scores: list[float], subjects: int) -> Pool:
    """Scores between neighbouring subjects, round and round."""
    labels = np.arange(len(scores)) % subjects
    return Pool(np.array(scores, np.float32), labels, (labels + 1) % subjects)


def single(mated: list[float], non_mated: list[float], skilled: list[float]) -> ReferenceScores:
    pools = (pool(mated, 7), pool(non_mated, 7), pool(skilled, 7))
    return ReferenceScores(1, 7, 1, *pools)


def test_rates_are_1_2_and_5_of_each_decade() -> None:
    decades = [1e-1, 5e-2, 2e-2, 1e-2, 5e-3, 2e-3, 1e-3]
    for attack in ATTACKS:
        assert list(FMRS[attack][:7]) == decades
        assert FMRS[attack][-1] == 1e-7
        assert all(high > low for high, low in pairwise(FMRS[attack]))


def test_points_of_a_single_reference_are_those_of_all_pairs() -> None:
    people = made(8, 4, forgeries=2)
    found = measured(people, counts=(1,))
    assert [(point.attack, point.fmr) for point in found.points] == [
        ("random_forgery", 1e-1),
        ("random_forgery", 5e-2),
        ("random_forgery", 2e-2),
        ("random_forgery", 1e-2),
        ("skilled_forgery", 1e-1),
        ("skilled_forgery", 5e-2),
    ]
    table = list(pairs_of(people))
    mated = [score for kind, _, _, score in table if kind == "mated"]
    for point in found.points:
        kind = point.attack.partition("_")[0]
        others = [score for each, _, _, score in table if each == kind]
        assert point.reference_count == 1
        assert point.non_mated_count == len(others)
        assert point.false_match_count == sum(score >= point.threshold for score in others)
        assert point.false_match_count == int(point.fmr * len(others))
        # The smallest such threshold: one step of float64 lower, and one more matches.
        lower = math.nextafter(point.threshold, -1.0)
        assert sum(score >= lower for score in others) == point.false_match_count + 1
        assert point.fnmr == sum(score < point.threshold for score in mated) / len(mated)


@pytest.mark.parametrize("fusion", ["mean", "max"])
@pytest.mark.parametrize("count", [2, 3])
def test_points_of_several_references_are_those_of_all_draws(fusion: Fusion, count: int) -> None:
    people = made(9, 5, forgeries=7)
    some = draw_scores(people.rows, people.subjects, people.forged, fusion, count)
    found = measured(people, fusion, counts=(count,))
    assert found == points_of(some)
    for attack, others, comparisons in (
        ("random_forgery", some.non_mated, 360),
        ("skilled_forgery", some.skilled, 63),
    ):
        scores = others.scores.astype(np.float64)
        # 9 writers: 360 strangers' images at them, 63 forgeries; every draw's are twenty times that.
        assert len(scores) == DRAWS * comparisons
        points = of(found, attack)  # type: ignore[arg-type]
        assert [point.fmr for point in points] == [
            fmr
            for fmr in FMRS["random_forgery"]
            if comparisons >= 3 / fmr and np.mean(scores == 1.0) <= fmr
        ]
        for point in points:
            assert point.reference_count == count
            assert point.non_mated_count == comparisons
            share = np.mean(scores >= point.threshold)
            # Draws that repeat give equal scores, which match together.
            assert point.fmr - 2 * DRAWS / len(scores) < share <= point.fmr + 1e-12
            assert point.false_match_count == math.floor(share * comparisons + 1e-9)
            assert point.false_match_count <= point.fmr * point.non_mated_count
            assert point.fnmr == np.mean(some.mated.scores.astype(np.float64) < point.threshold)


def test_points_run_by_references_attack_and_falling_rate() -> None:
    found = measured(made(12, 6, forgeries=3))
    order = [(p.reference_count, p.attack, -p.fmr) for p in found.points]
    assert order == sorted(order)
    assert {(p.reference_count, p.attack) for p in found.points} == {
        (count, attack) for count in range(1, 6) for attack in ATTACKS
    }
    assert [(e.reference_count, e.attack) for e in found.evidence] == [
        (count, attack) for count in range(1, 6) for attack in ATTACKS
    ]
    for one, other in pairwise(found.points):
        if (one.reference_count, one.attack) == (other.reference_count, other.attack):
            assert one.threshold <= other.threshold
            assert one.fnmr <= other.fnmr  # type: ignore[operator]


def test_nobody_is_measured_with_more_references_than_there_are_images_for() -> None:
    assert {point.reference_count for point in measured(made(6, 4)).points} == {1, 2, 3}


@pytest.mark.parametrize(("able", "counts"), [(4, {1, 2}), (5, {1, 2, 3})])
def test_a_few_subjects_say_nothing_of_several_references(able: int, counts: set[int]) -> None:
    people = made(8, 4)
    # The others have no fourth image, and with three references none of them is enrolled.
    kept: list[int] = []
    for i, subject in enumerate(people.subjects):
        seen = sum(people.subjects[j] == subject for j in kept)
        kept += [i] if int(subject[1:]) < able or seen < 3 else []
    assert {point.reference_count for point in measured(people.only(kept)).points} == counts


def test_too_few_pairs_give_no_point() -> None:
    assert measured(made(2, 3)) == Measured((), ())


def test_under_mean_a_threshold_falls_with_the_references() -> None:
    """Why a point of fewer references is the strict one."""
    found = measured(made(12, 12, forgeries=12), counts=(1, 3, 5, 10))
    for fmr in (1e-1, 5e-2):
        for attack in ATTACKS:
            thresholds = [point.threshold for point in of(found, attack) if point.fmr == fmr]
            assert len(thresholds) == 4
            assert thresholds == sorted(thresholds, reverse=True)


@pytest.mark.parametrize(
    ("ends", "fmrs"), [(4, [0.1, 0.05, 0.02]), (10, [0.1, 0.05]), (11, [0.1]), (21, [])]
)
def test_scores_at_the_end_of_the_scale_are_parted_by_no_threshold(
    ends: int, fmrs: list[float]
) -> None:
    others = [1.0] * ends + [0.0] * (200 - ends)
    points = of(points_of(single([0.5] * 9, others, [])), "random_forgery")
    assert [point.fmr for point in points] == fmrs
    assert {point.threshold for point in points} <= {math.nextafter(0.0, 1.0)}
    assert {point.false_match_count for point in points} <= {ends}


def test_without_mated_scores_there_is_a_threshold_and_no_evidence() -> None:
    found = points_of(single([], [n / 100 for n in range(100)], []))
    assert [point.fmr for point in found.points] == [0.1, 0.05]
    assert {(point.fnmr, point.fnmr_interval) for point in found.points} == {(None, None)}
    assert found.evidence == ()


def test_intervals_hold_the_rates_and_are_no_narrower_than_independent_comparisons() -> None:
    people = made(9, 5, forgeries=7)
    for point in measured(people, counts=(1, 3)).points:
        n, k = point.non_mated_count, point.false_match_count
        assert point.fmr_interval is not None
        assert point.fmr_interval[0] <= k / n <= point.fmr_interval[1]
        wilson = binomtest(k, n).proportion_ci(0.95, method="wilson")
        if k:
            assert point.fmr_interval[0] <= wilson.low + 1e-12
            assert point.fmr_interval[1] >= wilson.high - 1e-12
        else:
            assert point.fmr_interval == (0.0, 3 / n)
        # 9 writers' 10 pairs, or the 2 images that are no references of a draw.
        mated = {1: 9 * 10, 3: 9 * 2}[point.reference_count]
        assert point.fnmr is not None
        assert point.fnmr_interval is not None
        assert point.fnmr_interval[0] <= point.fnmr <= point.fnmr_interval[1]
        missed = math.floor(point.fnmr * mated + 1e-9)
        assert missed
        wilson = binomtest(missed, mated).proportion_ci(0.95, method="wilson")
        assert point.fnmr_interval[0] <= wilson.low + 1e-12
        assert point.fnmr_interval[1] >= wilson.high - 1e-12


def test_repeated_draws_make_no_bound_tighter() -> None:
    people = made(6, 6, spread=0.05)
    for point in measured(people, counts=(4,), fmrs={"random_forgery": (0.1,)}).points:
        assert point.fnmr == 0.0
        # 6 people with 2 images that are no references, in each of 20 draws.
        assert point.fnmr_interval == (0.0, pytest.approx(3 / 12))


def test_intervals_are_those_of_drawing_subjects_again() -> None:
    people = made(9, 5)
    table = list(pairs_of(people))
    owner, random = people.labels, np.random.default_rng(1)
    for point in measured(people, counts=(1,)).points:
        draws = []
        for _ in range(300):
            times = np.bincount(random.integers(0, 9, 9), minlength=9)
            mated = [(times[owner[i]], s) for kind, i, _, s in table if kind == "mated"]
            missed = sum(weight for weight, score in mated if score < point.threshold)
            draws.append(missed / sum(weight for weight, _ in mated))
        assert point.fnmr_interval == pytest.approx(
            tuple(np.percentile(draws, (2.5, 97.5))), abs=0.06
        )


def test_the_cost_of_the_evidence_is_that_of_its_ratios() -> None:
    people = made(9, 5, forgeries=7)
    for count in (1, 3):
        some = draw_scores(people.rows, people.subjects, people.forged, "spread", count)
        found = measured(people, "spread", counts=(count,))
        for evidence, attack in zip(found.evidence, ATTACKS, strict=True):
            others = some.non_mated if attack == "random_forgery" else some.skilled
            assert (evidence.attack, evidence.reference_count) == (attack, count)
            assert evidence.mated_count == some.mated.scores.size // some.draws
            assert evidence.non_mated_count == of(found, attack)[0].non_mated_count
            bits = 0.0
            for scores, sign in ((some.mated.scores, -1.0), (others.scores, 1.0)):
                llrs = [sign * evidence.llr(float(score)) for score in scores]
                bits += sum(math.log2(1.0 + math.exp(llr)) for llr in llrs) / len(llrs) / 2.0
            assert evidence.cllr == pytest.approx(bits, rel=1e-9)
            assert 0.0 < evidence.cllr < 1.0
            assert evidence.slope > 0.0
            assert evidence.non_mated_median == np.median(others.scores)


def test_wide_apart_scores_claim_no_more_than_their_counts() -> None:
    found = points_of(single([1.0] * 50, [-1.0 + n / 1000 for n in range(100)], []))
    (evidence,) = found.evidence
    assert evidence.llr(1.0) <= math.log(101)
    assert evidence.llr(-1.0) >= -math.log(51)
    least = (math.log2(1 + 1 / 101) + math.log2(1 + 1 / 51)) / 2
    assert least * (1 - 1e-9) <= evidence.cllr < 0.1


SCORES = st.integers(-16, 16).map(lambda n: n / 16) | st.floats(-1.0, 1.0, width=32)


@given(
    st.lists(SCORES, max_size=5),
    st.lists(SCORES, min_size=30, max_size=80),
    st.lists(SCORES, max_size=60),
    st.lists(st.floats(-1.0, 1.0), max_size=5),
)
def test_a_match_at_a_point_and_a_rate_within_its_limit_are_the_same(
    mated: list[float], non_mated: list[float], skilled: list[float], more: list[float]
) -> None:
    found = points_of(single(mated, non_mated, skilled))
    for attack, others in (("random_forgery", non_mated), ("skilled_forgery", skilled)):
        points = of(found, attack)  # type: ignore[arg-type]
        evidence = next((each for each in found.evidence if each.attack == attack), None)
        scale = ScoreScale(tuple(points), evidence)
        near = [math.nextafter(point.threshold, to) for point in points for to in (-2.0, 2.0)] + [
            point.threshold for point in points
        ]
        tried = [score for score in (*mated, *non_mated, *skilled, *more, *near) if abs(score) <= 1]
        for point in points:
            matches = sum(score >= point.threshold for score in others)
            assert matches == point.false_match_count <= point.fmr * len(others) + 1e-9
            for score in tried:
                rate = scale.fmr(score)
                assert rate is not None
                assert (score >= point.threshold) == (rate <= point.fmr)
