"""The contrastive loss over pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from verifykit.errors import InputError
from verifykit_training.losses.batch import check_embeddings, check_labels, relations
from verifykit_training.losses.distance import distance_matrix, paired_distances
from verifykit_training.losses.outcome import ACTIVE_ABOVE, LossOutput, reduce_terms
from verifykit_training.losses.statistics import batch_statistics, empty_batch, hardest, pick


def contrastive_loss(
    left: Tensor, right: Tensor, same: Tensor, *, margin: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """``y d^2 + (1 - y) max(0, margin - d)^2``, d Euclidean (Hadsell, Chopra and LeCun, CVPR 2006).

    The paper's factor 1/2 is left out, and its Y is turned: here y = 1 means the same subject.
    pytorch-metric-learning's ``ContrastiveLoss`` does not square.

    Args:
        left: (N, D) of any float type, computed in float32; float64 stays.
        right: (N, D).
        same: (N,) or (N, 1) bool, or integers 0 and 1: 1 for the same subject.
        margin: Beyond this distance pairs of two subjects cost nothing.
        reduction: ``"mean"``, ``"sum"``, ``"nonzero"`` or ``"none"``.

    Returns:
        Scalar, or (N,) for ``"none"``; 0 with a graph when N is 0.

    Raises:
        InputError: Shapes differ, ``same`` is neither boolean nor 0 and 1, or an unknown reduction.
    """
    left, right = check_embeddings(left, "left"), check_embeddings(right, "right")
    if left.shape != right.shape:
        raise InputError(
            f"left and right must have one shape, got {tuple(left.shape)} and {tuple(right.shape)}"
        )
    together = _check_same(same, left)
    return reduce_terms(
        _terms(paired_distances(left, right, "l2"), together, margin), reduction, left
    )


def contrastive_pairs(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float = 1.0,
    reduction: str = "mean",
    forgeries: Tensor | None = None,
) -> LossOutput:
    """:func:`contrastive_loss` over every pair of a batch, each pair once.

    Args:
        embeddings: (N, D).
        labels: (N,) or (N, 1) integers.
        margin: As there.
        reduction: As there.
        forgeries: (N,) bool; a pair of two forgeries is left out.

    Returns:
        The loss, and statistics over the pairs.

    Raises:
        InputError: Labels, types or a reduction that cannot be used.
    """
    embeddings = check_embeddings(embeddings)
    kin = relations(check_labels(labels, embeddings), forgeries)
    if len(embeddings) == 0:
        return empty_batch(embeddings)
    distances = distance_matrix(embeddings, "l2")
    compared = (kin.positive | kin.negative | kin.negative.T).triu(1)
    terms = _terms(distances[compared], kin.positive[compared], margin)
    seen = distances.detach()
    farthest, nearest = hardest(seen, kin)
    statistics = batch_statistics(
        embeddings,
        kin,
        active=(terms > ACTIVE_ABOVE).sum(),
        valid=len(terms),
        farthest=pick(seen, farthest),
        nearest=pick(seen, nearest),
    )
    return LossOutput(reduce_terms(terms, reduction, embeddings), statistics)


def _terms(distances: Tensor, together: Tensor, margin: float) -> Tensor:
    apart = torch.relu(margin - distances).square()
    return torch.where(together, distances.square(), apart)


def _check_same(same: Tensor, left: Tensor) -> Tensor:
    if same.is_floating_point() or same.numel() != len(left) or same.shape[0:1] != left.shape[0:1]:
        raise InputError(
            f"same must be ({len(left)},) booleans or integers 0 and 1, one a pair, got {same.dtype} of "
            f"shape {tuple(same.shape)}"
        )
    if same.dtype != torch.bool and not bool(((same == 0) | (same == 1)).all()):
        raise InputError(
            f"same must hold 0 and 1 only (1: the same subject), got values from {int(same.min())} to "
            f"{int(same.max())}; labels of subjects are for the batch losses"
        )
    return same.reshape(-1).to(left.device) == 1
