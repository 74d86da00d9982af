"""Measure how many faces in rotated images are found, and whether each is turned upright.

``python -m benchmarks.turned FOLDER``
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from verifykit.batch import find_images
from verifykit.encoder import Encoder
from verifykit.image import load_image
from verifykit.metrics import wilson_interval
from verifykit.modalities.face import FaceDetector
from verifykit.models import load
from verifykit.types import Image


def main() -> None:
    """Print what becomes of the largest face of an image, for each quarter turn of the image."""
    parser = argparse.ArgumentParser(prog="benchmarks.turned", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of upright images, with its subfolders")
    parser.add_argument("--limit", type=int, default=300, help="maximum number of images")
    options = parser.parse_args()
    detector = Encoder.open(load("face"), threads=2).extractor.detector
    assert isinstance(detector, FaceDetector)  # noqa: S101 - of the face model
    names = find_images(options.folder)
    names = [names[i] for i in np.random.default_rng(0).permutation(len(names))[: options.limit]]
    images = [load_image(options.folder / name) for name in names]
    print(f"{len(images)} images\nturned  found as it is  upright  refused  no face  wrong")
    for quarters in range(4):
        results = Counter(_result(detector, image, quarters) for image in images)
        as_it_is = sum(bool(detector.detect(_rotated(image, quarters))) for image in images)
        counts = (results[name] for name in ("upright", "refused", "no face", "wrong"))
        low, high = wilson_interval(results["upright"], len(images))
        upright, refused, missed, wrong = counts
        print(
            f"{90 * quarters:6}  {as_it_is:14}  {upright:7}  {refused:7}  {missed:7}  {wrong:5}  "
            f"upright {upright / len(images):.1%} ({low:.1%} to {high:.1%})"
        )


def _rotated(image: Image, quarters: int) -> Image:
    return np.ascontiguousarray(np.rot90(image, quarters))


def _result(detector: FaceDetector, image: Image, quarters: int) -> str:
    """Return what becomes of the largest face of a rotated image."""
    faces = detector.detect_turned(_rotated(image, quarters))
    if not faces:
        return "no face"
    if not faces[0].is_sure:
        return "refused"
    return "upright" if faces[0].turned_deg == -90 * quarters % 360 else "wrong"


if __name__ == "__main__":
    main()
