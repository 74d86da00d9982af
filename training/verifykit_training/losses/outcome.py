"""What every loss module returns, and how terms become one number."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from verifykit.errors import InputError, shown

# A term that does not exceed this is not counted as active.
ACTIVE_ABOVE = 1e-16


@dataclass(frozen=True)
class LossOutput:
    """A loss and what it saw.

    Attributes:
        loss: Scalar (or one value a term for ``reduction="none"``), float32 or float64, with the graph.
        statistics: Scalars without a graph. All losses have ``embedding_norm`` (mean length of a row),
            ``valid_terms`` (how many triplets, pairs or rows there were to learn from; 0 means that the
            batch taught nothing) and ``active_share`` (the share of them that is above zero, 0 when
            there are none). Those that compare rows have ``hardest_positive`` and
            ``hardest_negative`` too: the mean over the rows of the distance to the farthest positive
            and to the nearest negative, NaN if no row has one.
    """

    loss: Tensor
    statistics: dict[str, Tensor]


def nothing_valid(embeddings: Tensor) -> Tensor:
    """A zero that hangs on the embeddings, so that ``backward`` works and gives zero gradients."""
    return embeddings.sum() * 0.0


def reduce_terms(terms: Tensor, reduction: str, embeddings: Tensor) -> Tensor:
    """Terms to a loss.

    Args:
        terms: (T,) not negative.
        reduction: ``"mean"``, ``"sum"``, ``"nonzero"`` (sum over the number of terms above 1e-16) or
            ``"none"``.
        embeddings: What the graph hangs on when there are no terms.

    Returns:
        A scalar, or ``terms`` as they are for ``"none"``.

    Raises:
        InputError: Another reduction.
    """
    if reduction == "none":
        return terms
    if reduction not in ("mean", "sum", "nonzero"):
        raise InputError(f'reduction is "mean", "sum", "nonzero" or "none", got {shown(reduction)}')
    if terms.numel() == 0:
        return nothing_valid(embeddings)
    if reduction == "mean":
        return terms.mean()
    if reduction == "sum":
        return terms.sum()
    return terms.sum() / (terms > ACTIVE_ABOVE).sum().clamp_min(1)
