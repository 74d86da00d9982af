"""Speed of ``load_image`` against OpenCV's ``imread`` with the same files, in one run.

``python -m benchmarks.load``: a portrait as JPEG at three sizes. OpenCV neither refuses a file that
is cut short nor limits its size; what is compared is the way to the same RGB pixels.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as PilImage
from rich.console import Console
from rich.table import Table

from demo.portraits import portraits
from verifykit.image import load_image

SIZES_PX = ((250, 250), (900, 700), (3000, 4000))
ROUNDS = 15


def opencv(path: Path) -> np.ndarray:
    """The same pixels by OpenCV, which turns as EXIF says, too."""
    return cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def pillow(path: Path) -> np.ndarray:
    """The same pixels in the way that is found in most code."""
    with PilImage.open(path) as opened:
        return np.array(opened.convert("RGB"))


def times_ms(ways: list[Callable[[Path], np.ndarray]], path: Path) -> list[float]:
    """Median of each way, taken in turns so that a busy machine hits all alike."""
    taken: list[list[float]] = [[] for _ in ways]
    for _ in range(ROUNDS):
        for way, times in zip(ways, taken, strict=True):
            start = time.perf_counter()
            way(path)
            times.append((time.perf_counter() - start) * 1000)
    return [statistics.median(times) for times in taken]


def main() -> None:
    """Measure and print."""
    table = Table(
        "height x width", "load_image", "OpenCV", "Pillow", title="median ms (times OpenCV)"
    )
    with (
        PilImage.open(portraits()["person_b_1"]) as opened,
        tempfile.TemporaryDirectory() as folder,
    ):
        for height, width in SIZES_PX:
            path = Path(folder) / f"{height}.jpg"
            opened.convert("RGB").resize((width, height)).save(path, quality=92)
            spread = np.abs(load_image(path).astype(int) - opencv(path)).max()
            if spread > 3:
                raise AssertionError(f"the two differ by {spread} levels: not the same picture")
            ours, theirs, plain = times_ms([load_image, opencv, pillow], path)
            row = [f"{value:.2f} ({value / theirs:.2f})" for value in (ours, theirs, plain)]
            table.add_row(f"{height} x {width}", *row)
    Console().print(table)


if __name__ == "__main__":
    main()
