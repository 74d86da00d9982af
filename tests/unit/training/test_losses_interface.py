"""What losses refuse, what they record, and losses by name."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from verifykit.errors import InputError
from verifykit_training.losses import (
    LOSSES,
    batch_all_triplet_loss,
    batch_hard_triplet_loss,
    build_loss,
    contrastive_loss,
    margin_softmax_loss,
    semi_hard_triplet_loss,
    supervised_contrastive_loss,
    triplet_loss,
)

FUNCTIONS = [
    batch_all_triplet_loss,
    batch_hard_triplet_loss,
    semi_hard_triplet_loss,
    supervised_contrastive_loss,
]
ROWS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize("loss", FUNCTIONS)
class TestLabels:
    @pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8])
    def test_one_column_is_accepted(self, loss: Any, dtype: Any) -> None:
        assert torch.equal(loss(ROWS, LABELS[:, None].to(dtype)), loss(ROWS, LABELS))

    @pytest.mark.parametrize(
        ("labels", "reason"),
        [
            (LABELS.float(), "floats do not keep"),
            (LABELS.float()[:, None], "floats do not keep"),
            (torch.eye(3, dtype=torch.int64)[LABELS], "one-hot.*argmax"),
            (torch.eye(6), "one-hot.*argmax"),
            (LABELS > 0, "must be integers, got torch.bool"),
            (LABELS[:4], r"one label a row, got shape \(4,\)"),
            (LABELS.sum(), "one label a row"),
            (LABELS.view(2, 3, 1), "must be"),
        ],
    )
    def test_others_are_refused_with_the_reason(self, loss: Any, labels: Any, reason: str) -> None:
        with pytest.raises(InputError, match=reason):
            loss(ROWS, labels)

    def test_embeddings_and_masks_are_checked(self, loss: Any) -> None:
        with pytest.raises(InputError, match="float type, got torch"):
            loss(ROWS.long(), LABELS)
        with pytest.raises(InputError, match=r"\(N, D\), got shape \(6, 2, 2\)"):
            loss(ROWS.view(6, 2, 2), LABELS)
        with pytest.raises(InputError, match="boolean mask"):
            loss(ROWS, LABELS, forgeries=LABELS)
        with pytest.raises(InputError, match="boolean mask"):
            loss(ROWS, LABELS, forgeries=LABELS[:3] == 0)

    def test_an_unknown_reduction_is_refused(self, loss: Any) -> None:
        with pytest.raises(InputError, match=r"reduction is .* got 'avg'"):
            loss(ROWS, LABELS, reduction="avg")


@pytest.mark.parametrize("loss", FUNCTIONS[:3])
def test_an_unknown_metric_is_refused(loss: Any) -> None:
    with pytest.raises(InputError, match=r"metric is .* got 'euclid'"):
        loss(ROWS, LABELS, metric="euclid")


def test_pairs_and_triplets_are_checked() -> None:
    with pytest.raises(InputError, match="one shape"):
        triplet_loss(ROWS, ROWS, ROWS[:3])
    with pytest.raises(InputError, match="one shape"):
        contrastive_loss(ROWS, ROWS[:3], LABELS > 0)
    with pytest.raises(InputError, match="0 and 1 only"):
        contrastive_loss(ROWS, ROWS, LABELS)
    for wrong in (LABELS.float(), LABELS[:3] > 0):
        with pytest.raises(InputError, match="booleans or integers 0 and 1"):
            contrastive_loss(ROWS, ROWS, wrong)


def test_explicit_triplets_must_be_true() -> None:
    loss = build_loss("triplet", margin=0.3)
    layout = torch.tensor([0, 0, 1, 2, 2, 0])
    anchor, positive, negative = ROWS.view(2, 3, 4).unbind(1)
    wanted = triplet_loss(anchor, positive, negative, margin=0.3)
    output = loss(ROWS, layout)
    assert torch.equal(output.loss, wanted)
    assert output.statistics["valid_terms"] == 2
    for wrong in ([0, 1, 1, 2, 2, 0], [0, 0, 0, 2, 2, 0]):
        with pytest.raises(InputError, match="triplet 0 of the batch"):
            loss(ROWS, torch.tensor(wrong))
    imitation = torch.tensor([False, False, True, False, False, False])
    assert loss(ROWS, torch.tensor([0, 0, 0, 2, 2, 0]), imitation).loss == wanted
    with pytest.raises(InputError, match="triplet 0 of the batch"):
        loss(ROWS, layout, imitation.roll(-1))
    with pytest.raises(InputError, match="3 T rows"):
        loss(ROWS[:4], layout[:4])


def test_margin_softmax_needs_labels_that_number_the_subjects() -> None:
    loss = build_loss("cosface", classes=3, embedding_size=4)
    with pytest.raises(InputError, match=r"labels must be in \[0, 3\), got 0 to 3"):
        loss(ROWS, torch.tensor([0, 1, 2, 3, 0, 1]))
    with pytest.raises(InputError, match="weight must be"):
        margin_softmax_loss(ROWS, LABELS, torch.zeros(3, 5))
    genuine = torch.tensor([False, False, True, False, False, True])
    assert torch.equal(
        loss(ROWS, LABELS, genuine).loss, loss(ROWS[~genuine], LABELS[~genuine]).loss
    )
    for kind in ("cosface", "arcface"):
        module = build_loss(kind, classes=3, embedding_size=4, scale=7.0)
        same = margin_softmax_loss(
            ROWS, LABELS, module.weight, kind=kind, margin=module.margin, scale=7.0
        )
        assert module(ROWS, LABELS).loss.item() == pytest.approx(same.item(), abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_records_what_it_saw(name: str) -> None:
    labels = torch.tensor([0, 0, 1, 1, 1, 2]) if name == "triplet" else LABELS
    rows = ROWS.clone().requires_grad_()
    output = build_loss(name, classes=3, embedding_size=4)(rows, labels)
    assert output.loss.shape == ()
    assert {"valid_terms", "active_share", "embedding_norm"} <= set(output.statistics)
    for value in output.statistics.values():
        assert value.shape == ()
        assert not value.requires_grad
        assert value.is_floating_point()
    assert 0 <= output.statistics["active_share"] <= 1
    norm = torch.linalg.vector_norm(ROWS, dim=1).mean().item()
    assert output.statistics["embedding_norm"].item() == pytest.approx(norm)


def test_statistics_are_right_where_they_can_be_counted() -> None:
    rows = torch.tensor([[0.0], [1.0], [1.1], [3.0]])
    labels = torch.tensor([0, 0, 1, 1])
    seen = build_loss("batch_all", margin=0.2)(rows, labels).statistics
    # Positive distances 1, 1, 1.9, 1.9; nearest negatives 1.1, 0.1, 0.1, 2.0.
    assert seen["hardest_positive"].item() == pytest.approx((1 + 1 + 1.9 + 1.9) / 4)
    assert seen["hardest_negative"].item() == pytest.approx((1.1 + 0.1 + 0.1 + 2) / 4)
    assert seen["valid_terms"] == 8
    # Active: 0-1 against 2; 1-0 against 2; 2-3 against 0 and 1; 3-2 against 1.
    assert seen["active_share"].item() == pytest.approx(5 / 8)
    hard = build_loss("batch_hard", margin=0.2)(rows, labels).statistics
    assert hard["valid_terms"] == 4
    assert hard["active_share"].item() == pytest.approx(1.0)


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"triplet", "cosface", "arcface"}))
@pytest.mark.parametrize("labels", [[], [5], [1, 2, 3, 4]])
def test_a_batch_that_teaches_nothing_says_so(name: str, labels: list[int]) -> None:
    rows = torch.randn(len(labels), 3, requires_grad=True)
    output = build_loss(name)(rows, torch.tensor(labels, dtype=torch.int64))
    output.loss.backward()
    assert rows.grad is not None
    assert output.loss.isfinite()
    # Pairs of different subjects alone do teach the contrastive loss something.
    if name != "contrastive" or len(labels) < 2:
        assert output.statistics["valid_terms"] == 0
        assert output.statistics["active_share"] == 0
        assert math.isnan(output.statistics["hardest_positive"].item())


def test_losses_by_name() -> None:
    for name, wrong, match in (
        ("batch_hrad", {}, "no loss 'batch_hrad'; did you mean 'batch_hard'"),
        ("magic", {}, "known are triplet, contrastive"),
        ("batch_hard", {"margn": 1}, "no option 'margn'; did you mean 'margin'"),
        ("cosface", {}, "needs classes and embedding_size"),
        ("cosface", {"classes": 1, "embedding_size": 4}, "two subjects or more"),
    ):
        with pytest.raises(InputError, match=match):
            build_loss(name, **wrong)
    assert "batch_hard, margin=0.5" in repr(build_loss("batch_hard", margin=0.5))
    assert "arcface" in repr(build_loss("arcface", classes=2, embedding_size=3))


def test_an_impossible_temperature_is_refused() -> None:
    with pytest.raises(InputError, match="temperature must be above 0"):
        supervised_contrastive_loss(ROWS, LABELS, temperature=0.0)
