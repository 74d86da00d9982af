"""Our losses against pytorch-metric-learning's, where the definitions agree.

Where they do not: its ``ContrastiveLoss`` does not square, its semi-hard miner keeps every triplet within the
margin instead of choosing one negative a pair, and ``BatchHardMiner`` leaves out rows without a positive
or a negative.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from verifykit_training import losses as ours


@pytest.fixture
def peer() -> Any:
    return pytest.importorskip("pytorch_metric_learning")


@pytest.fixture
def batch() -> tuple[Any, Any]:
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 3])
    rows = torch.randn(12, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    return rows, labels


@pytest.mark.parametrize("metric", ["l2", "squared_l2", "cosine"])
def test_batch_all(peer: Any, batch: tuple[Any, Any], metric: str) -> None:
    from pytorch_metric_learning.losses import TripletMarginLoss

    theirs = TripletMarginLoss(margin=0.2, distance=_distance(metric))(*batch)
    loss = ours.batch_all_triplet_loss(*batch, metric=metric)
    assert loss.item() == pytest.approx(theirs.item(), abs=1e-6)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("metric", ["l2", "squared_l2", "cosine"])
def test_batch_hard(peer: Any, batch: tuple[Any, Any], metric: str, soft: bool) -> None:
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.miners import BatchHardMiner
    from pytorch_metric_learning.reducers import MeanReducer

    loss = TripletMarginLoss(
        margin=0.0 if soft else 0.2,
        smooth_loss=soft,
        distance=_distance(metric),
        reducer=MeanReducer(),
    )
    mined = BatchHardMiner(distance=_distance(metric))(*batch)
    theirs = loss(*batch, mined)
    found = ours.batch_hard_triplet_loss(*batch, metric=metric, soft=soft)
    assert found.item() == pytest.approx(theirs.item(), abs=1e-6)


def test_supervised_contrastive(peer: Any, batch: tuple[Any, Any]) -> None:
    from pytorch_metric_learning.losses import SupConLoss

    theirs = SupConLoss(temperature=0.1)(*batch)
    assert ours.supervised_contrastive_loss(*batch).item() == pytest.approx(theirs.item(), abs=1e-6)


@pytest.mark.parametrize("kind", ["cosface", "arcface"])
def test_margin_softmax(peer: Any, batch: tuple[Any, Any], kind: str) -> None:
    from pytorch_metric_learning.losses import ArcFaceLoss, CosFaceLoss

    margin = 0.35 if kind == "cosface" else math.degrees(0.5)
    theirs = (CosFaceLoss if kind == "cosface" else ArcFaceLoss)(4, 8, margin=margin, scale=30)
    theirs = theirs.double()
    module = ours.build_loss(kind, classes=4, embedding_size=8, scale=30.0).double()
    with torch.no_grad():
        module.weight.copy_(theirs.W.T)
    assert module(*batch).loss.item() == pytest.approx(theirs(*batch).item(), abs=1e-6)


@pytest.mark.parametrize("metric", ["l2", "squared_l2", "cosine"])
def test_triplets_against_torch(metric: str, batch: tuple[Any, Any]) -> None:
    distance = {
        "l2": lambda a, b: (a - b).norm(dim=1),
        "squared_l2": lambda a, b: (a - b).square().sum(dim=1),
        "cosine": lambda a, b: 1 - torch.cosine_similarity(a, b),
    }[metric]
    anchor, positive, negative = batch[0].view(3, 4, 8)
    theirs = torch.nn.functional.triplet_margin_with_distance_loss(
        anchor, positive, negative, distance_function=distance, margin=0.2
    )
    loss = ours.triplet_loss(anchor, positive, negative, metric=metric)
    assert loss.item() == pytest.approx(theirs.item(), abs=1e-6)


def _distance(metric: str) -> Any:
    from pytorch_metric_learning.distances import BaseDistance, LpDistance

    if metric != "cosine":
        return LpDistance(normalize_embeddings=False, power=2 if metric == "squared_l2" else 1)

    class OneMinusCosine(BaseDistance):
        def __init__(self) -> None:
            super().__init__(normalize_embeddings=True)

        def compute_mat(self, query: Any, reference: Any) -> Any:
            return 1 - query @ reference.T

        def pairwise_distance(self, query: Any, reference: Any) -> Any:
            return 1 - (query * reference).sum(dim=1)

    return OneMinusCosine()
