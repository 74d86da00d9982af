"""Detect a failing run: values that are not finite, and embeddings that collapse to one point."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from verifykit_training.dataset import Record
from verifykit_training.errors import TrainingError

_NAMED = 40


class CollapseMonitor:
    """Detect that the embeddings of whole batches have become one point.

    Attributes:
        collapsed: Whether they are one point at present.
    """

    def __init__(self, *, least_spread: float = 0.005, steps: int = 30) -> None:
        """Require a spread of at least ``least_spread`` in one of ``steps`` batches."""
        self.collapsed = False
        self._least, self._steps, self._count = least_spread, steps, 0

    def update(self, embeddings: Tensor) -> tuple[float, bool]:
        """Return a batch's spread ``1 - |mean row|²``, in [0, 1], and whether collapse begins here."""
        spread = 1.0 - float(embeddings.detach().float().mean(dim=0).square().sum())
        self._count = self._count + 1 if spread < self._least else 0
        before, self.collapsed = self.collapsed, self._count >= self._steps
        return spread, self.collapsed and not before


def require_finite(
    value: Tensor, what: str, *, epoch: int, step: int, records: Sequence[Record], rows: Tensor
) -> None:
    """Raise TrainingError if a scalar is NaN or infinite, and name the batch."""
    if torch.isfinite(value):
        return
    names = [str(records[row].path) for row in rows.tolist()]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    raise TrainingError(
        f"the {what} is {float(value.detach())} in epoch {epoch} after {step} steps: lower optimiser.rate, "
        "set optimiser.clip_norm, or use run.precision=32-true; the last checkpoint is kept. "
        f"The batch was: {', '.join(names[:_NAMED])}{more}"
    )
