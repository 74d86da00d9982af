"""Thresholds that keep a rate in every band, against looking at each band."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from tests.unit.evaluation.people import made
from verifykit.evaluation.bands import Bands, read_bands
from verifykit.evaluation.worst_band import (
    BandedScores,
    Unsupported,
    WorstBand,
    band_rates,
    worst_band_threshold,
)
from verifykit.metrics import threshold_at_fmr


def _scores(sizes: list[int], lift: list[float], text: str = "age=10,20,30") -> BandedScores:
    """Everyone against everyone; the pairs within a band score higher by its lift."""
    ages = [n for n, size in enumerate(sizes) for _ in range(size)]
    people = replace(made(len(ages), 1), groups=[{"age": str(5 + 10 * age)} for age in ages])
    (bands,) = read_bands(people.data(), [text])
    return _of(bands, ages, lift)


def _of(bands: Bands, ages: list[int], lift: list[float]) -> BandedScores:
    random = np.random.default_rng(len(ages))
    one, two = np.array(list(combinations(range(len(ages)), 2))).T
    codes = np.array(ages)
    same = codes[one] == codes[two]
    scores = random.normal(0, 0.1, len(one)) + np.where(same, np.array(lift)[codes[one]], 0.0)
    return BandedScores(bands, scores, one, two, bands.codes[one], bands.codes[two])


def _whole(scores: BandedScores) -> BandedScores:
    none = np.full(len(scores.scores), -1, np.int16)
    return replace(scores, bands=None, left=none, right=none)


def _must(found: WorstBand | Unsupported) -> WorstBand:
    assert isinstance(found, WorstBand)
    return found


def test_every_band_keeps_the_rate_and_one_just_does() -> None:
    scores = _scores([30, 30, 30, 30], [0.0, 0.3, 0.1, 0.2])
    found = _must(worst_band_threshold([_whole(scores), scores], 0.01))
    assert (found.band, found.joined) == ("age 10 to <20", ())
    counts = []
    for code in range(4):
        here = scores.scores[scores.within((code,))]
        assert here.size == 30 * 29 // 2
        counts.append(int((here >= found.threshold).sum()))
    assert max(counts) == counts[1] == 4
    assert found.threshold == threshold_at_fmr(scores.scores[scores.within((1,))], 0.01)
    trials, errors, (low, high) = found.measured()
    assert (trials, errors) == (435, 4)
    assert low <= 4 / 435 <= high


def test_everyone_together_counts_as_a_band() -> None:
    scores = _scores([30, 30], [0.0, 0.0], "age=10")
    # Those of two bands are the hardest ones.
    across = scores.left != scores.right
    scores = replace(scores, scores=scores.scores + 0.5 * across)
    found = _must(worst_band_threshold([_whole(scores), scores], 0.1))
    assert found.band == "all comparisons"
    alone = _must(worst_band_threshold([scores], 0.1))
    assert alone.threshold < found.threshold


def test_numbers_with_too_few_comparisons_join_their_smaller_neighbour() -> None:
    scores = _scores([30, 12, 20, 40], [0.0, 0.2, 0.0, 0.0])
    # 435, 66, 190 and 780 comparisons; 0.01 takes 300, and 12 + 20 people have 496.
    found = _must(worst_band_threshold([scores], 0.01))
    assert found.joined == ("age 10 to <30",)
    assert found.band == "age 10 to <30"
    inside = scores.within((1, 2))
    assert int(inside.sum()) == 32 * 31 // 2
    assert found.threshold == threshold_at_fmr(scores.scores[inside], 0.01)
    # At a rate that each of them supports none is joined.
    assert _must(worst_band_threshold([scores], 0.1)).joined == ()


def test_a_lower_rate_is_never_laxer() -> None:
    scores = _scores([30, 12, 20, 40], [0.0, 0.4, 0.0, 0.0])
    before = _must(worst_band_threshold([scores], 0.05))
    after = _must(worst_band_threshold([scores], 0.01))
    assert after.threshold < before.threshold
    held = _must(worst_band_threshold([scores], 0.01, least=before.threshold))
    assert held.threshold == before.threshold
    assert held.measured()[1] <= after.measured()[1]


def test_the_two_last_bands_are_not_joined() -> None:
    scores = _scores([30, 12], [0.0, 0.0], "age=10")
    found = worst_band_threshold([scores], 0.01)
    assert found == Unsupported("age >=10", 66)
    assert found.sentence(0.01) == (
        "FMR 0.01 takes 300 non-mated comparisons in each band, and 'age >=10' has 66"
    )


def test_bands_of_words_are_not_joined_but_may_be_left_out() -> None:
    scores = _scores([30, 12, 30], [0.0, 0.0, 0.1], "age")
    assert worst_band_threshold([scores], 0.01) == Unsupported("age 15", 66)
    found = _must(worst_band_threshold([scores], 0.01, [frozenset({0})]))
    assert found.band == "age 25"


def test_too_few_comparisons_of_everyone_are_unsupported() -> None:
    scores = _whole(_scores([5, 5], [0.0, 0.0], "age=10"))
    assert worst_band_threshold([scores], 0.01) == Unsupported("all comparisons", 45)


@pytest.mark.parametrize("draws", [1, 3])
def test_what_bands_got_is_counted_at_both_thresholds(draws: int) -> None:
    scores = _scores([30, 30], [0.0, 0.2], "age=10")
    scores = replace(
        scores,
        scores=np.tile(scores.scores, draws),
        probe=np.tile(scores.probe, draws),
        reference=np.tile(scores.reference, draws),
        left=np.tile(scores.left, draws),
        right=np.tile(scores.right, draws),
        draws=draws,
    )
    rows = list(band_rates([_whole(scores), scores], [(0.1, 0.1, 0.3), (0.01, None, 0.4)]))
    assert [(row.band, row.fmr) for row in rows] == [
        (band, fmr) for band in ("age <10", "age >=10") for fmr in (0.1, 0.01)
    ]
    for row, code in zip(rows, (0, 0, 1, 1), strict=True):
        here = scores.scores[scores.within((code,))]
        assert (row.subject_count, row.non_mated_count) == (30, 435)
        at = 0.3 if row.fmr == 0.1 else 0.4
        assert row.found == (here >= at).sum() / draws / 435
        assert row.found_interval[0] <= row.found <= row.found_interval[1]
        if row.fmr == 0.1:
            assert row.usual == (here >= 0.1).sum() / draws / 435
            assert row.usual_interval is not None
        else:
            assert (row.usual, row.usual_interval) == (None, None)
