"""Mining, loss and gradient for one large batch, beside pytorch-metric-learning in the same run.

Run: ``python -m benchmarks.mining [--rows 1024] [--size 128] [--images 4] [--rounds 20]``. Both sides get the
same rows, already of unit length, and take turns; each time is forward and backward. ``ratio`` is ours
divided by theirs, below 1 is faster.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import SupConLoss, TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner, TripletMarginMiner
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from verifykit_training.losses import build_loss

Step = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Comparison:
    """One loss on one batch, ours and theirs.

    Attributes:
        name: What was computed.
        ours_ms: Best of the rounds.
        theirs_ms: Best of the rounds.
        ours: Value of our loss.
        theirs: Value of theirs; the same thing only where ``same`` is true.
        same: Whether the definitions agree.
    """

    name: str
    ours_ms: float
    theirs_ms: float
    ours: float
    theirs: float
    same: bool

    @property
    def ratio(self) -> float:
        """Our time divided by theirs."""
        return self.ours_ms / self.theirs_ms


def compare_mining(
    rows: int = 1024, size: int = 128, images: int = 4, rounds: int = 20
) -> list[Comparison]:
    """Time every loss that both have.

    Args:
        rows: N.
        size: D.
        images: Of each subject.
        rounds: How often each is timed, in turns; losses over all triplets a fifth as often.

    Returns:
        One comparison a loss. Theirs lists all triplets (N^3 booleans, 1 GB for 1024 rows).
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
            "semi-hard (theirs keeps every such triplet)",
            lambda e, y: triplets(e, y, within(e, y)),
            False,
        ),
        "batch_all": ("batch-all", lambda e, y: triplets(e, y), True),
        "supervised_contrastive": ("supervised contrastive", SupConLoss(temperature=0.1), True),
    }
    found = []
    for name, (title, theirs, same) in peers.items():
        module = (
            build_loss(name, margin=0.2) if name != "supervised_contrastive" else build_loss(name)
        )
        repeats = max(1, rounds // 5) if name in ("batch_all", "semi_hard") else rounds
        mine = _timed(lambda e, y, module=module: module(e, y).loss, embeddings, labels)
        other = _timed(theirs, embeddings, labels)
        mine(), other()
        times = np.array([[mine()[0], other()[0]] for _ in range(repeats)]).min(axis=0)
        found.append(Comparison(title, times[0] * 1e3, times[1] * 1e3, mine()[1], other()[1], same))
    return found


def _timed(step: Step, embeddings: Tensor, labels: Tensor) -> Callable[[], tuple[float, float]]:
    """A call that runs the step forward and backward, and tells seconds and value."""

    def run() -> tuple[float, float]:
        leaf = embeddings.clone().requires_grad_()
        start = time.perf_counter()
        loss = step(leaf, labels)
        loss.backward()
        return time.perf_counter() - start, float(loss.detach())

    return run


def main() -> None:
    """Print one line a loss."""
    parser = argparse.ArgumentParser(prog="benchmarks.mining")
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    title = f"N={options.rows}, D={options.size}, {options.images} images a subject"
    table = Table("loss", "ours ms", "theirs ms", "ratio", "ours", "theirs", title=title)
    for one in compare_mining(options.rows, options.size, options.images, options.rounds):
        table.add_row(
            one.name,
            f"{one.ours_ms:.1f}",
            f"{one.theirs_ms:.1f}",
            f"{one.ratio:.2f}",
            f"{one.ours:.6f}",
            f"{one.theirs:.6f}" + ("" if one.same else " (another definition)"),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
