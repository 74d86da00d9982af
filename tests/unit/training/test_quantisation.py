"""Fake quantisation: the rounding itself, where it takes place, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.unit.training.drawing import small_config
from verifykit.errors import InputError, VerifyKitError
from verifykit_training.encoders import build_encoder
from verifykit_training.quantisation import FakeQuantisation, hold_norms, rounded_weight


def test_weights_have_255_steps_for_each_channel() -> None:
    torch.manual_seed(0)
    weight = torch.randn(3, 2, 3, 3) * torch.tensor([0.01, 1.0, 50.0])[:, None, None, None]
    weight[1] = 0.0
    found = rounded_weight(weight)
    for own, rounded in zip(weight.numpy(), found.numpy(), strict=True):
        scale = np.abs(own).max() / 127 or 1.0
        expected = np.round(own.astype(np.float64) / scale) * scale
        np.testing.assert_allclose(rounded, expected, atol=1e-6 * max(1.0, scale))
        assert abs(rounded).max() == pytest.approx(abs(own).max(), rel=1e-6)


def test_activations_have_256_steps_that_hold_zero() -> None:
    quantisation = FakeQuantisation(nn.Sequential(nn.Linear(2, 2)), (2,))
    values = torch.tensor([[-0.5, 0.0, 1.0, 0.333]])
    found = quantisation.rounded(0, values, observe=True)
    scale = 1.5 / 255
    zero = round(-128 + 0.5 / scale)
    expected = [(round(v / scale + zero) - zero) * scale for v in values[0].tolist()]
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-6)
    assert float(found[0, 1]) == 0.0
    np.testing.assert_allclose(quantisation.ranges[0].numpy(), [-0.5, 1.0])
    # The range follows slowly, and not at all where nothing is observed.
    quantisation.rounded(0, 3 * values, observe=True)
    np.testing.assert_allclose(quantisation.ranges[0].numpy(), [-0.55, 1.1], rtol=1e-5)
    quantisation.rounded(0, 9 * values, observe=False)
    np.testing.assert_allclose(quantisation.ranges[0].numpy(), [-0.55, 1.1], rtol=1e-5)


class _Net(nn.Module):
    """A convolution with batch norm and ReLU6, an addition in place, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.last = nn.Linear(3, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        inner = functional.relu6(self.norm(self.conv(images)))
        inner += images
        return functional.normalize(self.last(inner.mean(dim=(2, 3))), dim=1)


def test_a_forward_pass_is_rounded_where_the_export_rounds() -> None:
    torch.manual_seed(0)
    net, images = _Net().eval(), torch.randn(2, 3, 8, 8)
    quantisation = FakeQuantisation(net, (3, 8, 8))
    with torch.no_grad(), quantisation.applied(observe=True):
        found = net(images)
    # The input, and what leaves ReLU6, the addition, the mean and the last layer.
    assert quantisation.ranges.shape == (5, 2)

    def rounded(values: torch.Tensor) -> torch.Tensor:
        low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
        scale = torch.tensor((high - low) / 255)
        zero = torch.tensor(round(-128 - low / float(scale)), dtype=torch.int32)
        return torch.fake_quantize_per_tensor_affine(values, scale, zero, -128, 127)

    with torch.no_grad():
        conv = functional.conv2d(
            rounded(images), rounded_weight(net.conv.weight), net.conv.bias, padding=1
        )
        inner = rounded(functional.relu6(net.norm(conv)))
        inner = rounded(inner + rounded(images))
        rows = rounded(inner.mean(dim=(2, 3)))
        last = rounded(functional.linear(rows, rounded_weight(net.last.weight), net.last.bias))
        expected = functional.normalize(last, dim=1)
        plain = net(images)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)
    assert float((plain - found).abs().max()) > 1e-4
    assert torch.equal(net(images), plain)


def test_gradients_pass_through_and_norms_stand_still() -> None:
    torch.manual_seed(0)
    net, images = _Net().train(), torch.randn(4, 3, 8, 8)
    hold_norms(net)
    assert net.conv.training
    assert not net.norm.training
    quantisation = FakeQuantisation(net, (3, 8, 8))
    with quantisation.applied(observe=True):
        net(images)[:, 0].sum().backward()
    rounded = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    net(images)[:, 0].sum().backward()
    assert set(rounded) == {name for name, _ in net.named_parameters()}
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        cosine = functional.cosine_similarity(
            rounded[name].flatten(), parameter.grad.flatten(), dim=0
        )
        assert float(cosine) > 0.99
    assert not net.norm.running_mean.any()


@pytest.mark.parametrize("name", ["cnn5", "efficientnet_lite0", "resnet18", "mobilefacenet"])
def test_encoders_stay_near_what_they_were(name: str) -> None:
    torch.manual_seed(0)
    size = 112 if name == "mobilefacenet" else 32
    encoder = build_encoder(name, embedding_size=16, weights="none").eval()
    state = {key: value.clone() for key, value in encoder.state_dict().items()}
    images = torch.rand(4, 3, size, size)
    quantisation = FakeQuantisation(encoder, (3, size, size))
    weighted = sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in encoder.modules())
    assert len(quantisation.ranges) > weighted
    with torch.no_grad():
        plain = encoder(images)
        for _ in range(2):
            with quantisation.applied(observe=True):
                found = encoder(images)
    assert quantisation.ranges.isfinite().all()
    cosine = (plain * found).sum(dim=1)
    assert 0.9 < float(cosine.min()) < 1.0
    assert all(torch.equal(value, state[key]) for key, value in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"encoder": {"weights": "none"}}, "train without the section first"),
        ({"run": {"precision": "bf16-mixed"}}, 'set it to "32-true"'),
        ({"run": {"devices": 2}}, "set run.devices and run.nodes to 1"),
        ({"quantisation": {"precision": "int4"}}, "quantisation.precision"),
    ],
)
def test_what_cannot_be_fine_tuned_is_one_sentence(sections: dict[str, Any], message: str) -> None:
    body = {"quantisation": {}, "encoder": {"weights": "runs/large"}} | sections
    with pytest.raises((VerifyKitError, InputError), match=message.replace(".", r"\.")) as error:
        small_config(**body)
    assert "\n" not in str(error.value)


def test_the_section_is_kept(tmp_path: Path) -> None:
    config = small_config(quantisation={}, encoder={"weights": "runs/large"})
    assert "[quantisation]" in config.to_toml()
