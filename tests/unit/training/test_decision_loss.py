"""The decision loss against a plain loop over probes and subjects."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from verifykit.errors import InputError
from verifykit.scoring import reference_rows
from verifykit_training.losses import DecisionLoss, supervised_contrastive_loss

LABELS = torch.tensor([4, 4, 4, 4, 7, 7, 7, 2, 2, 9])
FORGED = torch.tensor([0, 0, 0, 1, 0, 0, 1, 0, 0, 0]).bool()


def _rows(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(len(LABELS), 5, generator=generator, dtype=torch.float64) + 0.5
    return torch.nn.functional.normalize(rows, dim=1).to(dtype)


def _loop(rows: Tensor, loss: DecisionLoss) -> float:
    """Every probe against every subject, scored as the runtime scores."""
    terms: dict[str, list[float]] = {"genuine": [], "skilled": [], "random": []}
    for probe in range(len(rows)):
        for subject in LABELS.unique().tolist():
            references = [
                i for i in range(len(rows)) if LABELS[i] == subject and not FORGED[i] and i != probe
            ]
            if not references:
                continue
            # Without the end at 1 that the runtime gives to scores.
            row = reference_rows(rows[references].float().numpy(), loss.fusion)[0]
            score = float(rows[probe].double() @ torch.from_numpy(row).double())
            own = int(LABELS[probe]) == subject
            kind = "random" if not own else "skilled" if FORGED[probe] else "genuine"
            sign = 1 if kind == "genuine" else -1
            logit = loss.scale.item() * score + loss.offset.item()
            terms[kind].append(math.log1p(math.exp(-sign * logit)))
    weights = {"genuine": 1.0, "skilled": loss.skilled_weight, "random": loss.random_weight}
    total = sum(weights[kind] * sum(values) / len(values) for kind, values in terms.items())
    contrastive = supervised_contrastive_loss(
        rows, LABELS, temperature=loss.temperature, forgeries=FORGED
    )
    return total + loss.contrastive_weight * float(contrastive)


@pytest.mark.parametrize("fusion", ["mean", "spread"])
@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_loop(fusion: str, seed: int) -> None:
    loss = DecisionLoss(
        fusion=fusion,  # type: ignore[arg-type]
        temperature=0.2,
        contrastive_weight=0.4,
        skilled_weight=1.3,
        random_weight=0.2,
    )
    rows = _rows(seed)
    assert float(loss(rows, LABELS, FORGED).loss.detach()) == pytest.approx(
        _loop(rows, loss), abs=2e-6
    )


@pytest.mark.parametrize("fusion", ["mean", "spread"])
def test_its_gradient_is_the_numerical_one(fusion: str) -> None:
    loss = DecisionLoss(fusion=fusion).double()  # type: ignore[arg-type]
    rows = _rows(3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, LABELS, FORGED).loss, (rows,))


def test_scale_and_offset_learn_and_rates_are_told() -> None:
    loss = DecisionLoss()
    output = loss(_rows(1, torch.float32), LABELS, FORGED)
    output.loss.backward()
    assert loss.scale.grad is not None
    assert loss.offset.grad is not None
    for name in ("genuine_accepted", "skilled_refused", "random_refused"):
        assert 0.0 <= float(output.statistics[name]) <= 1.0


def test_without_forgeries_or_genuine_rows_it_is_finite() -> None:
    loss = DecisionLoss()
    rows = _rows(2, torch.float32).requires_grad_()
    assert math.isfinite(float(loss(rows, LABELS).loss.detach()))
    nothing = loss(rows, LABELS, torch.ones(len(LABELS)).bool()).loss
    nothing.backward()
    assert float(nothing.detach()) == 0.0
    empty = torch.empty(0, 5, requires_grad=True)
    assert float(loss(empty, LABELS[:0], FORGED[:0]).loss.detach()) == 0.0


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"skilled_weight": -1.0},
        {"contrastive_weight": -0.1},
        {"fusion": "max"},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="decision"):
        DecisionLoss(**options)  # type: ignore[arg-type]
