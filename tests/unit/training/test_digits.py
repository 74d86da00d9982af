"""Each loss teaches cnn5 scikit-learn's digits; the benchmark of the same name prints the numbers."""

from __future__ import annotations

import math

import pytest

from benchmarks.digits import LOSSES, train_on_digits

IMAGES = 450
SEEDS = range(3)


def check(loss: str, steps: int) -> None:
    results = [train_on_digits(loss, steps, seed) for seed in SEEDS]
    before = sum(1 - result.untrained for result in results) * IMAGES
    after = sum(1 - result.accuracy for result in results) * IMAGES
    assert after <= 0.03 * IMAGES * len(SEEDS)
    # Errors are counts, and which images fail depends on the processor: two standard errors.
    assert before - after >= 2 * math.sqrt(before + after)


def test_batch_hard_teaches_digits() -> None:
    check("batch_hard", 60)


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_teaches_digits(loss: str) -> None:
    check(loss, 100)
