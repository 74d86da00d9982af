"""IResNets, as ArcFace trains them (Deng et al., CVPR 2019; Duta et al., "Improved residual networks", 2020).

Names and shapes of the tensors are those of insightface's ``arcface_torch``, so that its files fit.
"""

from __future__ import annotations

from torch import Tensor, nn

from verifykit_training.encoders.mobilefacenet import require_size
from verifykit_training.encoders.network import EmbeddingNetwork
from verifykit_training.encoders.weights import Published, require_no_imagenet

BLOCKS = {"iresnet18": (2, 2, 2, 2), "iresnet50": (3, 4, 14, 3), "iresnet100": (3, 13, 30, 3)}
"""Residual blocks of each stage."""

PUBLISHED = Published(head=(("fc.", "fc."), ("features.", "features.")))

_WIDTHS = (64, 128, 256, 512)
_PLACES = 7 * 7


class _Block(nn.Module):
    """Batch norm first and last, PReLU between two convolutions, nothing after the sum."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.prelu = nn.PReLU(after)
        self.conv2 = nn.Conv2d(after, after, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.downsample: nn.Module | None = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', ceil(H / stride), ceil(W / stride))."""
        inner: Tensor = self.prelu(self.bn2(self.conv1(self.bn1(images))))
        inner = self.bn3(self.conv2(inner))
        return inner + (images if self.downsample is None else self.downsample(images))


class IResNet(nn.Module):
    """(N, C, 112, 112) to (N, 25088): every place of the last map."""

    def __init__(self, blocks: tuple[int, ...], input_channels: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(input_channels, _WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_WIDTHS[0])
        self.prelu = nn.PReLU(_WIDTHS[0])
        before = _WIDTHS[0]
        for number, (width, count) in enumerate(zip(_WIDTHS, blocks, strict=True), 1):
            stage = [_Block(before, width, 2), *(_Block(width, width, 1) for _ in range(count - 1))]
            self.add_module(f"layer{number}", nn.Sequential(*stage))
            before = width
        self.bn2 = nn.BatchNorm2d(before)
        self.dropout = nn.Dropout(dropout)

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, 25088)."""
        require_size("an iresnet", images)
        inner: Tensor = self.prelu(self.bn1(self.conv1(images)))
        for number in range(1, len(_WIDTHS) + 1):
            inner = self.get_submodule(f"layer{number}")(inner)
        features: Tensor = self.dropout(self.bn2(inner).flatten(1))
        return features


class _Head(nn.Module):
    """A linear layer and a batch norm whose factor is not trained, under ArcFace's names."""

    def __init__(self, features: int, embedding_size: int) -> None:
        super().__init__()
        self.fc = nn.Linear(features, embedding_size)
        self.features = nn.BatchNorm1d(embedding_size)
        self.features.weight.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        """(N, 25088) to (N, D)."""
        rows: Tensor = self.features(self.fc(features))
        return rows


def build_iresnet(
    name: str, *, embedding_size: int, weights: str, input_channels: int, dropout: float = 0.0
) -> EmbeddingNetwork:
    """``iresnet18``, ``iresnet50`` or ``iresnet100``.

    Args:
        name: Which.
        embedding_size: D; 512 in ArcFace's files.
        weights: ``"none"``; no ImageNet weights exist.
        input_channels: C.
        dropout: On the features, while training, in [0, 1).

    Returns:
        The network, for 112x112 px.

    Raises:
        ModelNotFoundError: ImageNet weights were requested.
    """
    backbone = IResNet(BLOCKS[name], input_channels, dropout)
    _start(backbone)
    require_no_imagenet(name, weights)
    return EmbeddingNetwork(backbone, _Head(_WIDTHS[-1] * _PLACES, embedding_size))


def _start(backbone: nn.Module) -> None:
    """Random weights, with residual branches that begin as zero, as those of ``resnet152`` do.

    ArcFace's own start (normal, deviation 0.1) overflows at 50 layers until batch norms have seen data.
    """
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if isinstance(module, _Block):
            nn.init.zeros_(module.bn3.weight)
