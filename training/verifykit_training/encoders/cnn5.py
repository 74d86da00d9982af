"""Five blocks of convolution: small enough to learn from scratch."""

from __future__ import annotations

from torch import nn

from verifykit_training.encoders.network import EmbeddingNetwork
from verifykit_training.encoders.weights import require_no_imagenet

_WIDTHS = (16, 32, 64, 128, 256)


def build_cnn5(
    name: str, *, embedding_size: int, weights: str, input_channels: int, tanh: bool = False
) -> EmbeddingNetwork:
    """Five times 3x3 convolution, 2x2 max-pool, batch norm, ReLU; then global average and a linear layer.

    Args:
        name: ``"cnn5"``.
        embedding_size: D.
        weights: ``"none"``; no ImageNet weights exist.
        input_channels: C.
        tanh: Whether tanh follows the linear layer, before rows are brought to unit length.

    Returns:
        The network; 112x112 px is usual, any size from 1 px on works (a pooling rounds up, so that the
        five of them leave something of 28x28 px).

    Raises:
        ModelNotFoundError: ImageNet weights were requested.
    """
    channels = (input_channels, *_WIDTHS)
    blocks = [
        nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        )
        for before, after in zip(channels, _WIDTHS, strict=False)
    ]
    backbone = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    require_no_imagenet(name, weights)
    head: nn.Module = nn.Linear(_WIDTHS[-1], embedding_size)
    return EmbeddingNetwork(backbone, nn.Sequential(head, nn.Tanh()) if tanh else head)
