"""Measure images of many faces against the detection alone: ``python -m benchmarks.crowd``.

Mosaics of 1 to 400 faces from the portraits of the demo, or from the images of ``--faces FOLDER``;
interleaved rounds, medians of wall and processor time, each step's ratio to the detection in the same run.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

import verifykit as vk
from benchmarks.measure import Timing, time_interleaved
from demo.portraits import portraits
from verifykit.batch import find_images
from verifykit.encoder import Encoder
from verifykit.extraction import SampleOptions
from verifykit.image import load_image
from verifykit.modalities.face import FaceDetector
from verifykit.models import load
from verifykit.types import Image

COUNTS = (1, 25, 102, 400)
MARGIN = 1.5  # of the box's longer side
ALL = SampleOptions("all", "warn")


def heads(detector: FaceDetector, paths: list[Path]) -> list[Image]:
    """Return a square around the largest face of each image that shows one."""
    found = []
    for path in paths:
        image = load_image(path)
        for face in detector.detect(image)[:1]:
            left, top, width, height = face.box_px
            side = MARGIN * max(width, height)
            x, y = (max(0, round(c - side / 2)) for c in (left + width / 2, top + height / 2))
            found.append(image[y : y + round(side), x : x + round(side)])
    return found


def mosaic(faces: list[Image], count: int, side_px: int) -> Image:
    """Return ``count`` faces, in turn, in rows and columns of a square image."""
    columns = math.ceil(math.sqrt(count))
    cell_px = side_px // columns
    image = np.full((cell_px * columns, cell_px * columns, 3), 127, np.uint8)
    for number in range(count):
        row, column = divmod(number, columns)
        image[row * cell_px : (row + 1) * cell_px, column * cell_px : (column + 1) * cell_px] = (
            cv2.resize(faces[number % len(faces)], (cell_px, cell_px), interpolation=cv2.INTER_AREA)
        )
    return image


def measure(verifier: vk.Verifier, image: Image, rounds: int) -> tuple[int, dict[str, Timing]]:
    """Return the number of faces that are found, and the timings of every step."""
    encoder = verifier.encoder
    detector = encoder.extractor.detector
    assert isinstance(detector, FaceDetector)  # noqa: S101 - of the face model
    jobs = {
        "detection": lambda: detector.detect(image),
        "with rotations": lambda: detector.detect_turned(image),
        "extract": lambda: verifier.extract(image, multi_face="all", quality="warn"),
        "samples": lambda: encoder.extractor.samples(image, ALL),
        "templates": lambda: encoder.templates(image, ALL),
    }
    return len(detector.detect(image)), time_interleaved(jobs, rounds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.crowd", description=__doc__)
    parser.add_argument("--faces", type=Path, help="folder of images; by default the portraits")
    parser.add_argument("--side", type=int, default=1280, help="side of the mosaics in pixels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    encoder = Encoder.open(load("face"), providers="cpu", threads=arguments.threads)
    detector = encoder.extractor.detector
    assert isinstance(detector, FaceDetector)  # noqa: S101 - of the face model
    if arguments.faces:
        paths = [arguments.faces / name for name in find_images(arguments.faces)]
    else:
        paths = list(portraits().values())
    faces = heads(detector, paths[: max(COUNTS)])
    verifier = vk.Verifier(encoder)
    console = Console()
    table = Table(
        title=f"multi_face='all', max_faces={ALL.max_faces}, mosaics of {arguments.side} px: milliseconds of "
        f"wall time and of processor time, medians of {arguments.rounds} interleaved rounds"
    )
    for column in ("faces", "found", "step", "wall", "processor", "times the detection"):
        table.add_column(column, justify="right")
    for count in COUNTS:
        found, timed = measure(verifier, mosaic(faces, count, arguments.side), arguments.rounds)
        base = timed["detection"]
        for step, timing in timed.items():
            table.add_row(
                str(count),
                str(found),
                step,
                f"{timing.wall_ms:.1f}",
                f"{1e3 * timing.cpu_s:.1f}",
                f"{timing.wall_s / base.wall_s:.2f} wall, {timing.cpu_s / base.cpu_s:.2f} processor",
            )
    console.print(table)


if __name__ == "__main__":
    main()
