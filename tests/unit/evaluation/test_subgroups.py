"""Rates of parts of the data against counting them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.evaluation.people import People, made, pairs_of
from verifykit.datasets import Dataset, ListedPair
from verifykit.evaluation.pairs import score_comparisons
from verifykit.evaluation.results import Rate, RateAtFmr, Subgroup
from verifykit.evaluation.subgroups import measure_subgroups
from verifykit.metrics import rule_of_three

ANYTHING = Rate(0.0, 0.0, 1.0, 0, 1)
PEOPLE = made(9, 4, forgeries=1)
# A threshold that is a score, of a pair that has a group in common: it matches.
THRESHOLD = next(
    score
    for kind, i, j, score in pairs_of(PEOPLE)
    if (kind, {PEOPLE.subjects[i], PEOPLE.subjects[j]}) == ("random", {"s01", "s07"})
    and score > 0.2
)
AT = RateAtFmr(1e-2, THRESHOLD, ANYTHING, ANYTHING)


def _found(
    people: People, data: Dataset, lost: dict[int, str] | None = None
) -> tuple[tuple[Subgroup, ...], tuple[str, ...]]:
    scored = score_comparisons(data, people.embedded(lost))
    return measure_subgroups(data, scored, people.labels, AT)


def _counts(group: Subgroup) -> list[tuple[int, int] | None]:
    return [
        None if rate is None else (rate.errors, rate.trials) for rate in (group.fnmr, group.fmr)
    ]


def test_both_images_of_a_comparison_have_the_value() -> None:
    sides = ["left", "right", ""]
    groups = [
        {"country": f"c{int(subject[1:]) % 3}", "side": sides[n % 3]}
        for n, subject in enumerate(PEOPLE.subjects)
    ]
    people = replace(PEOPLE, groups=groups)
    found, notes = _found(people, people.data(), {3: "blank"})
    assert notes == ()
    assert [(group.column, group.value) for group in found] == [
        *(("country", f"c{n}") for n in range(3)),
        ("side", "left"),
        ("side", "right"),
    ]
    for group in found:
        assert (group.asked_fmr, group.threshold) == (AT.asked_fmr, AT.threshold)
        mine = [
            (kind, score)
            for kind, i, j, score in pairs_of(people)
            if groups[i][group.column] == groups[j][group.column] == group.value and 3 not in (i, j)
        ]
        mated = [score < AT.threshold for kind, score in mine if kind == "mated"]
        others = [score >= AT.threshold for kind, score in mine if kind == "random"]
        assert (group.mated_count, group.non_mated_count) == (len(mated), len(others))
        assert _counts(group) == [(sum(mated), len(mated)), (sum(others), len(others))]
        for rate in (group.fmr, group.fnmr):
            assert rate is not None
            assert rate.low <= rate.value <= rate.high
    assert sum(group.fnmr.errors for group in found if group.fnmr) > 0
    assert sum(group.fmr.errors for group in found if group.fmr) > 0


def test_listed_pairs_are_grouped_by_their_own_values() -> None:
    table = list(pairs_of(PEOPLE))
    light = ["day", "night", "", "night"]
    pairs = [
        ListedPair(
            i, j, kind == "mated", groups={"light": light[n % 4]}, is_skilled=kind == "skilled"
        )
        for n, (kind, i, j, _) in enumerate(table)
    ]
    # The same pair once more, with another value: the first row counts.
    pairs.append(replace(pairs[0], groups={"light": "night"}))
    found, notes = _found(PEOPLE, PEOPLE.data(pairs))
    assert notes == ()
    assert [group.value for group in found] == ["day", "night"]
    for group in found:
        mine = [(*row, light[n % 4]) for n, row in enumerate(table)]
        mine.append((*table[0], light[0]))
        scores = {
            name: [
                score for kind, _, _, score, value in mine if (kind, value) == (name, group.value)
            ]
            for name in ("mated", "random")
        }
        missed = sum(score < AT.threshold for score in scores["mated"])
        false = sum(score >= AT.threshold for score in scores["random"])
        assert _counts(group) == [
            (missed, len(scores["mated"])),
            (false, len(scores["random"])),
        ]


def test_a_group_may_have_comparisons_of_one_kind_only() -> None:
    groups = [{"who": "s00" if subject == "s00" else ""} for subject in PEOPLE.subjects]
    first = {PEOPLE.subjects.index(subject) for subject in set(PEOPLE.subjects)}
    for n in first:
        groups[n] = {"who": "one each"}
    people = replace(PEOPLE, groups=groups)
    found, _ = _found(people, people.data())
    by_value = {group.value: group for group in found}
    assert (by_value["s00"].fmr, by_value["s00"].non_mated_count) == (None, 0)
    assert (by_value["one each"].fnmr, by_value["one each"].mated_count) == (None, 0)


def test_a_group_without_an_error_has_a_bound_all_the_same() -> None:
    people = replace(PEOPLE, groups=[{"all": "yes"}] * len(PEOPLE.rows))
    data = people.data()
    scored = score_comparisons(data, people.embedded())
    (group,), _ = measure_subgroups(data, scored, people.labels, replace(AT, threshold=1.0))
    assert group.fmr is not None
    assert (group.fmr.errors, group.fmr.low) == (0, 0.0)
    assert group.fmr.high == rule_of_three(group.non_mated_count)


@pytest.mark.parametrize("values", [20, 21])
def test_a_column_with_many_values_makes_no_groups(values: int) -> None:
    people = made(21, 2)
    data = replace(people, groups=[{"day": f"{n % values}"} for n in range(42)]).data()
    found, notes = _found(people, data)
    if values == 20:
        assert (len(found), notes) == (20, ())
    else:
        assert found == ()
        assert notes == ("Column 'day' has 21 values and makes no groups; at most 20 do.",)


def test_without_further_columns_there_are_no_groups() -> None:
    assert _found(PEOPLE, PEOPLE.data()) == ((), ())
    pairs = [ListedPair(0, n, PEOPLE.subjects[0] == PEOPLE.subjects[n]) for n in range(1, 9)]
    assert _found(PEOPLE, PEOPLE.data(pairs)) == ((), ())


def test_intervals_are_over_all_subjects_of_the_data() -> None:
    """A draw may miss the group's subjects, and its rate says nothing then."""
    pairs = [
        ListedPair(i, j, mated=True, groups={"g": "x"})
        for kind, i, j, _ in pairs_of(PEOPLE)
        if kind == "mated" and PEOPLE.subjects[i] in ("s00", "s01")
    ]
    data = PEOPLE.data([*pairs, ListedPair(0, 1, mated=False)])
    scored = score_comparisons(data, PEOPLE.embedded())
    middle = float(np.median(scored.mated.scores))
    (group,), _ = measure_subgroups(data, scored, PEOPLE.labels, replace(AT, threshold=middle))
    assert group.fnmr is not None
    assert 0 < group.fnmr.errors < group.fnmr.trials == 12
    rates = {
        name: np.mean([
            score < middle
            for p, score in zip(scored.mated.probe, scored.mated.scores, strict=True)
            if PEOPLE.subjects[p] == name
        ])
        for name in ("s00", "s01")
    }  # fmt: skip
    assert group.fnmr.low <= min(rates.values())
    assert group.fnmr.high >= max(rates.values())
