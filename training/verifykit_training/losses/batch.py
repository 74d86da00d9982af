"""What a batch must look like, and who is whose positive and negative in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verifykit.errors import InputError


@dataclass(frozen=True)
class Relations:
    """Who is whose positive and negative.

    Attributes:
        anchors: (N,) bool, rows that may be anchors: all but the forgeries.
        positive: (N, N) bool, ``[anchor, other]``: another genuine row of the anchor's subject.
        negative: (N, N) bool, ``[anchor, other]``: a row of another subject, or a forgery.
    """

    anchors: Tensor
    positive: Tensor
    negative: Tensor


def check_embeddings(embeddings: Tensor, name: str = "embeddings") -> Tensor:
    """(N, D) of any float type, as float32; float64 stays.

    Raises:
        InputError: Another shape, or not a float type.
    """
    if embeddings.ndim != 2:
        raise InputError(f"{name} must be (N, D), got shape {tuple(embeddings.shape)}")
    if not embeddings.is_floating_point():
        raise InputError(f"{name} must be of a float type, got {embeddings.dtype}")
    return embeddings if embeddings.dtype == torch.float64 else embeddings.float()


def check_labels(labels: Tensor, embeddings: Tensor) -> Tensor:
    """(N,) or (N, 1) integers, as (N,) on the device of the embeddings.

    Raises:
        InputError: Floats, one-hot rows, booleans, or another number than of embeddings; it says why.
    """
    if labels.ndim == 2 and labels.shape[1] != 1:
        raise InputError(
            f"labels must be (N,) integers, got shape {tuple(labels.shape)}: one-hot rows would be "
            "compared as if they were subjects; pass labels.argmax(dim=1)"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InputError(
            f"labels must be integers, got {labels.dtype}: subjects are compared for equality, which "
            "floats do not keep; pass labels.long() if they are whole numbers"
        )
    if labels.ndim not in (1, 2) or labels.shape[0] != embeddings.shape[0]:
        raise InputError(
            f"labels must be (N,) with one label a row, got shape {tuple(labels.shape)} for "
            f"embeddings of shape {tuple(embeddings.shape)}"
        )
    return labels.reshape(-1).to(embeddings.device)


def check_forgeries(forgeries: Tensor | None, labels: Tensor) -> Tensor:
    """(N,) bool, all False for None.

    Raises:
        InputError: Not boolean, or another number than of labels.
    """
    if forgeries is None:
        return torch.zeros_like(labels, dtype=torch.bool)
    if forgeries.dtype != torch.bool or forgeries.shape != labels.shape:
        raise InputError(
            f"forgeries must be a boolean mask of shape {tuple(labels.shape)}, got {forgeries.dtype} "
            f"of shape {tuple(forgeries.shape)}"
        )
    return forgeries.to(labels.device)


def relations(labels: Tensor, forgeries: Tensor | None = None) -> Relations:
    """Positives and negatives of every anchor.

    A skilled forgery carries the label of the subject that it imitates. It is a negative for that
    subject, and for every other one, since none of them wrote it; it is never an anchor and never
    anyone's positive.

    Args:
        labels: (N,) integers, as :func:`check_labels` returns them.
        forgeries: (N,) bool, True for skilled forgeries; None is none.
    """
    forged = check_forgeries(forgeries, labels)
    genuine = ~forged
    same = labels[:, None] == labels[None, :]
    if forgeries is None:
        positive, negative = same.clone(), ~same
    else:
        positive = same & genuine[:, None] & genuine[None, :]
        negative = (~same | forged[None, :]) & genuine[:, None]
    positive.fill_diagonal_(False)
    return Relations(genuine, positive, negative)
