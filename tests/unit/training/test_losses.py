"""Each loss against a plain loop in float64, and against what everybody must be able to rely on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.training import loss_references as reference
from verifykit_training.losses import (
    batch_all_triplet_loss,
    batch_hard_triplet_loss,
    build_loss,
    contrastive_loss,
    margin_softmax_loss,
    semi_hard_triplet_loss,
    supervised_contrastive_loss,
    triplet_loss,
)

METRICS = ["l2", "squared_l2", "cosine"]


def contrastive_batch(embeddings: Any, labels: Any, **options: Any) -> Any:
    return build_loss("contrastive")(embeddings, labels, **options).loss


# Name to (ours, plain loop on a Batch, metrics).
BATCH: dict[str, tuple[Callable[..., Any], Callable[[reference.Batch], float], list[str]]] = {
    "all": (batch_all_triplet_loss, lambda b: reference.batch_all(b, 0.2, "nonzero"), METRICS),
    "all-mean": (
        lambda e, y, **o: batch_all_triplet_loss(e, y, reduction="mean", **o),
        lambda b: reference.batch_all(b, 0.2, "mean"),
        METRICS,
    ),
    "all-sum": (
        lambda e, y, **o: batch_all_triplet_loss(e, y, margin=1.0, reduction="sum", **o),
        lambda b: reference.batch_all(b, 1.0, "sum"),
        METRICS,
    ),
    "hard": (batch_hard_triplet_loss, lambda b: reference.batch_hard(b, 0.2, soft=False), METRICS),
    "hard-soft": (
        lambda e, y, **o: batch_hard_triplet_loss(e, y, soft=True, **o),
        lambda b: reference.batch_hard(b, 0.2, soft=True),
        METRICS,
    ),
    "semi-hard": (semi_hard_triplet_loss, lambda b: reference.semi_hard(b, 1.0), METRICS),
    "contrastive": (
        lambda e, y, metric, **o: contrastive_batch(e, y, **o),
        lambda b: reference.contrastive(b, 1.0),
        ["l2"],
    ),
    "supervised-contrastive": (
        lambda e, y, metric, **o: supervised_contrastive_loss(e, y, **o),
        lambda b: reference.supervised_contrastive(b, 0.1),
        ["cosine"],
    ),
}
CASES = [(name, metric) for name, (_, _, metrics) in BATCH.items() for metric in metrics]

LABELS = {
    "pk": [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3],
    "shuffled": [7, -2, 7, 5, 5, -2, 7, 9, 5, 5, 1, -2],
    "one-class": [4] * 6,
    "all-unique": list(range(6)),
    "single-row": [3],
    "two-of-one": [3, 3],
    "none": [],
}


def rows_for(labels: list[int], seed: int = 0, collapsed: bool = False) -> Any:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(len(labels), 6, dtype=torch.float64, generator=generator)
    return torch.ones_like(rows) if collapsed else rows * 0.5


@pytest.mark.parametrize(("name", "metric"), CASES)
@pytest.mark.parametrize("collapsed", [False, True], ids=["spread", "collapsed"])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_batch_loss_is_the_plain_loop(
    name: str, metric: str, labels: list[int], collapsed: bool
) -> None:
    ours, loop, _ = BATCH[name]
    rows = rows_for(labels, collapsed=collapsed).requires_grad_()
    loss = ours(rows, torch.tensor(labels, dtype=torch.int64), metric=metric)
    wanted = loop(reference.Batch(rows.tolist(), labels, metric))
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(wanted, abs=1e-6)
    loss.backward()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()


@pytest.mark.parametrize(("name", "metric"), CASES)
def test_a_forgery_is_a_negative_and_nothing_else(name: str, metric: str) -> None:
    ours, loop, _ = BATCH[name]
    labels = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    forged = [False, True, False, True, True, False, False, False, True, True]
    rows = rows_for(labels)
    mask = torch.tensor(forged)
    loss = ours(rows, torch.tensor(labels), metric=metric, forgeries=mask)
    wanted = loop(reference.Batch(rows.tolist(), labels, metric, forged))
    assert loss.item() == pytest.approx(wanted, abs=1e-6)
    none = torch.zeros(len(labels), dtype=torch.bool)
    assert torch.equal(
        ours(rows, torch.tensor(labels), metric=metric, forgeries=none),
        ours(rows, torch.tensor(labels), metric=metric),
    )
    nobody = rows.clone().requires_grad_()
    zero = ours(nobody, torch.tensor(labels), metric=metric, forgeries=~none)
    zero.backward()
    assert zero.item() == 0.0
    assert not nobody.grad.any()


# Few values, so that equal rows, equal distances and zero rows are common.
@st.composite
def batches(draw: st.DrawFn) -> tuple[list[list[float]], list[int], list[bool]]:
    count = draw(st.integers(1, 9))
    rows = draw(
        st.lists(
            st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=3, max_size=3),
            min_size=count,
            max_size=count,
        )
    )
    labels = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    forged = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    return rows, labels, forged


@pytest.mark.parametrize(
    ("name", "metric"), [c for c in CASES if c != ("semi-hard", "cosine") and c[0] != "all-mean"]
)
@settings(max_examples=15, deadline=None)
@given(batch=batches(), shuffle=st.randoms(use_true_random=False))
def test_ties_zero_rows_and_any_order(name: str, metric: str, batch: Any, shuffle: Any) -> None:
    ours, loop, _ = BATCH[name]
    rows, labels, forged = batch
    tensor = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
    target, mask = torch.tensor(labels), torch.tensor(forged)
    loss = ours(tensor, target, metric=metric, forgeries=mask)
    # "nonzero" divides by a count that rounding decides where a hinge is exactly 0.
    exact = reference.Batch(rows, labels, metric, forged)
    if name != "all" or _hinges_are_clear(exact, 0.2):
        assert loss.item() == pytest.approx(loop(exact), abs=1e-6)
    loss.backward()
    assert tensor.grad is not None
    assert tensor.grad.isfinite().all()
    assert tensor.grad.abs().max() < 1e3
    order = list(range(len(rows)))
    shuffle.shuffle(order)
    again = ours(tensor.detach()[order], target[order], metric=metric, forgeries=mask[order])
    if metric != "cosine" or name == "supervised-contrastive":
        assert again.item() == pytest.approx(loss.item(), abs=1e-9)


def _hinges_are_clear(batch: reference.Batch, margin: float) -> bool:
    return all(
        abs(batch.d[a][p] - batch.d[a][n] + margin) > 1e-9
        for a, p in batch.pairs()
        for n in batch.negatives(a)
    )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none", "nonzero"])
def test_triplet_loss_is_the_plain_loop(metric: str, reduction: str) -> None:
    anchor, positive, negative = rows_for([0] * 24).view(3, 8, 6)
    terms = [
        max(0.0, reference.distance(a, p, metric) - reference.distance(a, n, metric) + 0.2)
        for a, p, n in zip(anchor.tolist(), positive.tolist(), negative.tolist(), strict=True)
    ]
    wanted = {
        "mean": np.mean(terms),
        "sum": np.sum(terms),
        "none": terms,
        "nonzero": np.sum(terms) / np.count_nonzero(terms),
    }
    loss = triplet_loss(anchor, positive, negative, metric=metric, reduction=reduction)
    assert loss.tolist() == pytest.approx(wanted[reduction], abs=1e-6)


def test_triplet_loss_without_triplets_is_zero_with_a_graph() -> None:
    rows = torch.zeros(0, 4, requires_grad=True)
    loss = triplet_loss(rows, rows, rows)
    loss.backward()
    assert loss.item() == 0.0


@pytest.mark.parametrize("same_dtype", [torch.bool, torch.int64, torch.uint8])
def test_contrastive_loss_is_the_plain_loop(same_dtype: Any) -> None:
    left, right = rows_for([0] * 20).view(2, 10, 6)
    same = [1, 0, 0, 1, 1, 0, 1, 0, 0, 1]
    terms = [
        d**2 if y else max(0.0, 1.5 - d) ** 2
        for d, y in zip(
            [
                reference.distance(a, b, "l2")
                for a, b in zip(left.tolist(), right.tolist(), strict=True)
            ],
            same,
            strict=True,
        )
    ]
    target = torch.tensor(same).to(same_dtype)
    for given_as in (target, target[:, None]):
        loss = contrastive_loss(left, right, given_as, margin=1.5)
        assert loss.item() == pytest.approx(np.mean(terms), abs=1e-6)


@pytest.mark.parametrize("kind", ["cosface", "arcface"])
def test_margin_softmax_is_the_plain_loop(kind: str) -> None:
    labels = [0, 1, 2, 1, 0, 4]
    rows, directions = rows_for(labels), rows_for([0] * 5, seed=1)
    directions[4] = -rows[5]  # an angle of pi, which the margin would turn beyond
    loss = margin_softmax_loss(
        rows, torch.tensor(labels), directions, kind=kind, margin=0.4, scale=8.0
    )
    wanted = reference.margin_softmax(rows.tolist(), labels, directions.tolist(), kind, 0.4, 8.0)
    # The cosine is held 1e-6 away from -1 and 1.
    assert loss.item() == pytest.approx(wanted, abs=1e-5 if kind == "arcface" else 1e-6)


@pytest.mark.parametrize(("name", "metric"), CASES)
def test_gradients_are_those_of_differences(name: str, metric: str) -> None:
    ours, _, _ = BATCH[name]
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 2])
    forgeries = torch.tensor([False] * 6 + [True])
    rows = rows_for(labels.tolist(), seed=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ours(x, labels, metric=metric), (rows,))
    assert torch.autograd.gradcheck(
        lambda x: ours(x, labels, metric=metric, forgeries=forgeries), (rows,)
    )


def test_gradients_of_the_losses_over_chosen_rows() -> None:
    a, p, n = (part.clone().requires_grad_() for part in rows_for([0] * 15).view(3, 5, 6))
    same = torch.tensor([True, False, False, True, False])
    for metric in METRICS:
        assert torch.autograd.gradcheck(
            lambda *rows, metric=metric: triplet_loss(*rows, metric=metric), (a, p, n)
        )
    assert torch.autograd.gradcheck(lambda x, y: contrastive_loss(x, y, same), (a, p))
    labels = torch.tensor([0, 2, 1, 1, 0])
    for kind in ("cosface", "arcface"):
        assert torch.autograd.gradcheck(
            lambda x, w, kind=kind: margin_softmax_loss(x, labels, w, kind=kind), (a, p)
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("name", "metric"), CASES)
def test_every_float_type_is_computed_in_float32(name: str, metric: str, dtype: Any) -> None:
    ours, _, _ = BATCH[name]
    labels = torch.tensor(LABELS["pk"])
    rows = (rows_for(LABELS["pk"]) * 40).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ours(rows, labels, metric=metric)
    exact = ours(rows.detach().double(), labels, metric=metric)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5, abs=1e-5)
    loss.backward()
    assert rows.grad.dtype == dtype
    assert rows.grad.isfinite().all()


def test_a_zero_row_moves_nothing() -> None:
    rows = rows_for([0, 0, 1, 1])
    rows[0] = 0
    for name in ("batch_all", "batch_hard", "semi_hard"):
        row = rows.clone().float().requires_grad_()
        build_loss(name, metric="cosine")(row, torch.tensor([0, 0, 1, 1])).loss.backward()
        assert row.grad.abs().max() < 100
        assert not row.grad[0].any()
