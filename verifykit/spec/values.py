"""Values of the network's input as the model file states them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from verifykit.errors import ModelContractError

Color = Literal["rgb", "bgr", "grey"]


@dataclass(frozen=True)
class InputSpec:
    """Values of the network's input: ``(pixel * scale - mean) / std`` in the given channel order.

    Attributes:
        height_px: Rows of the input.
        width_px: Columns of the input.
        color: Channel order; ``"grey"`` is one channel (ITU-R BT.601 luma).
        scale: Factor applied to the uint8 values first, 1.0 keeps 0..255.
        mean: One value per channel, in the order of ``color``, after scaling.
        std: One value per channel, in the order of ``color``; never zero.
        mirror: Whether the embedding is the normalised mean over the crop and its mirror image.
    """

    height_px: int
    width_px: int
    color: Color
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mirror: bool = False

    def __post_init__(self) -> None:
        channels = 1 if self.color == "grey" else 3
        if len(self.mean) != channels or len(self.std) != channels:
            raise ModelContractError(
                f"input: {self.color} has {channels} channel(s), but mean has {len(self.mean)} "
                f"and std {len(self.std)} values"
            )
        if not all(math.isfinite(v) for v in (self.scale, *self.mean, *self.std)) or 0 in self.std:
            raise ModelContractError("input: scale, mean and std must be finite, and std not zero")
        require_positive("input", height_px=self.height_px, width_px=self.width_px)

    @property
    def channels(self) -> int:
        """Return the number of channels, 1 or 3."""
        return len(self.mean)


def require_positive(where: str, **sizes: int) -> None:
    """Raise :class:`ModelContractError` for the first size that is not positive."""
    for name, size in sizes.items():
        if size <= 0:
            raise ModelContractError(f"{where}: {name} must be positive, got {size}")
