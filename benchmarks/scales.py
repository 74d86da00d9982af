"""Measure what decoding JPEGs at a reduced scale changes.

``python -m benchmarks.scales --data PATH`` takes the development pairs of LFW and the frontal pairs of CFP,
enlarged so that it applies (``--side``), and prints recall, agreement of embeddings,
EER and FNMR at FMR 1e-3.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.face.data import FacePairs, add_data_argument, read_pairs
from verifykit.encoder import Encoder
from verifykit.errors import AcquisitionError
from verifykit.extraction import SampleOptions
from verifykit.image import load_image
from verifykit.metrics import SubjectBootstrap, equal_error_rate, fnmr_at_fmr
from verifykit.models import load
from verifykit.types import Detection, Image

ALL = SampleOptions("all", "warn", max_faces=1)  # whole, the largest too
Row = NDArray[np.float32]


class Found(NamedTuple):
    """An embedding with the face that it is of."""

    row: Row
    face: Detection


def read_frontal(data: Path) -> FacePairs:
    """Return the frontal pairs of CFP."""
    folder = data / "faces" / "cfp"
    with (folder / "pairs.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["protocol"] == "FF"]
    return FacePairs(
        tuple(folder / row["path_a"] for row in rows),
        tuple(folder / row["path_b"] for row in rows),
        np.array([row["same"] == "1" for row in rows]),
    )


def enlarged(path: Path, side_px: int) -> Image:
    """Return an image with a longer side of this many pixels."""
    image = load_image(path)
    scale = side_px / max(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def ways(encoder: Encoder) -> dict[str, Callable[[Image], Found | None]]:
    """Return by name how an image is embedded; None without a face."""

    def embedded(image: Image | bytes, options: SampleOptions) -> Found | None:
        try:
            (sample,) = encoder.extractor.samples(image, options)
        except AcquisitionError:
            return None
        assert sample.detection is not None  # noqa: S101 - faces are detected
        return Found(encoder.encode([sample.crop])[0], sample.detection)

    def reduced(image: Image, options: SampleOptions) -> Found | None:
        _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        return embedded(bytes(data), options)

    found: dict[str, Callable[[Image], Found | None]] = {
        "whole": lambda image: embedded(image, ALL),
        "reduced JPEG": lambda image: reduced(image, ALL),
    }
    return found


def report_rates(
    console: Console, name: str, rows: dict[str, dict[Path, Found | None]], pairs: FacePairs
) -> None:
    """Print the rates of every way on the pairs whose images are in ``rows``."""
    table = Table(title=name)
    columns = (
        "",
        "no face",
        "cosine to whole: median, 1 %, least",
        "EER",
        "FNMR at 1e-3",
        "at whole's threshold: FNMR, false matches",
    )
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    base = rows["whole"]
    subjects = sorted({path.parent.name for path in base})
    label = {subject: number for number, subject in enumerate(subjects)}
    # As with a gallery that was enrolled whole.
    both = [(way, each, each) for way, each in rows.items()]
    both += [(f"{way}, references at whole", each, base) for way, each in rows.items()][1:]
    fixed: float | None = None
    for way, each, references in both:
        cosines = [
            float(whole.row @ found.row)
            for path, found in each.items()
            if found is not None and (whole := base[path]) is not None
        ]
        scored = [
            (float(one.row @ other.row), mated, label[a.parent.name], label[b.parent.name])
            for a, b, mated in zip(pairs.probes, pairs.references, pairs.mated, strict=True)
            if (one := each.get(a)) is not None and (other := references.get(b)) is not None
        ]
        scores, mated, left, right = (np.array(column) for column in zip(*scored, strict=True))
        mated = mated.astype(bool)
        bootstrap = SubjectBootstrap(left[mated], right[mated], subjects=len(subjects))
        fnmr, threshold = fnmr_at_fmr(scores[mated], scores[~mated], 1e-3)
        low, high = bootstrap.interval(scores[mated] < threshold)
        eer = equal_error_rate(scores[mated], scores[~mated]).eer
        # A rate of one in a few hundred hangs on the highest non-mated score: one threshold for all, too.
        fixed = threshold if fixed is None else fixed
        false_matches = int((scores[~mated] >= fixed).sum())
        table.add_row(
            way,
            f"{sum(row is None for row in each.values())} of {len(each)}",
            f"{np.median(cosines):.5f}, {np.percentile(cosines, 1):.4f}, {min(cosines):.4f}",
            f"{eer:.4f}",
            f"{fnmr:.4f} ({low:.4f} to {high:.4f})",
            f"{(scores[mated] < fixed).mean():.4f}, {false_matches} of {(~mated).sum()}",
        )
    console.print(table)


def report_least(
    console: Console, rows: dict[str, dict[Path, Found | None]], count: int = 7
) -> None:
    """Print the images whose embeddings agree least, with the faces that they are of."""
    whole, other = rows.values()
    both = [(path, a, b) for path, a in whole.items() if a and (b := other[path])]
    table = Table(title="least cosines to whole")
    for column in (
        "image",
        "cosine",
        "eye distance, whole: px",
        "share of the boxes in common",
        "scores",
    ):
        table.add_column(column, justify="right", no_wrap=True)
    for path, a, b in sorted(both, key=lambda each: float(each[1].row @ each[2].row))[:count]:
        right, left = np.array(a.face.landmarks_px[:2])
        table.add_row(
            f"{path.parent.name}/{path.name}",
            f"{float(a.row @ b.row):.3f}",
            f"{np.hypot(*(right - left)):.0f}",
            f"{_share(a.face, b.face):.2f}",
            f"{a.face.score:.3f}, {b.face.score:.3f}",
        )
    console.print(table)


def _share(a: Detection, b: Detection) -> float:
    """Return the intersection over union of two boxes."""
    boxes = np.array([a.box_px, b.box_px])
    low, high = boxes[:, :2].max(axis=0), (boxes[:, :2] + boxes[:, 2:]).min(axis=0)
    shared = np.maximum(high - low, 0.0).prod()
    return float(shared / (boxes[:, 2:].prod(axis=1).sum() - shared))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.scales", description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--side", type=int, default=2600, help="longer side of the images")
    parser.add_argument("--limit", type=int, help="maximum number of pairs of each set")
    arguments = parser.parse_args()
    console = Console(width=190)
    encoder = Encoder.open(load("face"), providers="cpu", threads=1)
    sets = {"LFW, lfw_val": read_pairs(arguments.data), "CFP, FF": read_frontal(arguments.data)}
    for name, pairs in sets.items():
        step = max(1, len(pairs.mated) // (arguments.limit or len(pairs.mated)))
        taken = FacePairs(pairs.probes[::step], pairs.references[::step], pairs.mated[::step])
        by_way = ways(encoder)
        rows: dict[str, dict[Path, Found | None]] = {way: {} for way in by_way}
        for path in track(sorted({*taken.probes, *taken.references}), description=name):
            image = enlarged(path, arguments.side)
            for way, embed in by_way.items():
                rows[way][path] = embed(image)
        report_rates(console, f"{name}, {arguments.side} px, {len(taken.mated)} pairs", rows, taken)
        report_least(console, rows)


if __name__ == "__main__":
    main()
