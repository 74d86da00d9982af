"""Each loss teaches cnn5 scikit-learn's digits; the benchmark of the same name prints the numbers."""

from __future__ import annotations

import pytest

from benchmarks.digits import LOSSES, train_on_digits


def check(loss: str, steps: int) -> None:
    result = train_on_digits(loss, steps)
    assert result.accuracy >= 0.97
    # A random network is at 0.95 already, so 0.97 alone would show little.
    assert 1 - result.accuracy <= (1 - result.untrained) / 2


def test_batch_hard_teaches_digits() -> None:
    check("batch_hard", 60)


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_teaches_digits(loss: str) -> None:
    check(loss, 100)
