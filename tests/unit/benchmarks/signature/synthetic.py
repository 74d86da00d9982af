"""Signatures without images: writers of two sets as directions in a small space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.signature.data import Signatures

SIZE = 6


def synthetic_signatures(writers: int = 6, genuine: int = 8, forged: int = 5) -> Signatures:
    """Return writers of sets ``a`` and ``b`` in turn, with their images interleaved."""
    rows = [
        (f"{'ab'[w % 2]}/{w:02}", kind)
        for kind, count in ((False, genuine), (True, forged))
        for _ in range(count)
        for w in range(writers)
    ]
    subjects = np.array([name for name, _ in rows])
    return Signatures(
        tuple(Path(f"{i}.png") for i in range(len(rows))),
        subjects,
        np.array([kind for _, kind in rows]),
        np.array([name[0] for name in subjects]),
    )


def directions(signatures: Signatures, seed: int = 0) -> NDArray[np.float32]:
    """Return (N, 6) unit rows near a direction of the writer; forgeries are farther."""
    generator = np.random.default_rng(seed)
    own = {name: generator.normal(size=SIZE) for name in sorted(set(signatures.subjects.tolist()))}
    rows = np.array([own[name] for name in signatures.subjects.tolist()])
    rows += generator.normal(size=rows.shape) * np.where(signatures.forged, 1.0, 0.6)[:, None]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
