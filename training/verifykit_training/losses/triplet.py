"""The triplet loss over given triplets."""

from __future__ import annotations

import torch
from torch import Tensor

from verifykit.errors import InputError
from verifykit_training.losses.batch import check_embeddings, check_forgeries, check_labels
from verifykit_training.losses.distance import Metric, paired_distances
from verifykit_training.losses.outcome import ACTIVE_ABOVE, LossOutput, reduce_terms


def triplet_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    margin: float = 0.2,
    metric: Metric = "squared_l2",
    reduction: str = "mean",
) -> Tensor:
    """``max(0, d(a, p) - d(a, n) + margin)`` (Schroff, Kalenichenko and Philbin, FaceNet, CVPR 2015).

    Args:
        anchor: (N, D) of any float type, computed in float32; float64 stays.
        positive: (N, D), of the anchor's subject.
        negative: (N, D), not of the anchor's subject.
        margin: In units of the metric.
        metric: ``"l2"``, ``"squared_l2"`` or ``"cosine"`` (1 - cosine, rows normalised inside).
        reduction: ``"mean"``, ``"sum"``, ``"nonzero"`` (over the active ones) or ``"none"``.

    Returns:
        Scalar, or (N,) for ``"none"``; 0 with a graph when N is 0.

    Raises:
        InputError: Shapes differ, or a type, a metric or a reduction that is not known.
    """
    anchor, near, far = _distances(anchor, positive, negative, metric)
    return reduce_terms(torch.relu(near - far + margin), reduction, anchor)


def _distances(
    anchor: Tensor, positive: Tensor, negative: Tensor, metric: Metric
) -> tuple[Tensor, Tensor, Tensor]:
    anchor = check_embeddings(anchor, "anchor")
    positive = check_embeddings(positive, "positive")
    negative = check_embeddings(negative, "negative")
    if not anchor.shape == positive.shape == negative.shape:
        raise InputError(
            "anchor, positive and negative must have one shape, got "
            f"{tuple(anchor.shape)}, {tuple(positive.shape)} and {tuple(negative.shape)}"
        )
    near = paired_distances(anchor, positive, metric)
    return anchor, near, paired_distances(anchor, negative, metric)


def explicit_triplets(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.2,
    metric: Metric = "squared_l2",
    reduction: str = "mean",
    forgeries: Tensor | None = None,
) -> LossOutput:
    """:func:`triplet_loss` of a batch laid out anchor, positive, negative, anchor, positive, ...

    Interleaved, so that batches of several processes can be put one after the other.

    Args:
        embeddings: (3 T, D).
        labels: (3 T,) integers; what they say of each triplet must be true.
        margin: As there.
        metric: As there.
        reduction: As there.
        forgeries: (3 T,) bool; a forgery can only be the negative.

    Returns:
        The loss, and statistics over the T triplets.

    Raises:
        InputError: Not a multiple of three, or a triplet that contradicts the labels.
    """
    embeddings = check_embeddings(embeddings)
    labels = check_labels(labels, embeddings)
    forged = check_forgeries(forgeries, labels)
    if len(labels) % 3:
        raise InputError(
            f"triplets come as 3 T rows (anchor, positive, negative), got {len(labels)}"
        )
    subject, fake = labels.view(-1, 3), forged.view(-1, 3)
    wrong = (subject[:, 0] != subject[:, 1]) | fake[:, 0] | fake[:, 1]
    wrong |= (subject[:, 0] == subject[:, 2]) & ~fake[:, 2]
    if wrong.any():
        number = int(wrong.nonzero()[0])
        raise InputError(
            f"triplet {number} of the batch has the subjects {subject[number].tolist()} (forgeries "
            f"{fake[number].tolist()}): required are two genuine images of one subject, then one of another "
            "subject or a forgery"
        )
    anchor, positive, negative = embeddings.view(-1, 3, embeddings.shape[1]).unbind(1)
    anchor, near, far = _distances(anchor, positive, negative, metric)
    terms = torch.relu(near - far + margin)
    statistics = {
        "valid_terms": terms.new_tensor(len(terms)),
        "active_share": (terms > ACTIVE_ABOVE).sum() / max(len(terms), 1),
        "hardest_positive": near.detach().mean(),
        "hardest_negative": far.detach().mean(),
        "embedding_norm": torch.linalg.vector_norm(embeddings.detach(), dim=1).mean(),
    }
    return LossOutput(reduce_terms(terms, reduction, embeddings), statistics)
