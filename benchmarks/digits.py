"""Train cnn5 with each loss on scikit-learn's digits, and measure nearest-neighbour accuracy.

``python -m benchmarks.digits [LOSS ...]``
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from verifykit_training.batches import BalancedTripletSampler, PKSampler
from verifykit_training.encoders import build_encoder, input_statistics
from verifykit_training.losses import build_loss

LOSSES: dict[str, dict[str, Any]] = {
    "triplet": {},
    "contrastive": {},
    "batch_all": {},
    "batch_hard": {},
    "semi_hard": {},
}
STEPS = 100  # of 80 or 90 images
SIDE_PX = 28


@dataclass(frozen=True)
class Result:
    """The result of training with one loss.

    Attributes:
        loss: Name of the loss.
        accuracy: Nearest-neighbour accuracy on the held-out images, in [0, 1].
        untrained: The same before training.
        seconds: Time of training.
    """

    loss: str
    accuracy: float
    untrained: float
    seconds: float


def digits() -> tuple[Tensor, Tensor, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return 1347 images for training and 450 held out, (N, 1, 28, 28) float32, and their labels."""
    data = load_digits()
    scale, mean, std = input_statistics("cnn5", 1)
    pixels = [
        cv2.resize((image * (255 / 16)).astype(np.uint8), (SIDE_PX, SIDE_PX))
        for image in data.images
    ]
    images = (np.stack(pixels).astype(np.float32)[:, None] * scale - mean[0]) / std[0]
    train, held_out, train_labels, held_out_labels = train_test_split(
        images.astype(np.float32), data.target, test_size=0.25, stratify=data.target, random_state=0
    )
    return torch.from_numpy(train), torch.from_numpy(held_out), train_labels, held_out_labels


def train_on_digits(loss_name: str, steps: int = STEPS, seed: int = 0) -> Result:
    """Train cnn5 with one of :data:`LOSSES` and measure it on held-out images."""
    torch.manual_seed(seed)
    images, held_out, labels, held_out_labels = digits()
    encoder = build_encoder("cnn5", weights="none", input_channels=1)
    loss = build_loss(loss_name, **LOSSES[loss_name])

    def accuracy() -> float:
        encoder.eval()
        with torch.no_grad():
            known, unseen = encoder(images).numpy(), encoder(held_out).numpy()
        neighbour = KNeighborsClassifier(n_neighbors=1).fit(known, labels)
        return float(neighbour.score(unseen, held_out_labels))

    untrained = accuracy()
    start = time.perf_counter()
    optimiser = torch.optim.Adam(encoder.parameters(), lr=1e-3)
    targets = torch.from_numpy(labels)
    encoder.train()
    for batch in _batches(loss_name, labels, steps, seed):
        optimiser.zero_grad()
        loss(encoder(images[batch]), targets[batch]).loss.backward()
        optimiser.step()
    seconds = time.perf_counter() - start
    return Result(loss_name, accuracy(), untrained, seconds)


def _batches(
    loss_name: str, labels: np.ndarray[Any, Any], steps: int, seed: int
) -> Iterator[list[int]]:
    if loss_name == "triplet":
        yield from BalancedTripletSampler(labels, 30, seed, batches=steps)
        return
    sampler = PKSampler(labels, p=10, k=8, seed=seed)
    for step in range(steps):
        if step % len(sampler) == 0:
            sampler.set_epoch(step // len(sampler))
            epoch = iter(sampler)
        yield next(epoch)


def main() -> None:
    """Train, measure, and print a row for each loss."""
    parser = argparse.ArgumentParser(prog="benchmarks.digits", description=__doc__)
    parser.add_argument("losses", nargs="*", metavar="LOSS", help=", ".join(LOSSES))
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    unknown = set(arguments.losses) - set(LOSSES)
    if unknown:
        parser.error(f"unknown loss {', '.join(sorted(unknown))}: choose from {', '.join(LOSSES)}")
    torch.set_num_threads(1)  # a network this small gains nothing from a second thread
    table = Table("loss", "nearest neighbour, untrained", "trained", "seconds")
    for name in arguments.losses or LOSSES:
        result = train_on_digits(name, arguments.steps)
        table.add_row(
            name, f"{result.untrained:.4f}", f"{result.accuracy:.4f}", f"{result.seconds:.1f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
