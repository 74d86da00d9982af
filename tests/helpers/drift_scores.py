"""A calibration of scores with a known distribution: normal, of mean 0 and standard deviation 0.1."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.helpers.model_specs import plain_spec
from verifykit.drift.evidence import Levels, shifted
from verifykit.gallery import MemoryGallery, open_gallery
from verifykit.spec import Evidence, ModelSpec, OperatingPoint
from verifykit.types import Template

SCORES = NormalDist(0.0, 0.1)
SIZE = 100


def calibrated_spec(*counts: int, **changes: Any) -> ModelSpec:
    """Return a model of 100 values, calibrated for single references, and for these numbers."""
    points = tuple(
        OperatingPoint(rate, SCORES.inv_cdf(1 - rate), 3_000_000, 30, reference_count=count)
        for count in counts or (1,)
        for rate in (1e-1, *(digit * 10.0**-power for power in range(2, 6) for digit in (5, 2, 1)))
    )
    evidence = tuple(
        Evidence("random_forgery", count, 30.0, -10.0, 0.1, 1000, 1000, 0.0)
        for count in counts or (1,)
    )
    values = {
        "embedding_size": SIZE,
        "golden_embedding": (1.0, *(0.0,) * (SIZE - 1)),
        "operating_points": points,
        "evidence": evidence,
        "fusion": "mean",
        **changes,
    }
    return plain_spec(**values)


def drawn(
    levels: Levels, ratio: float, probes: int, scores: int, seed: int = 0
) -> NDArray[np.float64]:
    """Return scores (probes, scores) under which the stated rate is so many times as high."""
    tail = float(shifted([levels.stated], levels.stated, ratio)[0])
    shift = SCORES.inv_cdf(1 - levels.stated) - SCORES.inv_cdf(1 - tail)
    return np.random.default_rng(seed).normal(shift, 0.1, (probes, scores))


def unit_rows(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Return random unit rows (count, 100): cosines have a standard deviation of 0.1."""
    rows = np.random.default_rng(seed).standard_normal((count, SIZE)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def filled(spec: ModelSpec, count: int, templates: int = 1, seed: int = 0) -> MemoryGallery:
    """Return a gallery of random subjects ``0000`` to ``count - 1``."""
    gallery = MemoryGallery(
        spec_digest=spec.digest, embedding_size=spec.embedding_size, fusion=spec.fusion
    )
    rows = unit_rows(count * templates, seed).reshape(count, templates, SIZE)
    for n, each in enumerate(rows):
        gallery.add(f"{n:04}", [Template(row, spec.digest) for row in each])
    return gallery


def fill_file(path: Path, spec: ModelSpec, count: int, near: float = 0.0) -> None:
    """Make a gallery file of random subjects ``0000`` to ``count - 1`` of any model.

    ``near`` is the cosine that they have with each other on average.
    """
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((count, spec.embedding_size))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    centre = rng.standard_normal(spec.embedding_size)
    rows = near**0.5 * centre / np.linalg.norm(centre) + (1 - near) ** 0.5 * rows
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    gallery = open_gallery(path, spec)
    for n, row in enumerate(rows.astype(np.float32)):
        gallery.add(f"{n:04}", [Template(row, spec.digest)])
    gallery.close()
