"""Batch-hard: for every anchor its farthest positive and its nearest negative."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from verifykit_training.losses.batch import check_embeddings, check_labels, relations
from verifykit_training.losses.distance import Metric, distance_matrix, paired_distances
from verifykit_training.losses.outcome import ACTIVE_ABOVE, LossOutput, reduce_terms
from verifykit_training.losses.statistics import batch_statistics, empty_batch, hardest


def batch_hard_triplet_loss(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.2,
    metric: Metric = "l2",
    soft: bool = False,
    reduction: str = "mean",
    forgeries: Tensor | None = None,
) -> Tensor:
    """``max(0, hardest positive - hardest negative + margin)`` of each anchor.

    Hermans, Beyer and Leibe, "In Defense of the Triplet Loss for Person Re-Identification", 2017,
    equation 5. A row without a positive has 0 for it; a row without a negative has its largest distance
    for it, to whatever row. pytorch-metric-learning's ``BatchHardMiner`` leaves such rows out, and
    its reducer those whose term is 0.

    Args:
        embeddings: (N, D) of any float type, computed in float32; float64 stays.
        labels: (N,) or (N, 1) integers.
        margin: In units of the metric; not used when ``soft``.
        metric: ``"l2"``, ``"squared_l2"`` or ``"cosine"`` (1 - cosine, rows normalised inside).
        soft: ``softplus(hardest positive - hardest negative)`` instead.
        reduction: ``"mean"`` over the N rows (over the genuine ones when there are forgeries),
            ``"sum"``, ``"nonzero"`` (over the active ones) or ``"none"``.
        forgeries: (N,) bool: a negative for everyone, never an anchor or a positive.

    Returns:
        Scalar, or one value an anchor for ``"none"``; 0 with a graph when there is no anchor.

    Raises:
        InputError: Labels, types, a metric or a reduction that cannot be used.
    """
    return batch_hard(
        embeddings,
        labels,
        margin=margin,
        metric=metric,
        soft=soft,
        reduction=reduction,
        forgeries=forgeries,
    ).loss


def batch_hard(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.2,
    metric: Metric = "l2",
    soft: bool = False,
    reduction: str = "mean",
    forgeries: Tensor | None = None,
) -> LossOutput:
    """:func:`batch_hard_triplet_loss` with statistics; ``active_share`` is the share of rows.

    ``valid_terms`` counts the anchors that have both a positive and a negative. With ``soft``, active is
    a row whose hardest negative is not farther than its hardest positive.
    """
    embeddings = check_embeddings(embeddings)
    kin = relations(check_labels(labels, embeddings), forgeries)
    if len(embeddings) == 0:
        return empty_batch(embeddings)
    with torch.no_grad():
        distances = distance_matrix(embeddings, metric)
        farthest, nearest = hardest(distances, kin)
        has_positive, has_negative = kin.positive.any(dim=1), kin.negative.any(dim=1)
        if not bool(has_negative.all()):
            nearest = torch.where(has_negative, nearest, distances.argmax(dim=1))
    # Mined without a graph, then only the chosen pairs with one: N of N * N distances.
    near = paired_distances(embeddings, embeddings[farthest], metric)
    near = torch.where(has_positive, near, 0.0)
    far = paired_distances(embeddings, embeddings[nearest], metric)
    far = torch.where(nearest == torch.arange(len(far), device=far.device), 0.0, far)
    terms = functional.softplus(near - far) if soft else torch.relu(near - far + margin)
    active = near >= far if soft else terms > ACTIVE_ABOVE
    valid = kin.anchors & has_positive & has_negative
    statistics = batch_statistics(
        embeddings,
        kin,
        active=(active & valid).sum(),
        valid=valid.sum(),
        farthest=near,
        nearest=far,
    )
    return LossOutput(reduce_terms(terms[kin.anchors], reduction, embeddings), statistics)
