"""Supervised contrastive: every positive of an anchor at once, against the whole batch."""

from __future__ import annotations

import torch
from torch import Tensor

from verifykit.errors import InputError
from verifykit_training.losses.batch import check_embeddings, check_labels, relations
from verifykit_training.losses.distance import unit_rows
from verifykit_training.losses.outcome import LossOutput, reduce_terms
from verifykit_training.losses.statistics import batch_statistics, empty_batch, hardest, pick


def supervised_contrastive_loss(
    embeddings: Tensor,
    labels: Tensor,
    *,
    temperature: float = 0.1,
    reduction: str = "mean",
    forgeries: Tensor | None = None,
) -> Tensor:
    """Minus the mean log-probability of an anchor's positives among all other rows.

    Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, equation 2 (the sum outside the
    logarithm), as pytorch-metric-learning's ``SupConLoss``.

    Args:
        embeddings: (N, D) of any float type, computed in float32; float64 stays; normalised inside.
        labels: (N,) or (N, 1) integers.
        temperature: Divides the cosine similarities, > 0.
        reduction: ``"mean"`` over the anchors that have a positive, ``"sum"``, ``"nonzero"`` or
            ``"none"``.
        forgeries: (N,) bool: in every anchor's denominator, never an anchor or a positive.

    Returns:
        Scalar, or one value an anchor that has a positive for ``"none"``; 0 with a graph when none has.

    Raises:
        InputError: Labels, types, a temperature or a reduction that cannot be used.
    """
    return supervised_contrastive(
        embeddings, labels, temperature=temperature, reduction=reduction, forgeries=forgeries
    ).loss


def supervised_contrastive(
    embeddings: Tensor,
    labels: Tensor,
    *,
    temperature: float = 0.1,
    reduction: str = "mean",
    forgeries: Tensor | None = None,
) -> LossOutput:
    """:func:`supervised_contrastive_loss` with statistics over the anchors that have a positive.

    Active is an anchor with a negative at least as near as its farthest positive; the distances are
    1 - cosine.
    """
    if not temperature > 0:
        raise InputError(f"temperature must be above 0, got {temperature}")
    embeddings = check_embeddings(embeddings)
    kin = relations(check_labels(labels, embeddings), forgeries)
    if len(embeddings) == 0:
        return empty_batch(embeddings)
    with torch.autocast(embeddings.device.type, enabled=False):
        rows = unit_rows(embeddings)
        cosine = rows @ rows.T
        others = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
        logits = (cosine / temperature).masked_fill(others, -torch.inf)
        log_probability = logits - logits.logsumexp(dim=1, keepdim=True)
        counts = kin.positive.sum(dim=1)
        anchors = counts > 0
        chosen = log_probability.masked_fill(~kin.positive, 0.0)[anchors]
        terms = -chosen.sum(dim=1) / counts[anchors]
    with torch.no_grad():
        distances = 1.0 - cosine.detach()
        farthest, nearest = (pick(distances, other) for other in hardest(distances, kin))
    statistics = batch_statistics(
        embeddings,
        kin,
        active=((farthest >= nearest) & kin.negative.any(dim=1))[anchors].sum(),
        valid=anchors.sum(),
        farthest=farthest,
        nearest=nearest,
    )
    return LossOutput(reduce_terms(terms, reduction, embeddings), statistics)
