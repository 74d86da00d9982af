"""A fake model of three lines: a picture's embedding is written in its first pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.unit.specs import plain_spec
from verifykit.encoder import Encoder
from verifykit.extraction import SampleExtractor
from verifykit.spec import ModelSpec
from verifykit.types import Embeddings, Image

__all__ = ["encode", "encoder", "picture"]


def encode(crops: Sequence[Image]) -> Embeddings:
    rows = np.array([[*crop[0, 0], 1.0] for crop in crops], dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def encoder(spec: ModelSpec | None = None) -> Encoder:
    spec = spec or plain_spec()
    return Encoder(spec, encode, SampleExtractor(spec.crop))


def picture(*color: int) -> Image:
    return np.full((8, 8, 3), color, dtype=np.uint8)
