"""1:N error rates against searching one image after the other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.evaluation.people import made
from verifykit.evaluation import open_set
from verifykit.evaluation.open_set import measure_open_set
from verifykit.evaluation.results import OpenSetResult

# Two more of them have a single image: they are strangers only.
LONELY = 2


def _images(subjects: int, images: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    people = made(subjects, images)
    kept: list[int] = []
    for n, label in enumerate(people.labels.tolist()):
        alone = label < LONELY and any(people.labels[m] == label for m in kept)
        kept += [] if alone else [n]
    return people.rows[kept], people.labels[kept]


def _galleries(labels: NDArray[np.int64], size: int, draws: int) -> Iterator[dict[int, int]]:
    """Subject to its reference image, by the same random numbers."""
    random = np.random.default_rng((0, size))
    able = [s for s in range(labels.max() + 1) if np.sum(labels == s) > 1]
    for _ in range(draws):
        enrolled = random.permutation(able)[:size].tolist()
        gallery: dict[int, int] = {}
        for image in random.permutation(len(labels)).tolist():
            if labels[image] in enrolled:
                gallery.setdefault(int(labels[image]), image)
        count = int(np.isin(labels, enrolled).sum()) - size
        for searches in (count, len(labels) - count - size):
            random.permutation(searches)
        yield gallery


def _searched(
    rows: NDArray[np.float32], labels: NDArray[np.int64], size: int, draws: int
) -> tuple[list[float], list[tuple[float, int]]]:
    """Best score of each search for a stranger; score and rank of the mate in each other one."""
    wide = rows.astype(np.float64)
    best, mates = [], []
    for gallery in _galleries(labels, size, draws):
        assert len(gallery) == size
        for probe, label in enumerate(labels.tolist()):
            if probe in gallery.values():
                continue
            scores = {subject: float(wide[probe] @ wide[at]) for subject, at in gallery.items()}
            if label in gallery:
                order = sorted(scores, key=lambda subject: -scores[subject])
                mates.append((scores[label], order.index(label) + 1))
            else:
                best.append(max(scores.values()))
    return best, mates


@pytest.mark.parametrize(("size", "draws"), [(6, 1), (10, 3), (1, 2)])
def test_rates_are_those_of_searching_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, size: int, draws: int
) -> None:
    monkeypatch.setattr(open_set, "_MOST_GALLERIES", draws)
    rows, labels = _images(18, 4)
    (found,) = measure_open_set(rows, labels, sizes=(size,))
    best, mates = _searched(rows, labels, size, draws)
    assert (found.gallery_size, found.draws) == (size, draws)
    assert (found.non_mated_searches, found.mated_searches) == (len(best), len(mates))
    assert found.hit_rates == {
        rank: sum(place <= rank for _, place in mates) / len(mates)
        for rank in (1, 5, 10)
        if rank <= size
    }
    for threshold, fpir, fnir in zip(found.thresholds, found.fpir, found.fnir, strict=True):
        # The threshold is a score, and another order of summing rounds otherwise.
        at = threshold - 1e-6
        assert fpir == pytest.approx(sum(score >= at for score in best) / len(best))
        missed = sum(score < at or place > 1 for score, place in mates)
        assert fnir == pytest.approx(missed / len(mates))
    _require_a_curve(found)
    assert found.fpir[0] == 1 / len(best)


def _require_a_curve(found: OpenSetResult) -> None:
    assert found.fpir[0] > 0.0
    assert found.fpir[-1] == 1.0
    assert all(one < other for one, other in pairwise(found.fpir))
    assert all(one >= other for one, other in pairwise(found.fnir))
    assert all(one > other for one, other in pairwise(found.thresholds))


def test_a_size_needs_subjects_with_two_images_and_five_strangers() -> None:
    rows, labels = _images(18, 3)  # 16 subjects with three images, and two with one
    sizes = (1, 13, 14, 16)
    assert [each.gallery_size for each in measure_open_set(rows, labels, sizes=sizes)] == [1, 13]
    few = labels < 12
    assert measure_open_set(rows[few], labels[few]) == ()
    assert [each.gallery_size for each in measure_open_set(rows, labels)] == [10]
    # Nobody could be searched for: each has one image.
    _, first = np.unique(labels, return_index=True)
    assert measure_open_set(rows[first], labels[first], sizes=(1,)) == ()


def test_a_larger_gallery_is_harder() -> None:
    rows, labels = _images(50, 3)
    found = measure_open_set(rows, labels, sizes=(3, 10, 40))
    assert [each.gallery_size for each in found] == [3, 10, 40]
    assert [each.hit_rates[1] for each in found] == sorted(
        (each.hit_rates[1] for each in found), reverse=True
    )
    for each in found:
        _require_a_curve(each)
        assert each.mated_searches >= 20_000 or each.draws == 300
        assert len(each.fpir) <= 150
    # At one threshold more strangers find somebody.
    at = [float(np.interp(-0.9, [-t for t in each.thresholds], each.fpir)) for each in found]
    assert at == sorted(at)
    assert at[0] < at[-1]


def test_a_tie_is_counted_against_the_mate() -> None:
    labels = np.repeat(np.arange(20), 2)
    same = np.tile(np.array([1.0, 0.0], np.float32), (40, 1))
    (found,) = measure_open_set(same, labels, sizes=(10,))
    assert found.hit_rates == {1: 0.0, 5: 0.0, 10: 1.0}
    assert (found.fpir, found.fnir, found.thresholds) == ((1.0,), (1.0,), (1.0,))


def test_the_same_seed_gives_the_same_result_and_another_one_another() -> None:
    rows, labels = _images(18, 3)
    one, again, other = (measure_open_set(rows, labels, sizes=(5,), seed=s) for s in (4, 4, 5))
    assert one == again
    assert one != other


def test_searches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels = _images(18, 4)
    monkeypatch.setattr(open_set, "_SEARCHES", 10)
    monkeypatch.setattr(open_set, "_STRANGERS", 7)
    (found,) = measure_open_set(rows, labels, sizes=(5,))
    assert (found.draws, found.mated_searches, found.non_mated_searches) == (1, 10, 7)
