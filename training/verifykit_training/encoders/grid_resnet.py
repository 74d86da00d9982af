"""A narrow residual network that keeps where on the canvas a feature was seen.

A forgery often has the right strokes in slightly wrong places, which an average over the whole image
forgets: the last feature map is averaged in a grid of cells, and the head sees all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from verifykit.errors import InputError
from verifykit_training.encoders.network import EmbeddingNetwork
from verifykit_training.encoders.weights import require_no_imagenet


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al., CVPR 2016, figure 2).

    A shortcut that halves the size averages first, so that no pixel is left out (He et al., "Bag of
    tricks", CVPR 2019, ResNet-D).
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, stride, ceil_mode=True) if stride != 1 else nn.Identity(),
                nn.Conv2d(before, after, 1, bias=False),
                nn.BatchNorm2d(after),
            )

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', ceil(H / stride), ceil(W / stride))."""
        inner = functional.relu(self.norm1(self.conv1(images)), inplace=True)
        inner = self.norm2(self.conv2(inner))
        result: Tensor = functional.relu(inner + self.shortcut(images), inplace=True)
        return result


def build_grid_resnet(
    name: str,
    *,
    embedding_size: int,
    weights: str,
    input_channels: int,
    stem: int = 24,
    widths: Sequence[int] = (32, 64, 128, 256),
    blocks: Sequence[int] = (2, 2, 2, 2),
    grid: Sequence[int] = (3, 3),
    dropout: float = 0.2,
) -> EmbeddingNetwork:
    """A 5x5 stem of stride 2, then stages that halve the size each, a grid of averages, a linear layer.

    Args:
        name: ``"grid_resnet"``.
        embedding_size: D.
        weights: ``"none"``; no ImageNet weights exist.
        input_channels: C.
        stem: Channels of the stem.
        widths: Channels of each stage.
        blocks: Residual blocks of each stage.
        grid: Cells of the last average, (rows, columns).
        dropout: On the features, while training, in [0, 1).

    Returns:
        The network; any size of 32 px or more works, the grid stretches with it.

    Raises:
        ModelNotFoundError: ImageNet weights were requested.
        InputError: Widths, blocks or grid that make no network.
    """
    if (
        len(widths) != len(blocks)
        or len(grid) != 2
        or min(stem, *widths, *blocks, *grid, len(widths)) < 1
    ):
        raise InputError(
            f"{name}: stem, widths and blocks (one a stage) and grid (rows, columns) are positive, got "
            f"{stem}, {list(widths)}, {list(blocks)}, {list(grid)}"
        )
    layers: list[nn.Module] = [
        nn.Conv2d(input_channels, stem, 5, stride=2, padding=2, bias=False),
        nn.BatchNorm2d(stem),
        nn.ReLU(inplace=True),
    ]
    before = stem
    for width, count in zip(widths, blocks, strict=True):
        for number in range(count):
            layers.append(ResidualBlock(before, width, 2 if number == 0 else 1))
            before = width
    rows, columns = grid
    backbone = nn.Sequential(*layers, nn.AdaptiveAvgPool2d((rows, columns)), nn.Flatten())
    require_no_imagenet(name, weights)
    head = nn.Sequential(nn.Dropout(dropout), nn.Linear(before * rows * columns, embedding_size))
    return EmbeddingNetwork(backbone, head)
