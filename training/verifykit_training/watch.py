"""What a run is watched for while it runs: numbers that are none, and embeddings that are all one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from verifykit_training.dataset import Record
from verifykit_training.errors import TrainingError

_NAMED = 40


class CollapseWatch:
    """Says when the embeddings of whole batches have become one point.

    Attributes:
        collapsed: Whether they are at present.
    """

    def __init__(self, *, least_spread: float = 0.005, steps: int = 30) -> None:
        """Set the limits.

        Args:
            least_spread: Below it a batch is one point; an untrained network of ours can begin there.
            steps: Steps in a row before it is said.
        """
        self.collapsed = False
        self._least, self._steps, self._count = least_spread, steps, 0

    def update(self, embeddings: Tensor) -> tuple[float, bool]:
        """Look at a batch.

        Args:
            embeddings: (N, D) unit rows of several subjects.

        Returns:
            The spread in [0, 1], ``1 - |mean row|²`` (half the mean squared distance of two rows), and
            whether this batch is the one at which collapse is to be said.
        """
        spread = 1.0 - float(embeddings.detach().float().mean(dim=0).square().sum())
        self._count = self._count + 1 if spread < self._least else 0
        before, self.collapsed = self.collapsed, self._count >= self._steps
        return spread, self.collapsed and not before


def require_finite(
    value: Tensor, what: str, *, epoch: int, step: int, records: Sequence[Record], rows: Tensor
) -> None:
    """Stop the run at a number that is none, and name the batch.

    Args:
        value: Scalar.
        what: Its name.
        epoch: Counted from 1.
        step: Optimiser steps done.
        records: The training set.
        rows: The batch, over all processes.

    Raises:
        TrainingError: It is NaN or infinite.
    """
    if torch.isfinite(value):
        return
    names = [str(records[row].path) for row in rows.tolist()]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    raise TrainingError(
        f"the {what} is {float(value.detach())} in epoch {epoch} after {step} steps: lower optimiser.rate, "
        "set optimiser.clip_norm, or use run.precision=32-true; the last checkpoint is kept. "
        f"The batch was: {', '.join(names[:_NAMED])}{more}"
    )


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Set the event at SIGINT or SIGTERM, so that a step can end; a second one acts as usual.

    Outside the main thread, where Python takes no signals, the event is never set.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}

    def note(kind: int, _frame: object) -> None:
        event.set()
        signal.signal(kind, before[signal.Signals(kind)])

    for kind in before:
        signal.signal(kind, note)
    try:
        yield event
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
