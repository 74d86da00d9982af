"""Faces that lie or stand on their head: how many are found, and how many are told from upright ones.

python -m benchmarks.turned FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from verifykit.batch import find_images
from verifykit.encoder import Encoder
from verifykit.extraction import SampleExtractor
from verifykit.image import load_image
from verifykit.models import load
from verifykit.types import Image

__all__ = ["main"]


def main() -> None:
    """Print, for each quarter turn, faces found, their highest score, and those told to be turned."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path, help="upright pictures, searched with its subfolders")
    parser.add_argument("--limit", type=int, default=400, help="how many pictures at most")
    options = parser.parse_args()
    extractor = Encoder.open(load("face"), threads=2).extractor
    names = find_images(options.folder)
    names = [names[i] for i in np.random.default_rng(0).permutation(len(names))[: options.limit]]
    images = [load_image(options.folder / name) for name in names]
    print(f"{len(images)} pictures\nturned  found  highest score  told to be turned")
    for quarters in range(4):
        seen = [_look(extractor, np.rot90(image, quarters)) for image in images]
        found = [each for each in seen if each is not None]
        told = sum(turned_deg != 0.0 for _, turned_deg in found)
        highest = max((score for score, _ in found), default=float("nan"))
        print(f"{90 * quarters:6}  {len(found):5}  {highest:13.3f}  {told:17}")


def _look(extractor: SampleExtractor, image: Image) -> tuple[float, float] | None:
    """The score of the largest face, and how it lies by what was measured; None without a face."""
    detector = extractor.detector
    if detector is None or not (found := detector.detect(np.ascontiguousarray(image))):
        return None
    return found[0].score, detector.turned_deg(np.ascontiguousarray(image), found[0])


if __name__ == "__main__":
    main()
