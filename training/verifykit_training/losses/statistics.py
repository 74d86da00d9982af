"""What a batch looked like to its loss: numbers for the log, without a graph."""

from __future__ import annotations

import torch
from torch import Tensor

from verifykit_training.losses.batch import Relations
from verifykit_training.losses.outcome import LossOutput, nothing_valid


def hardest(distances: Tensor, kin: Relations) -> tuple[Tensor, Tensor]:
    """Where each row's farthest positive and nearest negative stand.

    Args:
        distances: (N, N), N >= 1.
        kin: Who is whose positive and negative.

    Returns:
        (N,) indices of the farthest positive and (N,) of the nearest negative; meaningless for a row
        that has none.
    """
    farthest = distances.masked_fill(~kin.positive, -1.0).argmax(dim=1)
    nearest = distances.masked_fill(~kin.negative, torch.inf).argmin(dim=1)
    return farthest, nearest


def pick(distances: Tensor, other: Tensor) -> Tensor:
    """(N,) the distance of each row to the other row named for it."""
    return distances.gather(1, other[:, None]).squeeze(1)


def empty_batch(embeddings: Tensor) -> LossOutput:
    """The output for no rows at all: a zero with a graph, and statistics that say so."""
    unknown = embeddings.detach().new_tensor(torch.nan)
    zero = torch.zeros_like(unknown)
    return LossOutput(
        nothing_valid(embeddings),
        {
            "valid_terms": zero,
            "active_share": zero,
            "hardest_positive": unknown,
            "hardest_negative": unknown,
            "embedding_norm": unknown,
        },
    )


def batch_statistics(
    embeddings: Tensor,
    kin: Relations,
    *,
    active: Tensor | float,
    valid: Tensor | float,
    farthest: Tensor,
    nearest: Tensor,
) -> dict[str, Tensor]:
    """The statistics of :class:`~verifykit_training.losses.outcome.LossOutput`.

    Args:
        embeddings: (N, D).
        kin: Who is whose positive and negative.
        active: How many terms are above zero.
        valid: How many terms there were.
        farthest: (N,) distances to the farthest positive.
        nearest: (N,) distances to the nearest negative.

    Returns:
        Name to scalar.
    """
    rows = embeddings.detach()
    total = torch.as_tensor(valid, dtype=rows.dtype, device=rows.device)
    return {
        "valid_terms": total,
        "active_share": torch.as_tensor(active, dtype=rows.dtype, device=rows.device)
        / total.clamp_min(1),
        "hardest_positive": _mean(farthest.detach(), kin.positive.any(dim=1)),
        "hardest_negative": _mean(nearest.detach(), kin.negative.any(dim=1)),
        "embedding_norm": torch.linalg.vector_norm(rows, dim=1).mean(),
    }


def _mean(values: Tensor, present: Tensor) -> Tensor:
    return torch.where(present, values, 0.0).sum() / present.sum()
