"""Inception-ResNet-v1 (Szegedy et al., AAAI 2017, section 3) as FaceNet's successors use it at 160 px.

Names and shapes of the tensors are those of facenet-pytorch's ``InceptionResnetV1``, so that its files fit.
Unlike the paper's figures the convolutions of the reductions are not padded ("valid"), which is how David
Sandberg's ``facenet`` built the network that the published weights are of.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from verifykit_training.encoders.network import EmbeddingNetwork
from verifykit_training.encoders.weights import Published, require_no_imagenet

PUBLISHED = Published(head=(("last_linear.", "last_linear."), ("last_bn.", "last_bn.")))

_EPSILON = 1e-3
_FEATURES = 1792
_Size: TypeAlias = int | tuple[int, int]


class _Convolution(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self, before: int, after: int, kernel: _Size, stride: int = 1, padding: _Size = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(after, _EPSILON)

    def forward(self, images: Tensor) -> Tensor:
        """Return the activations."""
        return functional.relu(self.bn(self.conv(images)), inplace=True)


class _Branches(nn.Module):
    """Branches side by side, their channels one after the other; ``branch0`` and so on."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self._count = len(branches)
        for number, branch in enumerate(branches):
            self.add_module(f"branch{number}", branch)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, sum of the branches' channels, H', W')."""
        parts = [self.get_submodule(f"branch{i}")(images) for i in range(self._count)]
        return torch.cat(parts, dim=1)


class _Residual(_Branches):
    """Branches whose projection is scaled and added to the input."""

    def __init__(
        self, channels: int, middle: int, scale: float, *branches: nn.Module, linear: bool = False
    ) -> None:
        super().__init__(*branches)
        self._scale, self._linear = scale, linear
        self.conv2d = nn.Conv2d(middle, channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        total: Tensor = images + self._scale * self.conv2d(super().forward(images))
        return total if self._linear else functional.relu(total)


def _block35() -> nn.Module:
    return _Residual(
        256,
        96,
        0.17,
        _Convolution(256, 32, 1),
        nn.Sequential(_Convolution(256, 32, 1), _Convolution(32, 32, 3, padding=1)),
        nn.Sequential(
            _Convolution(256, 32, 1),
            _Convolution(32, 32, 3, padding=1),
            _Convolution(32, 32, 3, padding=1),
        ),
    )


def _block17() -> nn.Module:
    return _Residual(
        896,
        256,
        0.10,
        _Convolution(896, 128, 1),
        nn.Sequential(
            _Convolution(896, 128, 1),
            _Convolution(128, 128, (1, 7), padding=(0, 3)),
            _Convolution(128, 128, (7, 1), padding=(3, 0)),
        ),
    )


def _block8(scale: float = 0.20, *, linear: bool = False) -> nn.Module:
    return _Residual(
        _FEATURES,
        384,
        scale,
        _Convolution(_FEATURES, 192, 1),
        nn.Sequential(
            _Convolution(_FEATURES, 192, 1),
            _Convolution(192, 192, (1, 3), padding=(0, 1)),
            _Convolution(192, 192, (3, 1), padding=(1, 0)),
        ),
        linear=linear,
    )


def _reduction_a() -> nn.Module:
    return _Branches(
        _Convolution(256, 384, 3, 2),
        nn.Sequential(
            _Convolution(256, 192, 1),
            _Convolution(192, 192, 3, padding=1),
            _Convolution(192, 256, 3, 2),
        ),
        nn.MaxPool2d(3, 2),
    )


def _reduction_b() -> nn.Module:
    return _Branches(
        nn.Sequential(_Convolution(896, 256, 1), _Convolution(256, 384, 3, 2)),
        nn.Sequential(_Convolution(896, 256, 1), _Convolution(256, 256, 3, 2)),
        nn.Sequential(
            _Convolution(896, 256, 1),
            _Convolution(256, 256, 3, padding=1),
            _Convolution(256, 256, 3, 2),
        ),
        nn.MaxPool2d(3, 2),
    )


class InceptionResnetV1(nn.Module):
    """(N, C, H, W) to 1792 features."""

    def __init__(self, input_channels: int, dropout: float) -> None:
        super().__init__()
        self.conv2d_1a = _Convolution(input_channels, 32, 3, 2)
        self.conv2d_2a = _Convolution(32, 32, 3)
        self.conv2d_2b = _Convolution(32, 64, 3, padding=1)
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b = _Convolution(64, 80, 1)
        self.conv2d_4a = _Convolution(80, 192, 3)
        self.conv2d_4b = _Convolution(192, 256, 3, 2)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = _reduction_a()
        self.repeat_2 = nn.Sequential(*(_block17() for _ in range(10)))
        self.mixed_7a = _reduction_b()
        self.repeat_3 = nn.Sequential(*(_block8() for _ in range(5)))
        self.block8 = _block8(1.0, linear=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, 1792), averaged over the image."""
        inner = images
        for name, layer in self.named_children():
            if name != "dropout":
                inner = layer(inner)
        features: Tensor = self.dropout(inner.mean(dim=(2, 3)))
        return features


class _Head(nn.Module):
    """A linear layer without bias and a batch norm, under facenet-pytorch's names."""

    def __init__(self, embedding_size: int) -> None:
        super().__init__()
        self.last_linear = nn.Linear(_FEATURES, embedding_size, bias=False)
        self.last_bn = nn.BatchNorm1d(embedding_size, _EPSILON)

    def forward(self, features: Tensor) -> Tensor:
        """(N, 1792) to (N, D)."""
        rows: Tensor = self.last_bn(self.last_linear(features))
        return rows


def build_inception_resnet_v1(
    name: str, *, embedding_size: int, weights: str, input_channels: int, dropout: float = 0.6
) -> EmbeddingNetwork:
    """Inception-ResNet-v1 with a head of its own.

    Args:
        name: ``"inception_resnet_v1"``.
        embedding_size: D; 512 in facenet-pytorch's files.
        weights: ``"none"``; no ImageNet weights exist.
        input_channels: C.
        dropout: On the features, while training, in [0, 1).

    Returns:
        The network; 160x160 px is what the published weights saw, any size from 75 px on works.

    Raises:
        ModelNotFoundError: ImageNet weights were requested.
    """
    require_no_imagenet(name, weights)
    return EmbeddingNetwork(InceptionResnetV1(input_channels, dropout), _Head(embedding_size))
