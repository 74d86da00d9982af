"""Accuracy over folds against trying every threshold, and LFW's protocol from files on."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.evaluation.made import NO_FACE, ShadeEmbedder, paint
from verifykit.errors import InputError
from verifykit.evaluation.evaluate import Measurement, evaluate
from verifykit.evaluation.folds import best_threshold, fold_accuracy
from verifykit.evaluation.pairs import read_data
from verifykit.evaluation.results import Folds

SCORES = st.integers(-4, 4).map(lambda n: n / 4) | st.floats(-1.0, 1.0, width=32)
PAIRS = st.lists(
    st.tuples(SCORES | st.just(math.nan), st.booleans(), st.integers(0, 3)), min_size=2, max_size=40
)


def _right(pairs: list[tuple[float, bool, int]], threshold: float) -> int:
    """NaN is no match at any threshold."""
    return sum((score >= threshold) == mated for score, mated, _ in pairs)


@given(PAIRS.filter(lambda pairs: len({fold for *_, fold in pairs}) > 1))
def test_each_fold_is_decided_by_the_others(pairs: list[tuple[float, bool, int]]) -> None:
    scores, mated, folds = map(list, zip(*pairs, strict=True))
    found = fold_accuracy(np.array(scores), mated, folds)
    names = sorted(set(folds))
    assert len(found.accuracies) == len(found.thresholds) == len(names)
    for name, accuracy, threshold in zip(names, found.accuracies, found.thresholds, strict=True):
        here = [pair for pair in pairs if pair[2] == name]
        others = [pair for pair in pairs if pair[2] != name]
        assert accuracy == pytest.approx(_right(here, threshold) / len(here))
        tried = [score for score, *_ in others if not math.isnan(score)]
        best = max(_right(others, at) for at in (*tried, math.inf))
        assert _right(others, threshold) == best
    assert found.mean == pytest.approx(statistics.mean(found.accuracies))
    error = statistics.stdev(found.accuracies) / math.sqrt(len(names))
    assert found.standard_error == pytest.approx(error)
    assert found.failed_pairs == sum(math.isnan(score) for score in scores)


def test_the_best_threshold_lies_halfway_and_lowest() -> None:
    scores = np.array([0.1, 0.2, 0.6, 0.8])
    assert best_threshold(scores, np.array([False, False, True, True])) == 0.4
    assert best_threshold(scores, np.array([True, True, True, True])) == 0.1
    assert best_threshold(scores, np.array([False] * 4)) == math.inf
    # 0.15, 0.4 and 0.7 are right three times each.
    assert best_threshold(scores, np.array([False, True, False, True])) == pytest.approx(0.15)
    assert best_threshold(np.full(3, -math.inf), np.array([True, False, True])) == math.inf
    # Those that failed are no matches, wherever the threshold lies.
    with_failed = np.array([-math.inf, 0.3, 0.5])
    assert best_threshold(with_failed, np.array([True, False, True])) == 0.4


@pytest.mark.parametrize("folds", [[1, 1, 1], []])
def test_one_fold_leaves_no_others(folds: list[int]) -> None:
    with pytest.raises(InputError, match=f"at least two folds, got {len(set(folds))}"):
        fold_accuracy(np.zeros(len(folds)), [True] * len(folds), folds)


def _lfw(folder: Path, *, spoilt: dict[str, int]) -> Folds | None:
    """Ten folds of two people each; one is dark, one is light, and of one the images differ."""
    shades, lines = {}, ["10\t2"]
    for fold in range(10):
        dark, light = f"Dark_{fold}", f"Light_{fold}"
        for name, first, second in ((dark, 20 + fold, 30 + fold), (light, 200, 240 - 3 * fold)):
            shades[f"lfw/{name}/{name}_0001.png"] = first
            shades[f"lfw/{name}/{name}_0002.png"] = second
        lines += [f"{dark}\t1\t2", f"{light}\t1\t2", f"{dark}\t1\t{light}\t1"]
        lines += [f"{light}\t2\t{dark}\t2"]
    paint(folder, shades | spoilt)
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    report = evaluate(
        [ShadeEmbedder()],
        read_data(folder / "pairs.txt"),
        measurement=Measurement(hardest_pairs=2),
    )
    assert (report.kind, report.image_count, report.subject_count) == ("lfw_pairs", 40, 20)
    (result,) = report.models
    assert result.open_set == ()
    assert len(result.attacks) == 1
    if not spoilt:
        (attack,) = result.attacks
        assert (attack.mated_count, attack.non_mated_count) == (20, 20)
        assert (attack.eer.value, result.lost_mated, result.lost_non_mated) == (0.0, 0, 0)
    return result.folds


def test_ten_folds_of_lfw_from_files_on(tmp_path: Path) -> None:
    found = _lfw(tmp_path, spoilt={})
    assert found == Folds((1.0,) * 10, found.thresholds if found else (), 1.0, 0.0, 0)
    # Halfway between the least mated and the greatest non-mated score.
    least, greatest = (np.cos(away / 255) for away in (40, 200 - 29))
    assert found.thresholds == pytest.approx([(least + greatest) / 2] * 10, abs=0.01)


def test_pairs_that_failed_are_decided_as_no_match(tmp_path: Path) -> None:
    spoilt = {
        "lfw/Dark_3/Dark_3_0001.png": NO_FACE,
        "lfw/Light_7/Light_7_0002.png": -1,
        # One pair is wrong: this one looks like the other of its fold.
        "lfw/Light_9/Light_9_0002.png": 35,
    }
    found = _lfw(tmp_path, spoilt=spoilt)
    assert found is not None
    # Of a failed image the mated pair is wrong, and the non-mated one is right.
    wanted = [1.0] * 3 + [0.75] + [1.0] * 3 + [0.75, 1.0, 0.5]
    assert list(found.accuracies) == wanted
    assert found.mean == pytest.approx(np.mean(wanted))
    assert found.standard_error == pytest.approx(np.std(wanted, ddof=1) / math.sqrt(10))
    assert found.failed_pairs == 4
