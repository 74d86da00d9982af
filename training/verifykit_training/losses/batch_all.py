"""Batch-all: every valid triplet of the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from verifykit.errors import InputError, shown
from verifykit_training.losses.batch import Relations, check_embeddings, check_labels, relations
from verifykit_training.losses.distance import Metric, distance_matrix
from verifykit_training.losses.outcome import ACTIVE_ABOVE, LossOutput, nothing_valid
from verifykit_training.losses.statistics import batch_statistics, empty_batch, hardest, pick

# Triplets that are looked at in one go, 16 MB of float32.
_AT_ONCE = 4_000_000


def batch_all_triplet_loss(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.2,
    metric: Metric = "l2",
    reduction: str = "nonzero",
    forgeries: Tensor | None = None,
) -> Tensor:
    """``max(0, d(a, p) - d(a, n) + margin)`` over every valid triplet.

    Hermans, Beyer and Leibe, "In Defense of the Triplet Loss for Person Re-Identification", 2017,
    equation 6 and section 4.3 (the mean over the non-zero terms). pytorch-metric-learning's
    ``TripletMarginLoss`` without a miner is the same, on rows that it normalises by default.

    Args:
        embeddings: (N, D) of any float type, computed in float32; float64 stays.
        labels: (N,) or (N, 1) integers.
        margin: In units of the metric.
        metric: ``"l2"``, ``"squared_l2"`` or ``"cosine"`` (1 - cosine, rows normalised inside).
        reduction: ``"nonzero"`` divides by the number of triplets whose loss exceeds 1e-16,
            ``"mean"`` by the number of valid ones, ``"sum"`` by nothing.
        forgeries: (N,) bool: a negative for everyone, never an anchor or a positive.

    Returns:
        Scalar; 0 with a graph when there is no valid triplet.

    Raises:
        InputError: Labels, types, a metric or a reduction that cannot be used.
    """
    return batch_all(
        embeddings, labels, margin=margin, metric=metric, reduction=reduction, forgeries=forgeries
    ).loss


def batch_all(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.2,
    metric: Metric = "l2",
    reduction: str = "nonzero",
    forgeries: Tensor | None = None,
) -> LossOutput:
    """:func:`batch_all_triplet_loss` with statistics over the valid triplets."""
    if reduction not in ("nonzero", "mean", "sum"):
        raise InputError(f'reduction is "nonzero", "mean" or "sum", got {shown(reduction)}')
    embeddings = check_embeddings(embeddings)
    kin = relations(check_labels(labels, embeddings), forgeries)
    if len(embeddings) == 0:
        return empty_batch(embeddings)
    distances = distance_matrix(embeddings, metric)
    with torch.no_grad():
        seen = distances.detach()
        weights, active, hinges = _active_triplets(seen, kin, margin)
        valid = (kin.positive.sum(dim=1) * kin.negative.sum(dim=1)).sum()
        farthest, nearest = (pick(seen, other) for other in hardest(seen, kin))
    statistics = batch_statistics(
        embeddings, kin, active=active, valid=valid, farthest=farthest, nearest=nearest
    )
    if not valid:
        return LossOutput(nothing_valid(embeddings), statistics)
    # The sum of the active terms is linear in the distances: each counts as often as its pair is in an
    # active triplet, positive pairs for, negative ones against. That gives the gradient; the value is
    # the sum of the terms themselves, which loses no digits to cancellation.
    slope = (weights * distances).sum()
    total = hinges + (slope - slope.detach())
    divisors = {"nonzero": active.clamp_min(1), "mean": valid, "sum": torch.ones_like(valid)}
    return LossOutput(total / divisors[reduction], statistics)


def _active_triplets(
    distances: Tensor, kin: Relations, margin: float
) -> tuple[Tensor, Tensor, Tensor]:
    """How often each pair is in an active triplet (N, N), how many are active, and their sum."""
    weights = torch.zeros_like(distances)
    number = torch.zeros((), dtype=torch.int64, device=distances.device)
    total = torch.zeros_like(distances[0, 0])
    anchor, positive = kin.positive.nonzero(as_tuple=True)
    to_negatives = distances.masked_fill(~kin.negative, torch.inf)
    step = max(1, _AT_ONCE // len(distances))
    for start in range(0, len(anchor), step):
        a, p = anchor[start : start + step], positive[start : start + step]
        terms = distances[a, p][:, None] - to_negatives[a] + margin
        active = terms > ACTIVE_ABOVE
        counts = active.to(distances.dtype)
        weights[a, p] = counts.sum(dim=1)
        weights.index_add_(0, a, counts, alpha=-1.0)
        number += active.sum()
        total += torch.where(active, terms, 0.0).sum()
    return weights, number, total
