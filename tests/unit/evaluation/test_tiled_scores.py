"""Rates, curves and intervals of every pair in tiles: equal to those of lists, in memory that stays flat."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.unit.evaluation.people import People, as_table, made
from verifykit.datasets import FaceChoice
from verifykit.evaluation.calibrate import measured_points
from verifykit.evaluation.evaluate import Measurement, measure_model
from verifykit.evaluation.one_to_one import REPORTED_FMRS, measure_attack, measure_scores
from verifykit.evaluation.pair_tiles import PairTiles
from verifykit.evaluation.pairs import score_comparisons
from verifykit.evaluation.results import AttackResult, ModelResult
from verifykit.evaluation.tiled_scores import TiledComparisons, TiledScores
from verifykit.evaluation.tiles import PairCounts
from verifykit.metrics.draws import draw_subjects
from verifykit.spec import Cohort, OperatingPoint
from verifykit.types import QualityGate


def _plain(found: AttackResult | ModelResult) -> dict[str, Any]:
    """Return what was found, without the index that is a sum of floats in another order."""
    plain = asdict(found)
    for attack in plain.get("attacks", [plain]):
        assert attack.pop("d_prime") >= 0.0
    return plain


def _tiled(people: People, kind: str, bins: int, tile: int) -> TiledScores:
    weights, groups = draw_subjects(int(people.labels.max()) + 1)
    pairs = PairTiles(
        people.rows,
        people.labels,
        np.array(people.forged),
        groups=groups[people.labels],
        tile=tile,
    )
    return TiledScores(PairCounts(pairs, bins=bins), kind, weights, REPORTED_FMRS)


@dataclass(eq=False)
class _Embedder:
    """An embedder in name: its rows are there already."""

    cohort: Cohort | None = None
    model = name = digest = modality = licence = fusion = cache_key = "made"
    multi_face: FaceChoice = "error"
    quality: QualityGate = "strict"
    operating_points: Sequence[OperatingPoint] = (
        OperatingPoint(0.05, 0.6, 100, 4, "random_forgery", 1),
    )

    def embed(self, image: bytes, /) -> NDArray[np.float32]:
        raise AssertionError(f"no image is embedded here, got {len(image)} bytes")


@settings(max_examples=30, deadline=None)
@given(
    st.integers(2, 14),
    st.integers(2, 5),
    st.integers(0, 3),
    st.sampled_from([0.3, 0.8, 2.0]),
    st.sampled_from([None, 1]),
    st.sampled_from([(1 << 18, 1024), (50, 7), (1, 3)]),
)
def test_an_attack_measured_in_tiles_is_that_of_a_list(
    subjects: int,
    images: int,
    forgeries: int,
    spread: float,
    digits: int | None,
    sizes: tuple[int, int],
) -> None:
    people = made(subjects, images, forgeries, spread=spread)
    if digits is not None:  # few different scores, so that many are equal
        rows = np.round(people.rows, digits) + np.float32(0.01)
        people = replace(people, rows=rows / np.linalg.norm(rows, axis=1, keepdims=True))
    scored = score_comparisons(people.data(), people.embedded())
    for kind in ("random", "skilled"):
        if not scored.size(kind):
            continue
        wanted = measure_attack(
            "random_forgery", scored.mated, getattr(scored, kind), people.labels
        )
        tiled = _tiled(people, kind, *sizes)
        found = measure_scores("random_forgery", tiled)
        assert found.d_prime == pytest.approx(wanted.d_prime, rel=1e-9, nan_ok=True)
        assert _plain(found) == _plain(wanted)


def _crowd() -> People:
    people = made(24, 5, forgeries=2)
    groups = [
        {
            "population": f"p{int(name[1:]) % 2}",
            "sex": "mf"[int(name[1:]) % 2] if int(name[1:]) % 3 else "",
        }
        for name in people.subjects
    ]
    return replace(people, groups=groups)


@pytest.mark.parametrize("has_cohort", [False, True])
def test_a_model_measured_in_tiles_is_that_of_lists(
    monkeypatch: pytest.MonkeyPatch, *, has_cohort: bool
) -> None:
    people = _crowd()
    embedder = _Embedder(Cohort.of(people.rows[:20], 3, 0.2, 1.0) if has_cohort else None)
    found = {}
    for held in (10**9, 0):
        monkeypatch.setattr(sys.modules["verifykit.evaluation.evaluate"], "MOST_HELD", held)
        found[held] = measure_model(
            embedder, people.data(), people.embedded({0: "blank", 17: "blank"}), Measurement()
        )
    assert [len(attack.own) for attack in found[0].attacks] == [1, 0]
    assert len(found[0].subgroups) == 4
    assert found[0].worst
    assert found[0].notes == found[10**9].notes
    assert _plain(found[0]) == _plain(found[10**9])


def test_the_hardest_comparisons_are_those_of_the_list() -> None:
    people = _crowd()
    whole = score_comparisons(people.data(), people.embedded())
    found = TiledComparisons(people.data(), people.embedded()).hardest(30)
    for kind, sign in (("mated", 1), ("random", -1), ("skilled", -1)):
        every, some = getattr(whole, kind), getattr(found, kind)
        assert some.scores.tolist() == (sign * np.sort(sign * every.scores)[:30]).tolist()
        assert as_table(some).items() <= as_table(every).items()
    assert not any(people.forged[n] for n in found.skilled.probe)
    assert all(people.forged[n] for n in found.skilled.reference)


def test_operating_points_of_single_references_are_those_of_lists(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    people = made(20, 4, forgeries=3)
    cohort = Cohort.of(people.rows[:20], 3, 0.2, 1.0)
    populations = [f"p{int(name[1:]) % 2}" for name in people.subjects]
    found = {}
    for held in (10**9, 0):
        monkeypatch.setattr(sys.modules["verifykit.evaluation.calibrate"], "MOST_HELD", held)
        found[held] = measured_points(
            people.rows,
            people.subjects,
            people.forged,
            "mean",
            populations=populations,
            cohort=cohort,
            counts=(1, 2),
        )
    assert found[0].points == found[10**9].points
    for one, other in zip(found[0].evidence, found[10**9].evidence, strict=True):
        assert (one.attack, one.mated_count) == (other.attack, other.mated_count)
        assert one.non_mated_median == other.non_mated_median
        for name in ("slope", "intercept", "cllr"):  # of means of bins
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-4)


def test_data_without_mated_pairs_have_operating_points(monkeypatch: pytest.MonkeyPatch) -> None:
    people = made(30, 1)
    found = {}
    for held in (10**9, 0):
        monkeypatch.setattr(sys.modules["verifykit.evaluation.calibrate"], "MOST_HELD", held)
        found[held] = measured_points(
            people.rows, people.subjects, people.forged, "mean", counts=(1,)
        )
    assert found[0].points
    assert found[0].points[0].fnmr is None
    assert found[0].points == found[10**9].points
    assert found[0].evidence == ()


_SUBJECTS = 150


def _drawn(count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    random = np.random.default_rng(0)
    labels = np.arange(count) % _SUBJECTS
    rows = random.normal(size=(_SUBJECTS, 16))[labels] + random.normal(size=(count, 16))
    return rows.astype(np.float32), labels


def test_memory_is_flat() -> None:
    peaks = []
    for count in (1500, 6000):
        rows, labels = _drawn(count)
        weights, groups = draw_subjects(_SUBJECTS, resamples=50)
        tracemalloc.start()
        counts = PairCounts(PairTiles(rows, labels, np.zeros(count, bool), groups=groups[labels]))
        measure_scores("random_forgery", TiledScores(counts, "random", weights, REPORTED_FMRS))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Sixteen times the pairs; all scores of the larger set alone take 72 MB.
    assert peaks[1] < 1.3 * peaks[0] + 6e6
    assert peaks[1] < 150e6
