"""The size of SigNet: five plain convolutions and two wide linear layers."""

from __future__ import annotations

from torch import nn

from verifykit_training.encoders.network import EmbeddingNetwork
from verifykit_training.encoders.weights import require_no_imagenet

# Channels, kernel, stride, padding; a 3x3 max-pool of stride 2 follows where it says so.
_LAYERS = (
    (96, 11, 4, 5, True),
    (256, 5, 1, 2, True),
    (384, 3, 1, 1, False),
    (384, 3, 1, 1, False),
    (256, 3, 1, 1, True),
)
_GRID = (3, 3)
_WIDE = 2048


def build_signet(
    name: str, *, embedding_size: int, weights: str, input_channels: int
) -> EmbeddingNetwork:
    """The layers of SigNet with batch norm, for comparison.

    Hafemann, Sabourin and Oliveira, Pattern Recognition 70, 2017, table 2. Padded, and the last feature
    map averaged to 3x3 cells, so that a flat canvas and other sizes fit.

    Args:
        name: ``"signet"``.
        embedding_size: D.
        weights: ``"none"``; no ImageNet weights exist.
        input_channels: C.

    Returns:
        The network; any size of 33 px or more works.

    Raises:
        ModelNotFoundError: ImageNet weights were requested.
    """
    layers: list[nn.Module] = []
    before = input_channels
    for after, kernel, stride, padding, pooled in _LAYERS:
        layers += [
            nn.Conv2d(before, after, kernel, stride, padding, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        ]
        layers += [nn.MaxPool2d(3, stride=2, padding=1)] if pooled else []
        before = after
    cells = _GRID[0] * _GRID[1]
    backbone = nn.Sequential(
        *layers,
        nn.AdaptiveAvgPool2d(_GRID),
        nn.Flatten(),
        nn.Linear(before * cells, _WIDE, bias=False),
        nn.BatchNorm1d(_WIDE),
        nn.ReLU(inplace=True),
        nn.Linear(_WIDE, _WIDE, bias=False),
        nn.BatchNorm1d(_WIDE),
        nn.ReLU(inplace=True),
    )
    require_no_imagenet(name, weights)
    return EmbeddingNetwork(backbone, nn.Linear(_WIDE, embedding_size))
