"""Semi-hard: for every positive pair the nearest negative that is farther than the positive."""

from __future__ import annotations

import torch
from torch import Tensor

from verifykit_training.losses.batch import Relations, check_embeddings, check_labels, relations
from verifykit_training.losses.distance import Metric, distance_matrix, paired_distances
from verifykit_training.losses.outcome import ACTIVE_ABOVE, LossOutput, reduce_terms
from verifykit_training.losses.statistics import batch_statistics, empty_batch, hardest, pick

# Elements of the (pairs, N) table that are looked at in one go, 16 MB of float32.
_AT_ONCE = 4_000_000


def semi_hard_triplet_loss(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float = 1.0,
    metric: Metric = "l2",
    reduction: str = "mean",
    forgeries: Tensor | None = None,
) -> Tensor:
    """``max(0, d(a, p) - d(a, n) + margin)`` over all ordered positive pairs, n semi-hard.

    As TensorFlow Addons defines it (``triplet_semihard_loss``; the idea is FaceNet's, CVPR 2015,
    section 3.2): n is the nearest negative strictly farther from a than p is, else the farthest
    negative; in a row without any negative 0 stands in for the distance to it, which is what Addons'
    masked maximum gives. pytorch-metric-learning's ``TripletMarginMiner`` ("semihard") is another
    thing: it keeps every triplet within the margin.

    Args:
        embeddings: (N, D) of any float type, computed in float32; float64 stays.
        labels: (N,) or (N, 1) integers.
        margin: In units of the metric.
        metric: ``"l2"``, ``"squared_l2"`` or ``"cosine"`` (1 - cosine, rows normalised inside).
        reduction: ``"mean"`` over the positive pairs, ``"sum"``, ``"nonzero"`` or ``"none"``.
        forgeries: (N,) bool: a negative for everyone, never an anchor or a positive.

    Returns:
        Scalar, or one value an ordered positive pair (in the order of rows, then columns) for ``"none"``;
        0 with a graph when there is no positive pair.

    Raises:
        InputError: Labels, types, a metric or a reduction that cannot be used.
    """
    return semi_hard(
        embeddings, labels, margin=margin, metric=metric, reduction=reduction, forgeries=forgeries
    ).loss


def semi_hard(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float = 1.0,
    metric: Metric = "l2",
    reduction: str = "mean",
    forgeries: Tensor | None = None,
) -> LossOutput:
    """:func:`semi_hard_triplet_loss` with statistics over the ordered positive pairs.

    ``valid_terms`` counts the pairs whose anchor has a negative.
    """
    embeddings = check_embeddings(embeddings)
    kin = relations(check_labels(labels, embeddings), forgeries)
    if len(embeddings) == 0:
        return empty_batch(embeddings)
    with torch.no_grad():
        distances = distance_matrix(embeddings, metric)
        anchor, positive = kin.positive.nonzero(as_tuple=True)
        negative = _mine(distances, kin, anchor, positive)
        has_negative = kin.negative.any(dim=1)[anchor]
        farthest, nearest = (pick(distances, other) for other in hardest(distances, kin))
    near = paired_distances(embeddings[anchor], embeddings[positive], metric)
    far = paired_distances(embeddings[anchor], embeddings[negative], metric)
    terms = torch.relu(near - torch.where(has_negative, far, 0.0) + margin)
    statistics = batch_statistics(
        embeddings,
        kin,
        active=((terms > ACTIVE_ABOVE) & has_negative).sum(),
        valid=has_negative.sum(),
        farthest=farthest,
        nearest=nearest,
    )
    return LossOutput(reduce_terms(terms, reduction, embeddings), statistics)


def _mine(distances: Tensor, kin: Relations, anchor: Tensor, positive: Tensor) -> Tensor:
    """(P,) the negative of each pair, as a row number."""
    farthest = distances.masked_fill(~kin.negative, -1.0).argmax(dim=1)
    to_negatives = distances.masked_fill(~kin.negative, torch.inf)
    chosen = torch.empty_like(anchor)
    step = max(1, _AT_ONCE // len(distances))
    for start in range(0, len(anchor), step):
        a, p = anchor[start : start + step], positive[start : start + step]
        beyond = to_negatives[a]
        beyond.masked_fill_(beyond <= distances[a, p][:, None], torch.inf)
        nearest, where = beyond.min(dim=1)
        chosen[start : start + step] = torch.where(nearest.isfinite(), where, farthest[a])
    return chosen
