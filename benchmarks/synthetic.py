"""Random embeddings, and gallery entries made of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from verifykit.gallery import Entry
from verifykit.types import Embeddings

_BLOCK_ROWS = 1 << 16


def random_rows(count: int, size: int, seed: int) -> Embeddings:
    """Return (count, size) unit rows in random directions, generated block by block."""
    rows = np.empty((count, size), np.float32)
    rng = np.random.default_rng(seed)
    for start in range(0, count, _BLOCK_ROWS):
        shape = (min(_BLOCK_ROWS, count - start), size)
        block = rng.standard_normal(shape, dtype=np.float32)
        rows[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return rows


def entries(rows: Iterable[NDArray[np.float32]]) -> Iterator[Entry]:
    """Yield a subject with a single template for each row."""
    for number, row in enumerate(rows):
        yield Entry(f"s{number:07}", row[None], ((),), None)
