"""MobileFaceNet (Chen, Liu, Gao and Han, CCBR 2018, table 1): a face encoder of a million parameters."""

from __future__ import annotations

from itertools import repeat

from torch import Tensor, nn

from verifykit.errors import InputError
from verifykit_training.encoders.network import EmbeddingNetwork
from verifykit_training.encoders.weights import require_no_imagenet

# Expansion, output channels, repeats, stride of the first.
_STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
_STEM, _FEATURES = 64, 512
_MAP = 7
SIZE_PX = 112


class _ConvBlock(nn.Sequential):
    """Convolution, batch norm, and PReLU unless it is linear."""

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(before, after, kernel, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(after),
        ]
        super().__init__(*layers, *([] if linear else [nn.PReLU(after)]))


class _Bottleneck(nn.Module):
    """Expand, convolve each channel by itself, project; added to its input where shapes allow."""

    def __init__(self, before: int, after: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = before * expansion
        self.path = nn.Sequential(
            _ConvBlock(before, middle, 1),
            _ConvBlock(middle, middle, 3, stride=stride, padding=1, groups=middle),
            _ConvBlock(middle, after, 1, linear=True),
        )
        self.adds = stride == 1 and before == after

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', ceil(H / stride), ceil(W / stride))."""
        inner: Tensor = self.path(images)
        return images + inner if self.adds else inner


class MobileFaceNet(nn.Module):
    """(N, C, 112, 112) to 512 features, by a weight for each place of the last map (GDConv)."""

    def __init__(self, input_channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _ConvBlock(input_channels, _STEM, 3, stride=2, padding=1),
            _ConvBlock(_STEM, _STEM, 3, padding=1, groups=_STEM),
        )
        blocks: list[nn.Module] = []
        before = _STEM
        for expansion, after, count, first in _STAGES:
            for stride in (first, *repeat(1, count - 1)):
                blocks.append(_Bottleneck(before, after, stride, expansion))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.last = _ConvBlock(before, _FEATURES, 1)
        self.places = _ConvBlock(_FEATURES, _FEATURES, _MAP, groups=_FEATURES, linear=True)

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, 512)."""
        require_size("mobilefacenet", images)
        features: Tensor = self.places(self.last(self.blocks(self.stem(images)))).flatten(1)
        return features


def require_size(name: str, images: Tensor) -> None:
    """Raise InputError unless images are of the one size whose last map the weights fit."""
    height, width = images.shape[2:]
    if (height, width) != (SIZE_PX, SIZE_PX):
        raise InputError(
            f"{name} takes images of {SIZE_PX}x{SIZE_PX} px, got {height}x{width}: set "
            f"crop.height_px and crop.width_px to {SIZE_PX}"
        )


def build_mobilefacenet(
    name: str, *, embedding_size: int, weights: str, input_channels: int
) -> EmbeddingNetwork:
    """The network of the paper, its last 1x1 convolution and batch norm as the head.

    Args:
        name: ``"mobilefacenet"``.
        embedding_size: D; 128 in the paper.
        weights: ``"none"``; no ImageNet weights exist.
        input_channels: C.

    Returns:
        The network, for 112x112 px.

    Raises:
        ModelNotFoundError: ImageNet weights were requested.
    """
    backbone = MobileFaceNet(input_channels)
    require_no_imagenet(name, weights)
    head = nn.Sequential(
        nn.Linear(_FEATURES, embedding_size, bias=False), nn.BatchNorm1d(embedding_size)
    )
    return EmbeddingNetwork(backbone, head)
