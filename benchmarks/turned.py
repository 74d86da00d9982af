"""Measure how many faces in rotated images are found, and how many of these are recognised as rotated.

``python -m benchmarks.turned FOLDER``
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


def main() -> None:
    """Print, for each quarter turn, the faces found, their highest score, and those recognised as turned."""
    parser = argparse.ArgumentParser(prog="benchmarks.turned", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of upright images, with its subfolders")
    parser.add_argument("--limit", type=int, default=400, help="maximum number of images")
    options = parser.parse_args()
    extractor = Encoder.open(load("face"), threads=2).extractor
    names = find_images(options.folder)
    names = [names[i] for i in np.random.default_rng(0).permutation(len(names))[: options.limit]]
    images = [load_image(options.folder / name) for name in names]
    print(f"{len(images)} images\nturned  found  highest score  recognised as turned")
    for quarters in range(4):
        results = [_detect(extractor, np.rot90(image, quarters)) for image in images]
        found = [result for result in results if result is not None]
        turned = sum(turned_deg != 0.0 for _, turned_deg in found)
        highest = max((score for score, _ in found), default=float("nan"))
        print(f"{90 * quarters:6}  {len(found):5}  {highest:13.3f}  {turned:20}")


def _detect(extractor: SampleExtractor, image: Image) -> tuple[float, float] | None:
    """Return the score of the largest face and its measured rotation; None without a face."""
    detector = extractor.detector
    if detector is None or not (faces := detector.detect(np.ascontiguousarray(image))):
        return None
    return faces[0].score, detector.turned_deg(np.ascontiguousarray(image), faces[0])


if __name__ == "__main__":
    main()
