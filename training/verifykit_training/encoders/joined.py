"""Several encoders that look at the same image, their rows one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


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
