"""A fake model: the embedding of an image is its first pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.helpers.model_specs import plain_spec
from verifykit.encoder import Encoder
from verifykit.extraction import SampleExtractor
from verifykit.spec import ModelSpec
from verifykit.types import Embeddings, Image


def encode(crops: Sequence[Image]) -> Embeddings:
    """Return unit rows of the crops' first pixels, (N, 4)."""
    rows = np.array([[*crop[0, 0], 1.0] for crop in crops], dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def encoder(spec: ModelSpec | None = None) -> Encoder:
    """Return an encoder that runs :func:`encode`."""
    spec = spec or plain_spec()
    return Encoder(spec, encode, SampleExtractor(spec.crop))


def solid_image(*color: int) -> Image:
    """Return an image of 8 x 8 pixels of one RGB color."""
    return np.full((8, 8, 3), color, dtype=np.uint8)
