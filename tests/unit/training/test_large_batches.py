"""Batches in two passes and recomputed activations: the gradients of the whole batch, and what differs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from tests.unit.training.drawing import small_config
from verifykit_training.cross_batch_memory import CrossBatchMemory
from verifykit_training.encoders import ENCODERS, build_encoder
from verifykit_training.errors import ConfigError
from verifykit_training.large_batches import TwoPasses, blocks_of, norms_held, require_blocks
from verifykit_training.losses import LOSSES, build_loss
from verifykit_training.preflight import try_out

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS, MICRO = 24, 5
FABRIC = Fabric(accelerator="cpu", devices=1)


class Unit(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        return functional.normalize(rows, dim=1)


def _network(*middle: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 8, 3), *middle, nn.Tanh(), nn.Flatten(), nn.Linear(8 * 16, 6), Unit()]
    return FABRIC.setup_module(nn.Sequential(*layers).double())


def _batch() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(2)
    images = torch.randn(ROWS, 3, 6, 6, dtype=torch.float64)
    # Triplets: anchor, positive, negative; every fourth negative is a forgery of the subject.
    labels = torch.tensor([[n % 4, n % 4, (n + 1) % 4] for n in range(ROWS // 3)]).flatten()
    return images, labels, torch.zeros(ROWS, dtype=torch.bool)


def _gradients(network: nn.Module, loss: nn.Module) -> list[Tensor]:
    found = [
        p.grad.clone() for p in [*network.parameters(), *loss.parameters()] if p.grad is not None
    ]
    for module in (network, loss):
        module.zero_grad()
    return found


def _in_two_passes(network: nn.Module, loss: nn.Module, micro: int = MICRO) -> list[Tensor]:
    images, labels, forgeries = _batch()
    torch.manual_seed(3)
    passes = TwoPasses(FABRIC, network, images, micro)
    FABRIC.backward(loss(passes.embeddings, labels, forgeries).loss)
    passes.backward(sync=True)
    return _gradients(network, loss)


def _at_once(network: nn.Module, loss: nn.Module, parts: int = 1) -> list[Tensor]:
    images, labels, forgeries = _batch()
    torch.manual_seed(3)
    rows = torch.cat([network(part) for part in images.tensor_split(parts)])
    FABRIC.backward(loss(rows, labels, forgeries).loss)
    return _gradients(network, loss)


def _loss(name: str) -> nn.Module:
    torch.manual_seed(4)
    return build_loss(name, classes=4, embedding_size=6).double()


def _assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected) > 3
    for one, other in zip(found, expected, strict=True):
        scale = float(other.abs().max())
        assert scale > 0
        assert float((one - other).abs().max()) <= 1e-6 * scale


@pytest.mark.parametrize("micro", [1, MICRO, ROWS, 100])
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_the_whole_batch(name: str, micro: int) -> None:
    network, loss = _network(), _loss(name)
    _assert_equal(_in_two_passes(network, loss, micro), _at_once(network, loss))


def test_frozen_batch_norm_is_that_of_the_whole_batch_too() -> None:
    norm = nn.BatchNorm2d(8)
    network, loss = _network(norm), _loss("batch_all")
    _at_once(network, loss)  # statistics other than 0 and 1
    norm.eval()
    _assert_equal(_in_two_passes(network, loss), _at_once(network, loss))


def test_batch_norm_sees_micro_batches_and_counts_each_once() -> None:
    norms = [nn.BatchNorm2d(8), nn.BatchNorm2d(8)]
    networks = [_network(norm) for norm in norms]
    loss = _loss("batch_all")
    found = _in_two_passes(networks[0], loss)
    expected = _at_once(networks[1], loss, parts=5)
    _assert_equal(found, expected)
    for name, value in norms[1].state_dict().items():
        torch.testing.assert_close(norms[0].state_dict()[name], value)
    assert int(norms[0].state_dict()["num_batches_tracked"]) == 5
    # Not those of the whole batch, which are normalised together.
    whole = _at_once(_network(nn.BatchNorm2d(8)), loss)
    assert any(not torch.allclose(a, b, rtol=1e-3) for a, b in zip(found, whole, strict=True))


def test_dropout_draws_the_same_in_both_passes() -> None:
    network, loss = _network(nn.Dropout(0.5)), _loss("supervised_contrastive")
    expected = _at_once(network, loss, parts=5)
    after = torch.rand(3)
    _assert_equal(_in_two_passes(network, loss), expected)
    assert torch.equal(after, torch.rand(3))  # the generator goes on as after one pass


def _sizes(name: str) -> dict[str, Any]:
    return {"embedding_size": 8, "weights": "none"}


# Those left out are deeper, of the same blocks.
@pytest.mark.parametrize(
    "name",
    sorted({*ENCODERS} - {"resnet34", "resnet101", "resnet152", "iresnet50", "iresnet100"}),
)
def test_recomputed_activations_change_nothing(name: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(name, **_sizes(name)).train()
    if not blocks_of(encoder.backbone):
        with pytest.raises(ConfigError, match=f"encoder '{name}' has no blocks to recompute"):
            require_blocks(name, encoder.backbone)
        config = small_config(
            encoder={"name": name}, run={"recompute_activations": True}, crop={"height_px": 40}
        )
        with pytest.raises(ConfigError, match=f"encoder '{name}' has no blocks to recompute"):
            try_out(config)
        return
    require_blocks(name, encoder.backbone)
    fixed = name.startswith(("iresnet", "mobilefacenet", "inception"))
    images = torch.rand(4, 3, *((112, 112) if fixed else (48, 48)))
    start = {key: value.clone() for key, value in encoder.state_dict().items()}
    found: list[tuple[list[Tensor], dict[str, Tensor], int]] = []
    for recomputes in (False, True):
        encoder.load_state_dict(start)
        encoder.recomputes = recomputes
        saved: dict[int, int] = {}

        def pack(tensor: Tensor, saved: dict[int, int] = saved) -> Tensor:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        torch.manual_seed(5)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            rows = encoder(images)
        (rows * torch.arange(8)).sum().backward()
        gradients = [p.grad.clone() for p in encoder.parameters() if p.grad is not None]
        encoder.zero_grad()
        found.append(
            (
                gradients,
                {k: v.clone() for k, v in encoder.state_dict().items()},
                sum(saved.values()),
            )
        )
    assert len(found[0][0]) == sum(each.requires_grad for each in encoder.parameters())
    for one, other in zip(found[0][0], found[1][0], strict=True):
        torch.testing.assert_close(one, other)
    for key, value in found[0][1].items():
        torch.testing.assert_close(value, found[1][1][key])
    assert found[1][2] < found[0][2]
    assert all("forward" not in vars(module) for module in encoder.modules())


def test_held_norms_are_as_before() -> None:
    norm = nn.BatchNorm1d(3)
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    with norms_held(norm):
        norm(torch.randn(5, 3))
    assert all(torch.equal(value, before[key]) for key, value in norm.state_dict().items())
    assert norm.momentum == 0.1
    norm(torch.randn(5, 3))
    assert int(norm.state_dict()["num_batches_tracked"]) == 1


def test_the_memory_is_a_queue_and_its_loss_a_plain_loop() -> None:
    torch.manual_seed(0)
    memory = CrossBatchMemory(7, 3, margin=0.2)
    queue: list[tuple[Tensor, int, bool, int]] = []
    number = 0
    for _ in range(6):
        rows = functional.normalize(torch.randn(4, 3), dim=1).requires_grad_()
        labels, forged = torch.randint(0, 3, (4,)), torch.rand(4) < 0.3
        loss = memory(rows, labels, forged)
        first = number
        for row, label, fake in zip(rows, labels.tolist(), forged.tolist(), strict=True):
            queue.append((row.detach(), label, fake, number))
            number += 1
        queue = queue[-7:]
        total = torch.zeros(())
        for n, (row, label, fake) in enumerate(
            zip(rows, labels.tolist(), forged.tolist(), strict=True)
        ):
            for other, whose, other_fake, which in queue:
                cosine = row @ other
                if fake or which == first + n:
                    continue
                if label == whose and not other_fake:
                    total = total + 1 - cosine
                elif float(cosine.detach()) > 0.2:
                    total = total + cosine
        torch.testing.assert_close(loss, total / 4)
        (gradient,) = torch.autograd.grad(loss, rows, retain_graph=True)
        (expected,) = torch.autograd.grad(total / 4, rows)
        torch.testing.assert_close(gradient, expected)


def test_a_batch_larger_than_the_memory_leaves_its_last_rows() -> None:
    memory = CrossBatchMemory(3, 2)
    rows = functional.normalize(torch.randn(5, 2), dim=1)
    memory(rows, torch.arange(5))
    assert sorted(memory.labels.tolist()) == [2, 3, 4]
    for label, row in zip(memory.labels.tolist(), memory.rows, strict=True):
        torch.testing.assert_close(row, rows[label])


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ({"run": {"micro_batch": 4, "precision": "16-mixed"}}, "micro_batch does not work with"),
        ({"memory": {"size": -1}}, "memory.size"),
        ({"memory": {"size": 10, "start_step": 1.5}}, "memory.start_step"),
        ({"memory": {"length": 10}}, "unknown key 'memory.length'"),
        (
            {
                "memory": {"size": 10},
                "crop": {"kind": "signature"},
                "augmentation": {"hand": {"mirror": 0.5}},
            },
            "which memory would take for the same",
        ),
    ],
)
def test_what_cannot_be_is_said(sections: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        small_config(**sections)
    assert "\n" not in str(caught.value)
