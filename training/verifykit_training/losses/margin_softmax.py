"""Margin softmax: a classifier over the training subjects, for a start that cannot collapse."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from verifykit.errors import InputError, shown
from verifykit_training.losses.batch import check_embeddings, check_forgeries, check_labels
from verifykit_training.losses.distance import unit_rows
from verifykit_training.losses.outcome import LossOutput, reduce_terms

MarginKind = Literal["cosface", "arcface"]

# The derivative of the arc cosine is infinite at 1; float32 keeps this distance from it.
_COSINE_LIMIT = 1.0 - 1e-6


def margin_softmax_loss(
    embeddings: Tensor,
    labels: Tensor,
    weight: Tensor,
    *,
    kind: MarginKind = "cosface",
    margin: float = 0.35,
    scale: float = 30.0,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy over cosines to one direction a subject, the true one made harder by a margin.

    ``"cosface"``: ``cos - margin`` (Wang et al., CVPR 2018, equation 4). ``"arcface"``:
    ``cos(angle + margin)`` (Deng et al., CVPR 2019, equation 3), continued by ``cos - margin sin(margin)``
    where the angle would pass pi, as the authors' code does.

    Args:
        embeddings: (N, D) of any float type, computed in float32; float64 stays; normalised inside.
        labels: (N,) or (N, 1) integers in [0, C).
        weight: (C, D) one direction a subject; normalised inside.
        kind: Which margin.
        margin: Of the cosine, or in radians for ``"arcface"``.
        scale: Factor of the cosines, > 0.
        reduction: ``"mean"``, ``"sum"``, ``"nonzero"`` or ``"none"``.

    Returns:
        Scalar, or (N,) for ``"none"``; 0 with a graph when N is 0.

    Raises:
        InputError: Labels outside [0, C), shapes, types or options that cannot be used.
    """
    embeddings = check_embeddings(embeddings)
    labels = check_labels(labels, embeddings)
    with torch.autocast(embeddings.device.type, enabled=False):
        cosine = _cosines(embeddings, labels, weight)
        terms = _terms(cosine, labels, kind, margin, scale)
    return reduce_terms(terms, reduction, embeddings)


class MarginSoftmax(nn.Module):
    """:func:`margin_softmax_loss` with its own directions, one a subject, which are trained too.

    Args:
        classes: Number of subjects.
        embedding_size: Length of an embedding.
        kind: ``"cosface"`` or ``"arcface"``.
        margin: None is 0.35 for ``"cosface"`` and 0.5 (radians) for ``"arcface"``.
        scale: Factor of the cosines.

    Raises:
        InputError: Another kind, or fewer than two classes.
    """

    def __init__(
        self,
        classes: int,
        embedding_size: int,
        *,
        kind: MarginKind = "cosface",
        margin: float | None = None,
        scale: float = 30.0,
    ) -> None:
        super().__init__()
        if kind not in ("cosface", "arcface"):
            raise InputError(f'kind is "cosface" or "arcface", got {shown(kind)}')
        if classes < 2:
            raise InputError(f"a softmax needs two subjects or more, got {classes}")
        self.kind: MarginKind = kind
        self.margin = (0.35 if kind == "cosface" else 0.5) if margin is None else margin
        self.scale = scale
        self.weight = nn.Parameter(torch.randn(classes, embedding_size))

    def forward(
        self, embeddings: Tensor, labels: Tensor, forgeries: Tensor | None = None
    ) -> LossOutput:
        """The loss over the genuine rows; a forgery has no class and takes no part.

        Args:
            embeddings: (N, D).
            labels: (N,) or (N, 1) integers in [0, classes).
            forgeries: (N,) bool.

        Returns:
            The loss, and ``accuracy`` and ``target_cosine`` (without the margin) next to ``valid_terms``,
            ``active_share`` (rows that are not of their own class once the margin is taken off) and
            ``embedding_norm``.
        """
        embeddings = check_embeddings(embeddings)
        labels = check_labels(labels, embeddings)
        genuine = ~check_forgeries(forgeries, labels)
        embeddings, labels = embeddings[genuine], labels[genuine]
        with torch.autocast(embeddings.device.type, enabled=False):
            cosine = _cosines(embeddings, labels, self.weight)
            terms = _terms(cosine, labels, self.kind, self.margin, self.scale)
        seen = cosine.detach()
        target = seen.gather(1, labels[:, None].long()).squeeze(1)
        others = seen.scatter(1, labels[:, None].long(), -torch.inf).amax(dim=1)
        hard = _with_margin(target, self.kind, self.margin)
        statistics = {
            "valid_terms": terms.new_tensor(len(terms)),
            "active_share": (hard <= others).sum() / max(len(terms), 1),
            "accuracy": (target > others).sum() / max(len(terms), 1),
            "target_cosine": target.mean(),
            "embedding_norm": torch.linalg.vector_norm(embeddings.detach(), dim=1).mean(),
        }
        return LossOutput(reduce_terms(terms, "mean", embeddings), statistics)

    def extra_repr(self) -> str:
        """The options, for ``print``."""
        return f"kind={shown(self.kind)}, margin={self.margin}, scale={self.scale}"


def _cosines(embeddings: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    if weight.ndim != 2 or weight.shape[1] != embeddings.shape[1]:
        raise InputError(
            f"weight must be (C, {embeddings.shape[1]}), one direction a subject, got "
            f"{tuple(weight.shape)}"
        )
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < len(weight):
        raise InputError(
            f"labels must be in [0, {len(weight)}), got {int(labels.min())} to {int(labels.max())}; "
            "number the training subjects from 0"
        )
    return unit_rows(embeddings) @ unit_rows(weight.to(embeddings.dtype)).T


def _terms(cosine: Tensor, labels: Tensor, kind: str, margin: float, scale: float) -> Tensor:
    index = labels[:, None].long()
    target = _with_margin(cosine.gather(1, index), kind, margin)
    return functional.cross_entropy(
        cosine.scatter(1, index, target) * scale, labels.long(), reduction="none"
    )


def _with_margin(cosine: Tensor, kind: str, margin: float) -> Tensor:
    if kind == "cosface":
        return cosine - margin
    cosine = cosine.clamp(-_COSINE_LIMIT, _COSINE_LIMIT)
    sine = (1.0 - cosine.square()).sqrt()
    turned = cosine * math.cos(margin) - sine * math.sin(margin)
    return torch.where(
        cosine > math.cos(math.pi - margin), turned, cosine - margin * math.sin(margin)
    )
