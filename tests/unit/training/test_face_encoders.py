"""Encoders of published face recognition: size, names of the tensors, export."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

from tests.unit.training.exported import assert_weights_come_back, varied
from verifykit.errors import InputError
from verifykit.spec import InputSpec
from verifykit_training.encoders import EmbeddingNetwork, build_encoder, input_statistics

# iresnet.py of arcface_torch (fc and features with them), and table 1 of the MobileFaceNet paper.
PUBLISHED = {
    "iresnet18": (512, 24.0e6, 0.002),
    "iresnet50": (512, 43.6e6, 0.001),
    "iresnet100": (512, 65.2e6, 0.001),
    "mobilefacenet": (128, 0.99e6, 0.015),
    # facenet-pytorch 2.6.0: InceptionResnetV1(pretrained=None), counted once.
    "inception_resnet_v1": (512, 23_482_624, 0.0),
}


@pytest.fixture(scope="module", params=PUBLISHED)
def named(request: pytest.FixtureRequest) -> tuple[str, EmbeddingNetwork]:
    torch.manual_seed(0)
    size = PUBLISHED[request.param][0]
    return request.param, build_encoder(request.param, embedding_size=size, weights="none").eval()


def test_it_has_the_published_number_of_parameters(named: tuple[str, EmbeddingNetwork]) -> None:
    name, network = named
    _, published, tolerance = PUBLISHED[name]
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == pytest.approx(published, rel=tolerance)


def test_it_embeds_112_px_and_refuses_other_sizes(named: tuple[str, EmbeddingNetwork]) -> None:
    name, network = named
    if name == "inception_resnet_v1":
        assert network(torch.randn(1, 3, 160, 160)).shape == (1, 512)
        return
    with torch.no_grad():
        rows = network(torch.randn(2, 3, 112, 112))
        assert rows.shape == (2, PUBLISHED[name][0])
        with pytest.raises(InputError, match="112x112 px, got 112x96"):
            network(torch.randn(2, 3, 112, 96))


def test_the_last_map_of_mobilefacenet_is_seven_by_seven() -> None:
    network = build_encoder("mobilefacenet", weights="none").eval()
    strides = [m.stride[0] for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert strides.count(2) == 4
    grouped = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.groups == 512]
    assert grouped[-1].kernel_size == (7, 7)


def test_an_iresnet_has_arcfaces_tensors() -> None:
    network = build_encoder("iresnet18", weights="none", embedding_size=512)
    own = {k.split(".", 1)[1]: tuple(v.shape) for k, v in network.state_dict().items()}
    # Of arcface_torch's backbone.pth of r18, from every part of the network.
    for key, shape in {
        "conv1.weight": (64, 3, 3, 3),
        "bn1.running_var": (64,),
        "prelu.weight": (64,),
        "layer1.0.bn1.weight": (64,),
        "layer1.0.conv2.weight": (64, 64, 3, 3),
        "layer1.0.downsample.0.weight": (64, 64, 1, 1),
        "layer1.0.downsample.1.running_mean": (64,),
        "layer2.0.conv1.weight": (128, 64, 3, 3),
        "layer4.1.prelu.weight": (512,),
        "layer4.1.bn3.bias": (512,),
        "bn2.weight": (512,),
        "fc.weight": (512, 25088),
        "fc.bias": (512,),
        "features.weight": (512,),
        "features.running_mean": (512,),
    }.items():
        assert own[key] == shape, key
    norm, blocks, downsamples = 5, 8, 4
    in_blocks = blocks * (3 + 3 * norm) + downsamples * (1 + norm)
    assert len(own) == in_blocks + 2 + 3 * norm + 2  # conv1, prelu; bn1, bn2, features; fc


def test_an_inception_resnet_has_facenet_pytorchs_tensors() -> None:
    network = build_encoder("inception_resnet_v1", weights="none", embedding_size=512)
    own = {k.split(".", 1)[1]: tuple(v.shape) for k, v in network.state_dict().items()}
    # As printed by facenet-pytorch 2.6.0, from every part of the network.
    for key, shape in {
        "conv2d_1a.conv.weight": (32, 3, 3, 3),
        "conv2d_4b.bn.running_var": (256,),
        "repeat_1.4.branch2.2.conv.weight": (32, 32, 3, 3),
        "repeat_1.0.conv2d.weight": (256, 96, 1, 1),
        "repeat_1.0.conv2d.bias": (256,),
        "mixed_6a.branch1.2.conv.weight": (256, 192, 3, 3),
        "repeat_2.9.branch1.1.conv.weight": (128, 128, 1, 7),
        "repeat_2.9.branch1.2.conv.weight": (128, 128, 7, 1),
        "mixed_7a.branch2.2.conv.weight": (256, 256, 3, 3),
        "repeat_3.4.branch1.1.conv.weight": (192, 192, 1, 3),
        "block8.conv2d.weight": (1792, 384, 1, 1),
        "last_linear.weight": (512, 1792),
        "last_bn.running_mean": (512,),
    }.items():
        assert own[key] == shape, key
    assert len(own) == 714
    assert "last_linear.bias" not in own


@pytest.mark.skipif(not find_spec("onnxruntime"), reason="needs onnxruntime")
@pytest.mark.parametrize(
    "name",
    [
        "mobilefacenet",
        "iresnet18",
        pytest.param("inception_resnet_v1", marks=pytest.mark.slow),  # takes longest
    ],
)
def test_it_is_exported_as_it_is_and_its_weights_come_back(name: str) -> None:
    from verifykit_export.parity import (
        LIMIT,
        cosine_gap,
        embed_with_onnx,
        embed_with_torch,
        open_session,
    )
    from verifykit_export.torch_export import to_onnx

    torch.manual_seed(0)
    network = varied(build_encoder(name, embedding_size=64, weights="none"))
    size_px = 160 if name == "inception_resnet_v1" else 112
    spec = InputSpec(size_px, size_px, "rgb", *input_statistics(name))
    crops = list(
        np.random.default_rng(0).integers(0, 256, (9, size_px, size_px, 3), dtype=np.uint8)
    )
    model = to_onnx(network, spec, 64)
    found = embed_with_onnx(open_session(model), spec, crops)
    assert cosine_gap(embed_with_torch(network, spec, crops), found) <= LIMIT
    assert_weights_come_back(name, network, model)
    assert "BatchNormalization" not in {n.op_type for n in model.graph.node} or name == "iresnet18"
