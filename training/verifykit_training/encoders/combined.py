"""Encoders made of others, whose rows are concatenated: several encoders, or several views of an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

VIEWS = 4
"""An image as it is, mirrored from left to right, from top to bottom, and both."""


class JoinedEncoders(nn.Module):
    """The rows of several encoders as one unit row: a cosine of two is the mean of the encoders' cosines.

    Args:
        encoders: Each (N, C, H, W) to (N, D_i) unit rows.
    """

    def __init__(self, encoders: Sequence[nn.Module]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, sum of D_i) unit rows."""
        rows: Tensor = torch.cat([encoder(images) for encoder in self.encoders], dim=1)
        unit: Tensor = rows / len(self.encoders) ** 0.5
        return unit


class MirroredViews(nn.Module):
    """An encoder's embeddings of an image and its mirror images, one after the other.

    For an encoder that was trained with ``augmentation.hand.mirror``: to it a mirrored subject is another
    subject, so that it judges each view by other features, as other networks would. The cosine of two
    rows is the mean of the cosines of the four views.

    Args:
        encoder: (N, C, H, W) to (N, D) unit rows.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 4 D) unit rows."""
        views = torch.cat([images, images.flip(3), images.flip(2), images.flip(2, 3)])
        rows: Tensor = self.encoder(views)
        size = rows.shape[1]
        together = rows.reshape(VIEWS, -1, size).permute(1, 0, 2).reshape(-1, VIEWS * size)
        unit: Tensor = together / VIEWS**0.5
        return unit
