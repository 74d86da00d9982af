"""Four looks at one image: as it is, mirrored from left to right, from top to bottom, and both."""

from __future__ import annotations

import torch
from torch import Tensor, nn

VIEWS = 4


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
