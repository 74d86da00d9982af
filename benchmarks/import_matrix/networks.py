"""Encoders of other projects with random weights, in torch, and one as Keras writes it, in ONNX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import torch
import torchvision
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

EMBEDDING_SIZE = 128
SIZE_PX = 64


class ResidualBlock(nn.Module):
    """A block of ArcFace's IResNet: normalisation first, PReLU between the convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, 2, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, 2, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add both ways."""
        return self.path(x) + self.shortcut(x)  # type: ignore[no-any-return]


class FlatHead(nn.Module):
    """ArcFace's head: normalisation, dropout, one product over the whole map, normalisation."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(0.4)
        self.product = nn.Linear(channels * side * side, EMBEDDING_SIZE)
        self.features = nn.BatchNorm1d(EMBEDDING_SIZE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, D)."""
        rows = torch.flatten(self.norm(x), 1)
        return self.features(self.product(self.dropout(rows)))  # type: ignore[no-any-return]


def _iresnet() -> nn.Module:
    widths = (16, 16, 32, 64, 128)
    blocks = [ResidualBlock(*pair) for pair in pairwise(widths)]
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.PReLU(16)]
    return nn.Sequential(*stem, *blocks, FlatHead(128, SIZE_PX // 16))


class Bottleneck(nn.Module):
    """A block of MobileFaceNet: pointwise, depthwise, pointwise."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = 2 * inputs
        self.path = nn.Sequential(
            *_normalised(nn.Conv2d(inputs, inner, 1, bias=False)),
            *_normalised(nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False)),
            *_normalised(nn.Conv2d(inner, outputs, 1, bias=False))[:2],
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the path, plus the input where the sizes allow."""
        y = self.path(x)
        return x + y if self.adds else y  # type: ignore[no-any-return]


def _normalised(conv: nn.Conv2d) -> list[nn.Module]:
    return [conv, nn.BatchNorm2d(conv.out_channels), nn.PReLU(conv.out_channels)]


def _mobilefacenet() -> nn.Module:
    side = SIZE_PX // 8
    depthwise = nn.Conv2d(64, 64, side, groups=64, bias=False)
    return nn.Sequential(
        *_normalised(nn.Conv2d(3, 32, 3, 2, 1, bias=False)),
        Bottleneck(32, 32, 2),
        Bottleneck(32, 32, 1),
        Bottleneck(32, 64, 2),
        Bottleneck(64, 64, 1),
        *_normalised(depthwise)[:2],
        nn.Conv2d(64, EMBEDDING_SIZE, 1, bias=False),
        nn.BatchNorm2d(EMBEDDING_SIZE),
        nn.Flatten(),
    )


def _torchvision(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        network: nn.Module = getattr(torchvision.models, name)(
            weights=None, num_classes=EMBEDDING_SIZE
        )
        return network

    return make


def _convnext() -> nn.Module:
    widths = [(24, 48, 1), (48, 96, 1), (96, None, 2)]
    blocks = [torchvision.models.convnext.CNBlockConfig(*each) for each in widths]
    network: nn.Module = torchvision.models.ConvNeXt(blocks, num_classes=EMBEDDING_SIZE)
    return network


def _densenet() -> nn.Module:
    network: nn.Module = torchvision.models.DenseNet(
        12, (2, 4, 4, 2), 24, num_classes=EMBEDDING_SIZE
    )
    return network


def _vision_transformer() -> nn.Module:
    vit = torchvision.models.VisionTransformer(
        SIZE_PX, 16, 2, 2, 64, 128, num_classes=EMBEDDING_SIZE
    )
    # torchvision begins with zeros, and all rows would be zero.
    nn.init.normal_(vit.heads.head.weight)
    network: nn.Module = vit
    return network


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    **{
        name: _torchvision(name)
        for name in (
            "resnet18",
            "mobilenet_v3_small",
            "efficientnet_b0",
            "regnet_x_400mf",
            "shufflenet_v2_x0_5",
        )
    },
    "ConvNeXt": _convnext,
    "DenseNet": _densenet,
    "VisionTransformer": _vision_transformer,
    "IResNet": _iresnet,
    "MobileFaceNet": _mobilefacenet,
}
"""Eight of torchvision, three of them with fewer layers, and two of face recognition."""


def make_network(name: str) -> nn.Module:
    """Return a network in eval mode, with normalisation as after training."""
    torch.manual_seed(0)
    network = NETWORKS[name]()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.running_mean, 0.0, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, 0.1, 0.4)
    return network.eval()


def keras_like(opset: int, *, batch: int | str) -> onnx.ModelProto:
    """Return a network as tf2onnx writes those of Keras: (N, H, W, C), transposed inside."""
    random = np.random.default_rng(0)
    constants: dict[str, NDArray[Any]] = {
        "kernel": random.normal(0, 0.2, (16, 3, 3, 3)).astype(np.float32),
        "bias": random.normal(size=16).astype(np.float32),
        "depthwise": random.normal(0, 0.3, (16, 1, 3, 3)).astype(np.float32),
        "dense": random.normal(0, 0.2, (16, EMBEDDING_SIZE)).astype(np.float32),
        "six": np.array(6.0, np.float32),
        "zero": np.array(0.0, np.float32),
        **{
            name: random.uniform(0.5, 1.5, 16).astype(np.float32)
            for name in ("gamma", "beta", "mean", "variance")
        },
    }
    norm = ["gamma", "beta", "mean", "variance"]
    node = helper.make_node
    nodes = [
        node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        node("Conv", ["planes", "kernel", "bias"], ["a"], strides=[2, 2], pads=[0, 0, 1, 1]),
        node("Clip", ["a", "zero", "six"], ["b"]),
        node("Conv", ["b", "depthwise"], ["c"], group=16, pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c", *norm], ["d"]),
        node("Relu", ["d"], ["e"]),
        node("GlobalAveragePool", ["e"], ["f"]),
        node("Transpose", ["f"], ["g"], perm=[0, 2, 3, 1]),
        node("Flatten", ["g"], ["h"]),
        node("MatMul", ["h", "dense"], ["rows"]),
    ]
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "keras",
        [tensor("image", TensorProto.FLOAT, [batch, SIZE_PX, SIZE_PX, 3])],
        [tensor("rows", TensorProto.FLOAT, [batch, EMBEDDING_SIZE])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets)
    )
    onnx.checker.check_model(model)
    return model
