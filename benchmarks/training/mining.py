"""Compare mining, loss and gradient of a large batch with pytorch-metric-learning in the same run.

``python -m benchmarks.training.mining [--rows 1024] [--size 128] [--images 4] [--rounds 20]``. Both sides get
the same unit rows and are timed in turn; each time is forward and backward. ``ratio`` is ours divided by
theirs: below 1 is faster.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import SupConLoss, TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner, TripletMarginMiner
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from verifykit_training.losses import build_loss

Step = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Comparison:
    """One loss on one batch, ours and theirs.

    Attributes:
        name: The loss.
        ours_ms: Our minimum over the rounds.
        theirs_ms: Their minimum over the rounds.
        ours: Value of our loss.
        theirs: Value of their loss.
        same: Whether both have the same definition.
    """

    name: str
    ours_ms: float
    theirs_ms: float
    ours: float
    theirs: float
    same: bool

    @property
    def ratio(self) -> float:
        """Return our time divided by theirs."""
        return self.ours_ms / self.theirs_ms


def compare_mining(
    rows: int = 1024, size: int = 128, images: int = 4, rounds: int = 20
) -> list[Comparison]:
    """Time every loss that both have, on ``rows`` embeddings with ``images`` per subject.

    Losses over all triplets are timed in a fifth of the rounds. Theirs enumerates all triplets (N^3 booleans,
    1 GB for 1024 rows).
    """
    generator = torch.Generator().manual_seed(0)
    embeddings = functional.normalize(torch.randn(rows, size, generator=generator))
    labels = torch.arange(rows) // images
    distance = LpDistance(normalize_embeddings=False)
    triplets = TripletMarginLoss(margin=0.2, distance=distance)
    hard = BatchHardMiner(distance=distance)
    within = TripletMarginMiner(margin=0.2, type_of_triplets="semihard", distance=distance)
    peers: dict[str, tuple[str, Step, bool]] = {
        "batch_hard": ("batch-hard", lambda e, y: triplets(e, y, hard(e, y)), True),
        "semi_hard": (
            "semi-hard (theirs keeps all such triplets)",
            lambda e, y: triplets(e, y, within(e, y)),
            False,
        ),
        "batch_all": ("batch-all", lambda e, y: triplets(e, y), True),
        "supervised_contrastive": ("supervised contrastive", SupConLoss(temperature=0.1), True),
    }
    comparisons = []
    for name, (title, theirs, same) in peers.items():
        module = (
            build_loss(name, margin=0.2) if name != "supervised_contrastive" else build_loss(name)
        )
        repeats = max(1, rounds // 5) if name in ("batch_all", "semi_hard") else rounds
        ours = _timed(partial(_loss, module), embeddings, labels)
        peer = _timed(theirs, embeddings, labels)
        ours(), peer()  # warm-up
        times = np.array([[ours()[0], peer()[0]] for _ in range(repeats)]).min(axis=0)
        ours_ms, theirs_ms = 1e3 * times
        comparisons.append(Comparison(title, ours_ms, theirs_ms, ours()[1], peer()[1], same))
    return comparisons


def _loss(module: nn.Module, embeddings: Tensor, labels: Tensor) -> Tensor:
    loss: Tensor = module(embeddings, labels).loss
    return loss


def _timed(step: Step, embeddings: Tensor, labels: Tensor) -> Callable[[], tuple[float, float]]:
    """Return a function that runs the step forward and backward, and returns seconds and value."""

    def run() -> tuple[float, float]:
        leaf = embeddings.clone().requires_grad_()
        start = time.perf_counter()
        loss = step(leaf, labels)
        torch.autograd.backward(loss)
        return time.perf_counter() - start, float(loss.detach())

    return run


def main() -> None:
    """Measure, and print a row for each loss."""
    parser = argparse.ArgumentParser(prog="benchmarks.training.mining", description=__doc__)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    title = f"N={options.rows}, D={options.size}, {options.images} images per subject"
    table = Table("loss", "ours ms", "theirs ms", "ratio", "ours", "theirs", title=title)
    for one in compare_mining(options.rows, options.size, options.images, options.rounds):
        table.add_row(
            one.name,
            f"{one.ours_ms:.1f}",
            f"{one.theirs_ms:.1f}",
            f"{one.ratio:.2f}",
            f"{one.ours:.6f}",
            f"{one.theirs:.6f}" + ("" if one.same else " (different definition)"),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
