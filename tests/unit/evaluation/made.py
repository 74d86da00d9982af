"""Small pictures, and an embedder that tells them by their shade."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from verifykit.datasets import FaceChoice, LabelledImage
from verifykit.errors import AcquisitionError
from verifykit.image import load_image
from verifykit.spec import OperatingPoint
from verifykit.types import QualityGate

NO_FACE = 0


def touch(folder: Path, *names: str) -> Path:
    """Files without content, for readers that must not look into them."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def draw(folder: Path, shades: Iterable[int]) -> list[LabelledImage]:
    """One picture of 4 x 4 pixels for each shade, all of one subject."""
    images = []
    for number, shade in enumerate(shades):
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), np.full((4, 4, 3), shade, np.uint8))
        images.append(LabelledImage(path, path.name, "anna"))
    return images


def paint(folder: Path, shades: Mapping[str, int]) -> Path:
    """Pictures of 4 x 4 pixels by name; a shade below 0 is no image."""
    for name, shade in shades.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if shade < 0:
            path.write_text("no image")
        else:
            cv2.imwrite(str(path), np.full((4, 4, 3), shade, np.uint8))
    return folder


class ShadeEmbedder:
    model = name = digest = modality = licence = fusion = "shade"
    multi_face: FaceChoice = "error"
    quality: QualityGate = "strict"
    cache_key = "shade"
    operating_points: Sequence[OperatingPoint] = ()
    cohort = None
    calls = 0

    def embed(self, image: bytes) -> NDArray[np.float32]:
        self.calls += 1
        shade = int(load_image(image)[0, 0, 0])
        if shade == NO_FACE:
            raise AcquisitionError("no shade", reason="no_face")
        return self.vector(shade)

    @staticmethod
    def vector(shade: int) -> NDArray[np.float32]:
        return np.array([np.cos(shade / 255), np.sin(shade / 255)], np.float32)
