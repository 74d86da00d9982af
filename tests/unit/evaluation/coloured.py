"""People as colours: pictures of one colour each, and a model that sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.helpers.fake_encoder import encoder
from tests.helpers.model_specs import plain_spec
from verifykit.datasets import Dataset
from verifykit.evaluation.embedding import ModelEmbedder
from verifykit.evaluation.pairs import read_data
from verifykit.spec import ModelSpec

__all__ = ["SPEC", "embedder", "listed", "paint"]

SPEC = plain_spec(fusion="mean", operating_points=(), default_fmr=None)


def paint(
    folder: Path, subjects: int, images: int, forgeries: int = 0
) -> list[tuple[Path, str, bool]]:
    """(path, subject, is forgery) of pictures of one colour, each near its subject's."""
    random = np.random.default_rng(subjects)
    rows = []
    for subject in range(subjects):
        colour = random.uniform(40, 215, 3)
        for number in range(images + forgeries):
            forged = number >= images
            shade = (colour + random.normal(0, 30 if forged else 16, 3)).clip(0, 255)
            path = folder / f"s{subject}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((8, 8, 3), shade, np.uint8))
            rows.append((path, f"s{subject}", forged))
    return rows


def listed(folder: Path, rows: list[tuple[Path, str, bool]]) -> Dataset:
    """The same by way of a CSV file."""
    lines = [f"{path},{who},{'skilled_forgery' if forged else ''}" for path, who, forged in rows]
    (folder / "people.csv").write_text("\n".join(["path,subject,label", *lines]))
    return read_data(folder / "people.csv")


def embedder(spec: ModelSpec = SPEC, **options: Any) -> ModelEmbedder:
    return ModelEmbedder(encoder(spec), "mine.onnx", **options)
