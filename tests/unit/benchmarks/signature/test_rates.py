from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.signature.protocol import TrialScores
from benchmarks.signature.rates import (
    by_writer,
    eer_with_interval,
    errors,
    resampled_eer,
    share_with_interval,
)
from verifykit.metrics import equal_error_rate, fnmr_at_fmr

Scores = NDArray[np.float32]


def _writers(count: int, mated: int, others: int, *, steps: int = 0) -> list[tuple[Scores, Scores]]:
    """Return scores around a level for each writer; ``steps`` creates ties."""
    generator = np.random.default_rng(3)
    rows = []
    for _ in range(count):
        level = generator.normal(0, 0.5)
        pair = (
            generator.normal(level + 1.5, 1, generator.integers(1, mated)),
            generator.normal(level, 1, generator.integers(1, others)),
        )
        rows.append(tuple((np.round(s * steps) / steps if steps else s) for s in pair))
    return [(m.astype(np.float32), o.astype(np.float32)) for m, o in rows]


@pytest.mark.parametrize("steps", [0, 3])
def test_a_resampled_eer_equals_that_of_the_repeated_scores(steps: int) -> None:
    writers = _writers(7, 9, 14, steps=steps)
    mated, others = map(list, zip(*writers, strict=True))
    draws = np.random.default_rng(0).integers(0, 7, (60, 7))
    weights = np.array([np.bincount(draw, minlength=7) for draw in draws], float)
    expected = [
        equal_error_rate(
            np.concatenate([mated[w] for w in draw]), np.concatenate([others[w] for w in draw])
        ).eer
        for draw in draws
    ]
    assert resampled_eer(mated, others, weights).tolist() == pytest.approx(expected, abs=1e-12)


def test_the_interval_equals_that_of_a_plain_bootstrap() -> None:
    writers = _writers(12, 20, 30)
    mated, others = map(list, zip(*writers, strict=True))
    found = eer_with_interval(mated, others)
    assert found.value == equal_error_rate(np.concatenate(mated), np.concatenate(others)).eer
    generator = np.random.default_rng(99)
    eers = []
    for _ in range(1000):
        draw = generator.integers(0, 12, 12)
        drawn = [np.concatenate([kind[w] for w in draw]) for kind in (mated, others)]
        eers.append(equal_error_rate(*drawn).eer)
    low, high = np.percentile(eers, (2.5, 97.5))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.015)


def test_many_scores_are_approximated_closely_and_fast() -> None:
    writers = _writers(150, 150, 500)
    mated, others = map(list, zip(*writers, strict=True))
    weights = np.ones((1, 150))
    exact = equal_error_rate(np.concatenate(mated), np.concatenate(others)).eer
    assert resampled_eer(mated, others, weights)[0] == pytest.approx(exact, abs=5e-4)
    start = time.process_time()
    eer_with_interval(mated, others)
    assert time.process_time() - start < 10


def test_one_writer_has_no_interval() -> None:
    ((mated, others),) = _writers(1, 9, 9)
    found = eer_with_interval([mated], [others])
    assert (found.low, found.high) == (None, None)


def test_a_share_and_its_interval() -> None:
    hits, counts = [3, 0, 5, 1, 0, 2], [10, 8, 9, 10, 4, 6]
    found = share_with_interval(hits, counts)
    assert found is not None
    assert found.value == pytest.approx(11 / 47)
    generator = np.random.default_rng(1)
    shares = []
    for _ in range(4000):
        draw = generator.integers(0, 6, 6)
        shares.append(sum(hits[w] for w in draw) / sum(counts[w] for w in draw))
    assert (found.low, found.high) == pytest.approx(np.percentile(shares, (2.5, 97.5)), abs=0.03)
    assert share_with_interval([0, 0], [0, 0]) is None


def _trials(draws: int = 2) -> list[TrialScores]:
    """Return trials of six writers, of whom every third has no forgeries."""
    generator = np.random.default_rng(8)
    trials = []
    for writer in range(6):
        for _ in range(draws):
            mated = generator.normal(1, 1, 20).astype(np.float32)
            skilled = generator.normal(0, 1, 0 if writer % 3 == 2 else 80).astype(np.float32)
            random = generator.normal(-2, 1, 60).astype(np.float32)
            trials.append(TrialScores(f"w{writer}", mated, skilled, random))
    return trials


def test_errors_over_writers_with_forgeries() -> None:
    trials = _trials()
    found = errors(trials, "skilled", 1e-2)
    with_both = [t for t in trials if t.skilled.size]
    mated = np.concatenate([t.mated for t in with_both])
    skilled = np.concatenate([t.skilled for t in with_both])
    assert (found.writers, found.mated, found.forged) == (4, 80, 320)
    assert found.eer is not None
    assert found.eer.value == equal_error_rate(mated, skilled).eer
    assert found.fnmr == fnmr_at_fmr(mated, skilled, 1e-2)[0]
    single = [equal_error_rate(t.mated, t.skilled).eer for t in with_both]
    assert found.writer_eer == pytest.approx(sum(single) / len(single))


def test_draws_do_not_count_as_more_probes() -> None:
    # 360 random probes, whatever the number of draws: 1e-2 takes 300, 1e-3 takes 3000.
    assert errors(_trials(draws=20), "random", 1e-2).fnmr is not None
    assert errors(_trials(draws=20), "random", 1e-3).fnmr is None


def test_without_scores_there_is_no_rate() -> None:
    empty = np.empty(0, np.float32)
    found = errors([TrialScores("w", empty, empty, empty)], "skilled", 1e-2)
    assert (found.writers, found.eer, found.fnmr, found.writer_eer) == (0, None, None, None)


def test_draws_of_a_writer_are_concatenated() -> None:
    trials = _trials()
    mated, random = by_writer(trials, "random")
    assert [len(m) for m in mated] == [40] * 6
    assert random[1].tolist() == [*trials[2].random.tolist(), *trials[3].random.tolist()]
