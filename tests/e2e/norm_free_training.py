"""``verifykit-train`` with one encoder more, without batch norm: its gradient is a sum over rows.

Run as a program, so that Fabric can start its other process the same way.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from verifykit_training import encoders
from verifykit_training.cli import main
from verifykit_training.encoders.network import EmbeddingNetwork


def _build(name: str, **options: Any) -> EmbeddingNetwork:
    backbone = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.Tanh(), nn.Conv2d(8, 8, 3), nn.Tanh(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(),
    )  # fmt: skip
    return EmbeddingNetwork(backbone, nn.Linear(32, options["embedding_size"]))


encoders._ENCODERS["norm_free"] = encoders._Entry(_build, 1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

if __name__ == "__main__":
    main()
