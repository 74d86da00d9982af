"""Distances between embeddings: all pairs, and pair by pair."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from verifykit.errors import InputError, shown

Metric = Literal["l2", "squared_l2", "cosine"]

_NO_DIRECTION = 1e-12


def unit_rows(embeddings: Tensor) -> Tensor:
    """Rows scaled to length 1; a zero row stays zero and gets a zero gradient.

    (``functional.normalize`` gives it a gradient 1e12 times too large.)
    """
    norm = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
    direction: Tensor = embeddings / norm.clamp_min(_NO_DIRECTION) * (norm > _NO_DIRECTION)
    return direction


def paired_distances(left: Tensor, right: Tensor, metric: Metric) -> Tensor:
    """Distance of each row of one to the same row of the other.

    Summed from differences, not from a matrix product: equal rows are at exactly 0, near ones keep
    their digits, and the gradient at distance 0 is 0.

    Args:
        left: (N, D) float32 or float64.
        right: (N, D).
        metric: ``"l2"``, ``"squared_l2"``, or ``"cosine"``: 1 - cosine similarity, in [0, 2], 1 to a
            zero row.

    Returns:
        (N,) not negative.

    Raises:
        InputError: Another metric.
    """
    if metric == "l2":
        length: Tensor = torch.linalg.vector_norm(left - right, dim=1)
        return length
    if metric == "squared_l2":
        return (left - right).square().sum(dim=1)
    _require_metric(metric)
    left, right = unit_rows(left), unit_rows(right)
    # 1 - u.v = |u - v|^2 / 2 for unit rows; a zero row is short of it by 1/2.
    return (left - right).square().sum(dim=1) / 2 + _shortfall(left) + _shortfall(right)


def distance_matrix(embeddings: Tensor, metric: Metric) -> Tensor:
    """Distance of every row to every row, from differences as in :func:`paired_distances`.

    Equal rows give equal distances to the last bit, so that ties are ties whatever the order of the
    batch; ``torch.cdist`` by matrix product does not keep that.

    Args:
        embeddings: (N, D) float32 or float64.
        metric: As in :func:`paired_distances`.

    Returns:
        (N, N) symmetric, zero on the diagonal.

    Raises:
        InputError: Another metric.
    """
    _require_metric(metric)
    count = embeddings.shape[0]
    rows = unit_rows(embeddings) if metric == "cosine" else embeddings
    above = torch.ones(count, count, dtype=torch.bool, device=rows.device).triu(1)
    pairs = functional.pdist(rows)
    if metric != "l2":
        pairs = pairs.square()
    half = rows.new_zeros(count, count).masked_scatter(above, pairs)
    matrix = half + half.T
    if metric == "cosine":
        short = _shortfall(rows)
        matrix = (matrix / 2 + short[:, None] + short[None, :]).fill_diagonal_(0.0)
    return matrix


def _shortfall(rows: Tensor) -> Tensor:
    return 0.5 * (rows.detach() == 0).all(dim=1)


def _require_metric(metric: str) -> None:
    if metric not in get_args(Metric):
        raise InputError(f'metric is "l2", "squared_l2" or "cosine", got {shown(metric)}')
