"""Images to embeddings with a network in torch, and embeddings to scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training.batches import CropDataset, Plan, build_loader
from verifykit.metrics import EqualErrorRate, equal_error_rate

__all__ = ["Scores", "embed", "pair_scores"]


@dataclass(frozen=True, eq=False)
class Scores:
    """Cosine similarities of pairs of images, each pair once.

    Attributes:
        mated: (M,) float32, two genuine images of one subject.
        non_mated: (N,) float32, genuine images of two subjects (random forgeries).
        skilled: (S,) float32, a genuine image and an imitation of that subject; empty without any.
    """

    mated: NDArray[np.float32]
    non_mated: NDArray[np.float32]
    skilled: NDArray[np.float32]

    def equal_error_rate(self, *, skilled: bool = False) -> EqualErrorRate:
        """The EER against random, or against skilled forgeries.

        Raises:
            InputError: There are no mated or no such non-mated pairs.
        """
        return equal_error_rate(self.mated, self.skilled if skilled else self.non_mated)


@torch.inference_mode()
def embed(
    encoder: nn.Module, dataset: CropDataset, *, batch_size: int, workers: int = 0
) -> NDArray[np.float32]:
    """The embeddings of a whole dataset, in eval mode; the module's mode is put back.

    Args:
        encoder: (N, C, H, W) float32 to (N, D) unit rows.
        dataset: Without augmentation.
        batch_size: Images at a time.
        workers: Processes that read crops.

    Returns:
        (N, D) float32, in the dataset's order.
    """
    device = next(encoder.parameters()).device
    rows = range(len(dataset))
    plans = [Plan(rows[at : at + batch_size], 0) for at in range(0, len(rows), batch_size)]
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        parts = [
            encoder(batch.images.to(device)).float().cpu().numpy()
            for batch in build_loader(dataset, plans, workers)
        ]
    finally:
        for module, mode in modes:
            module.training = mode
    return np.concatenate(parts)


def pair_scores(
    embeddings: NDArray[np.float32], labels: Sequence[int], forgeries: Sequence[bool] | None = None
) -> Scores:
    """Every pair of images, by what kind of pair it is.

    Memory is that of all N² / 2 scores.

    Args:
        embeddings: (N, D) unit rows.
        labels: (N,) subject of each.
        forgeries: (N,) which are imitations of their subject; None is none.

    Returns:
        The scores. Two imitations, and an imitation with another subject, are no pair.
    """
    owner = np.asarray(labels)
    forged = np.zeros(len(owner), bool) if forgeries is None else np.asarray(forgeries)
    mated, non_mated, skilled = [], [], []
    for row in range(len(owner) - 1):
        scores = embeddings[row + 1 :] @ embeddings[row]
        same = owner[row + 1 :] == owner[row]
        other_forged = forged[row + 1 :]
        one_forged = other_forged != forged[row]
        both_genuine = ~(other_forged | forged[row])
        mated.append(scores[same & both_genuine])
        non_mated.append(scores[~same & both_genuine])
        skilled.append(scores[same & one_forged])
    empty = [np.empty(0, np.float32)]
    return Scores(*(np.concatenate(part or empty) for part in (mated, non_mated, skilled)))
