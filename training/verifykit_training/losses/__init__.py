"""Losses: pure functions, and modules around them that a training configuration can name.

Every module maps ``(embeddings, labels, forgeries=None)`` to a :class:`LossOutput`. The embeddings may
come from several processes, gathered with gradients: a loss sees nothing but rows and labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from verifykit.errors import InputError, shown
from verifykit_training.losses.batch_all import batch_all, batch_all_triplet_loss
from verifykit_training.losses.batch_hard import batch_hard, batch_hard_triplet_loss
from verifykit_training.losses.contrastive import contrastive_loss, contrastive_pairs
from verifykit_training.losses.decision import DecisionLoss
from verifykit_training.losses.margin_softmax import MarginSoftmax, margin_softmax_loss
from verifykit_training.losses.outcome import LossOutput
from verifykit_training.losses.semi_hard import semi_hard, semi_hard_triplet_loss
from verifykit_training.losses.supervised_contrastive import (
    supervised_contrastive,
    supervised_contrastive_loss,
)
from verifykit_training.losses.triplet import explicit_triplets, triplet_loss
from verifykit_training.options import check_options, hint, option_types

__all__ = [
    "LOSSES",
    "MARGIN_LOSSES",
    "BatchLoss",
    "DecisionLoss",
    "LossOutput",
    "MarginSoftmax",
    "batch_all_triplet_loss",
    "batch_hard_triplet_loss",
    "build_loss",
    "contrastive_loss",
    "loss_options",
    "margin_softmax_loss",
    "semi_hard_triplet_loss",
    "supervised_contrastive_loss",
    "triplet_loss",
]


_BATCH_LOSSES: dict[str, Callable[..., LossOutput]] = {
    "triplet": explicit_triplets,
    "contrastive": contrastive_pairs,
    "batch_all": batch_all,
    "batch_hard": batch_hard,
    "semi_hard": semi_hard,
    "supervised_contrastive": supervised_contrastive,
}
MARGIN_LOSSES = ("cosface", "arcface")

LOSSES = (*_BATCH_LOSSES, "decision", *MARGIN_LOSSES)

_NOT_OPTIONS = ("embeddings", "labels", "forgeries", "classes", "embedding_size", "kind")


class BatchLoss(nn.Module):
    """A loss function with its options, as a module without parameters.

    Args:
        compute: Maps ``(embeddings, labels, forgeries=..., **options)`` to a :class:`LossOutput`.
        **options: Its keyword arguments.
    """

    def __init__(self, compute: Callable[..., LossOutput], **options: Any) -> None:
        super().__init__()
        self.compute = compute
        self.options = options

    def forward(
        self, embeddings: Tensor, labels: Tensor, forgeries: Tensor | None = None
    ) -> LossOutput:
        """The loss of one batch.

        Args:
            embeddings: (N, D) of any float type.
            labels: (N,) or (N, 1) integers.
            forgeries: (N,) bool, True for skilled forgeries of the subject in ``labels``.

        Returns:
            The loss and its statistics.
        """
        return self.compute(embeddings, labels, forgeries=forgeries, **self.options)

    def extra_repr(self) -> str:
        """The function and its options, for ``print``."""
        return ", ".join(
            [self.compute.__name__, *(f"{k}={shown(v)}" for k, v in self.options.items())]
        )


def build_loss(
    name: str, *, classes: int | None = None, embedding_size: int | None = None, **options: Any
) -> nn.Module:
    """A loss by its name.

    Args:
        name: One of :data:`LOSSES`. ``"triplet"`` wants batches of interleaved triplets, the others
            any batch that holds several images of a subject.
        classes: Number of training subjects; used by ``"cosface"`` and ``"arcface"`` alone, which
            have one trained direction for each.
        embedding_size: Length of an embedding; as ``classes``.
        **options: The loss's own, such as ``margin`` or ``metric``.

    Returns:
        A module that maps ``(embeddings, labels, forgeries=None)`` to a :class:`LossOutput`.

    Raises:
        InputError: No such loss, no such option, one of another type, or ``classes`` missing.
    """
    check_options(f"loss {shown(name)}", options, loss_options(name))
    if name in _BATCH_LOSSES:
        return BatchLoss(_BATCH_LOSSES[name], **options)
    if name == "decision":
        return DecisionLoss(**options)
    if classes is None or embedding_size is None:
        raise InputError(f"loss {shown(name)} needs classes and embedding_size")
    return MarginSoftmax(
        classes, embedding_size, kind="cosface" if name == "cosface" else "arcface", **options
    )


def loss_options(name: str) -> dict[str, Any]:
    """Return the options of a loss by name, each with its type.

    Args:
        name: One of :data:`LOSSES`.

    Returns:
        Name to type annotation.

    Raises:
        InputError: No such loss.
    """
    if name not in LOSSES:
        raise InputError(f"there is no loss {shown(name)}; {hint(name, LOSSES)}")
    functions: dict[str, Callable[..., Any]] = {**_BATCH_LOSSES, "decision": DecisionLoss}
    return option_types(functions.get(name, MarginSoftmax), _NOT_OPTIONS)
